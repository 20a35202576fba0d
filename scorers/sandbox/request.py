"""Encodes the request that a child gets: the program, and the records to run it on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import orjson

from scorers.sandbox.model import Isolation, Program
from spans.json import JsonObject

BATCH_RECORDS = 100
"""Most records of one child. A child takes about 5 ms to make, which speaks for many records;
but if its jail dies, all that it finished is lost."""

BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes of one child's records as JSON. A single larger record gets its own child."""


def encode_record(record: JsonObject) -> bytes:
    """The record as JSON. json writes the large integers that the faster orjson refuses."""
    try:
        return orjson.dumps(record)
    except TypeError:
        return json.dumps(record).encode()


def request(program: Program, records: Sequence[bytes], *, folder: str | None) -> bytes:
    """The request of one order, as `runner.py` and `runner.cjs` read it.

    `folder` is the path of the program's bundle in the jail, if it has one.
    """
    head = orjson.dumps(
        {
            "code": program.code,
            "bundle": program.bundle,
            "folder": folder,
            "index": program.index,
            "parameters": program.parameters,
            "models": program.models,
            "result_bytes": program.limits.result_bytes,
            "log_bytes": program.limits.log_bytes,
        }
    )
    return b'{"program":%b,"records":[%b]}' % (head, b",".join(records))


def batches(program: Program, records: Sequence[bytes]) -> Iterator[range]:
    """The indexes of the records, split into batches that one child each runs."""
    most = 1 if program.isolation is Isolation.RECORD else BATCH_RECORDS
    start = size = 0
    for place, record in enumerate(records):
        is_full = place - start == most or size + len(record) > BATCH_BYTES
        if place > start and is_full:
            yield range(start, place)
            start, size = place, 0
        size += len(record)
    if records:
        yield range(start, len(records))
