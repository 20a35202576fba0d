"""Reading a request's body: bounded as it is sent and as it inflates, then parsed."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from flows.logs.limits import TooLarge
from spans.errors import BadInput
from spans.json import Json, JsonObject

READ_TIMEOUT_S = 30.0
ENCODINGS = {"gzip": 31, "deflate": 47}
"""zlib's window bits: gzip's own frame; for deflate zlib's, found by its head."""


class UnknownEncoding(BadInput):
    """A Content-Encoding or Content-Type that we do not speak; answered with 415."""


class TooSlow(BadInput):
    """A body that did not come in time; answered with 408."""


async def read_body(request: Request, *, sent_max: int, inflated_max: int) -> bytes:
    """The body, inflated.

    Raises TooLarge before reading if the length is announced, else as soon as it is passed:
    100 kB of gzip can hold 100 MB.
    """
    _check_type(request.headers.get("content-type", ""))
    inflate = _inflater(request.headers.get("content-encoding", ""))
    sent = await read_sent(request, sent_max, timeout_s=READ_TIMEOUT_S)
    return sent if inflate is None else _inflated(sent, inflate, inflated_max)


async def read_sent(request: Request, sent_max: int, *, timeout_s: float) -> bytes:
    """The body as it was sent. Raises TooLarge, TooSlow."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > sent_max:
        raise TooLarge(f"the body has {announced} bytes, more than {sent_max}")
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, sent_max)
    except TimeoutError as error:
        raise TooSlow(f"the body did not come within {timeout_s:g} s") from error
    except ClientDisconnect as error:
        raise BadInput("the client went away before its body was whole") from error


def parse_object(body: bytes) -> JsonObject:
    """The JSON object that the body is. Raises BadInput with the position."""
    if not body:
        raise BadInput("the body is empty; a JSON object is expected")
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput("the body is a JSON object")
    return value


def parse_leniently(body: bytes) -> JsonObject:
    """As parse_object, for clients that drop a whole batch after an error: half of a pair of
    surrogates (text cut inside an emoji) becomes U+FFFD, and a number that is none is left to
    the check of its row."""
    try:
        return parse_object(body)
    except BadInput:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise
        return {name: _whole(item) for name, item in value.items()}


def _whole(value: Any) -> Json:  # noqa: ANN401 what the parser gives
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {str(_whole(name)): _whole(item) for name, item in value.items()}
    return value  # type: ignore[no-any-return]  # a number, true, false or null


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
    """SDKs name no type at all, others JSON; a form or a file is a mistake."""
    name = content_type.partition(";")[0].strip().lower()
    if name not in {"", "application/json"} and not name.endswith("+json"):
        raise UnknownEncoding(f"Content-Type {name[:60]!r}; send application/json, or none")


def _inflater(encoding: str) -> int | None:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name not in ENCODINGS:
        raise UnknownEncoding(f"Content-Encoding {name[:40]!r}; send gzip, deflate or none")
    return ENCODINGS[name]


def _inflated(sent: bytes, window_bits: int, inflated_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    rest = sent
    try:
        while rest:   # gzip allows several members, one after another
            inflater = zlib.decompressobj(window_bits)
            piece = inflater.decompress(rest, inflated_max - size + 1)
            size += len(piece)
            if size > inflated_max:
                raise TooLarge(f"the body inflates to more than {inflated_max} bytes")
            if not inflater.eof:
                raise BadInput("the compressed body is cut short")
            pieces.append(piece)
            rest = inflater.unused_data
    except zlib.error as error:
        raise BadInput(f"the body is not well compressed: {error}") from error
    return b"".join(pieces)
