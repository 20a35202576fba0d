"""Reads the bodies of requests: limits their size and time, inflates and parses them."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from flows.logs.limits import TooLarge
from spans.errors import BadInput
from spans.json import JsonObject
from spans.repair.json_text import read_rows_apart, read_tolerantly

READ_TIMEOUT_S = 30.0
"""How long a client may take to send a body of at most TALLYARD_BODY_BYTES_MAX (20 MiB)."""

ENCODINGS = {"gzip": 31, "deflate": 47}
"""The `wbits` argument of zlib: 31 reads gzip only, 47 detects gzip or zlib by the header."""


class UnknownEncoding(BadInput):
    """A Content-Encoding or Content-Type is not supported. The API answers with status 415."""


class TooSlow(BadInput):
    """A body did not arrive in time. The API answers with status 408."""


async def read_body(request: Request, *, sent_max: int, inflated_max: int) -> bytes:
    """The body of a request, inflated.

    `sent_max` limits its size as sent, `inflated_max` its size after decompression, because
    100 kB of gzip can hold 100 MB. Raises TooLarge as soon as a limit is exceeded, and
    UnknownEncoding, TooSlow, and BadInput for a body that cannot be inflated.
    """
    _check_type(request.headers.get("content-type", ""))
    inflate = _inflater(request.headers.get("content-encoding", ""))
    sent = await read_sent(request, sent_max, timeout_s=READ_TIMEOUT_S)
    return sent if inflate is None else _inflated(sent, inflate, inflated_max)


async def read_sent(request: Request, sent_max: int, *, timeout_s: float) -> bytes:
    """The body as it was sent, of at most `sent_max` bytes.

    Raises TooLarge (before it reads the body, if its length is announced), TooSlow after
    `timeout_s` seconds, and BadInput if the client disconnects.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > sent_max:
        raise TooLarge(f"the body has {announced} bytes, more than {sent_max}")
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, sent_max)
    except TimeoutError as error:
        raise TooSlow(f"the body did not arrive within {timeout_s:g} s") from error
    except ClientDisconnect as error:
        raise BadInput("the client disconnected before it had sent the whole body") from error


def parse_object(body: bytes) -> JsonObject:
    """The JSON object in the body. Raises BadInput, with the position of the error."""
    if not body:
        raise BadInput("the body is empty; send a JSON object")
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput("the body must be a JSON object")
    return value


def parse_to_refuse(body: bytes) -> tuple[JsonObject, BadInput | None]:
    """The JSON object in the body, and the error of a body that is not valid JSON.

    Such a body is read by `read_tolerantly`, so that the caller can say which value is wrong,
    and is to be refused in any case. Raises that error if it cannot be read at all.
    """
    try:
        return parse_object(body), None
    except BadInput as error:
        try:
            value = read_tolerantly(body)
        except (ValueError, RecursionError):
            raise error from None
        if not isinstance(value, dict):
            raise
        return value, error


def parse_leniently(body: bytes, name: str) -> tuple[JsonObject, bool]:
    """The JSON object in the body, and whether a strict parser refuses it.

    For clients that would drop a whole batch after an error. What the strict parser refuses is
    read by `read_tolerantly`, and mended row by row. If one of the rows in the list `name`
    cannot be read at all, it is Unreadable, and the others are read. Raises BadInput if that is
    impossible, too.
    """
    try:
        return parse_object(body), False
    except BadInput:
        try:
            value = read_tolerantly(body)
        except (ValueError, RecursionError):
            value = read_rows_apart(body, name)
        if not isinstance(value, dict):
            raise
        return value, True


async def _read(request: Request, sent_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > sent_max:
            raise TooLarge(f"the body has more than {sent_max} bytes")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_type(content_type: str) -> None:
    """Raises UnknownEncoding for a form or a file. SDKs send no type, other clients JSON."""
    name = content_type.partition(";")[0].strip().lower()
    if name not in {"", "application/json"} and not name.endswith("+json"):
        raise UnknownEncoding(
            f"Content-Type {name[:60]!r} is not supported; send application/json, or none"
        )


def _inflater(encoding: str) -> int | None:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name not in ENCODINGS:
        raise UnknownEncoding(
            f"Content-Encoding {name[:40]!r} is not supported; send gzip, deflate or none"
        )
    return ENCODINGS[name]


def _inflated(sent: bytes, window_bits: int, inflated_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    rest = sent
    try:
        while rest:   # a gzip file may consist of several members
            inflater = zlib.decompressobj(window_bits)
            piece = inflater.decompress(rest, inflated_max - size + 1)
            size += len(piece)
            if size > inflated_max:
                raise TooLarge(f"the body inflates to more than {inflated_max} bytes")
            if not inflater.eof:
                raise BadInput("the compressed body is incomplete")
            pieces.append(piece)
            rest = inflater.unused_data
    except zlib.error as error:
        raise BadInput(f"the body cannot be decompressed: {error}") from error
    return b"".join(pieces)
