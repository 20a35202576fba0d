"""What a child is sent: the program, and the records that it is to run on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import orjson

from scorers.sandbox.model import Isolation, Program
from spans.json import JsonObject

BATCH_RECORDS = 100
"""Of one child: it costs some 5 ms to make, and what it finished is lost if the jail dies."""

BATCH_BYTES = 4 * 1024 * 1024


def encode_record(record: JsonObject) -> bytes:
    """The record as JSON, also if it holds what the faster writer refuses (large integers)."""
    try:
        return orjson.dumps(record)
    except TypeError:
        return json.dumps(record).encode()


def request(program: Program, records: Sequence[bytes], *, folder: str | None) -> bytes:
    """The text of one order, as `runner.py` and `runner.cjs` read it.

    `folder` is where the program's bundle is seen inside, if it has one.
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
    """The records' places, cut into what one child gets: not too many, nor too large."""
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
