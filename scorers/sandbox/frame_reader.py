"""Splits the bytes that a child sent into frames, and checks each frame's answer.

The child shares its process with the scorer, so a frame may be forged: an answer proves only
that the scorer's process sent it.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass

import orjson

from scorers.sandbox.model import CodeEnd
from spans.json import Json

HEADER = struct.Struct(">III")
"""The header of a frame: bytes of log dropped, length of the log, length of the body.

`inside/frames.py` describes the whole frame."""

DEPTH_MAX = 32
INTEGER_MAX = 2**53
"""Largest integer. Many programs read numbers as doubles, which above this cannot tell
neighbouring integers apart."""

ENVELOPE_BYTES = 8 * 1024
"""Most bytes that a body may hold besides its result, such as an error's message."""

_ERRORS = {
    "exception": CodeEnd.ERROR,
    "memory": CodeEnd.ERROR,
    "invalid_source": CodeEnd.ERROR,
    "bad_result": CodeEnd.BAD_RESULT,
    "result_too_large": CodeEnd.RESULT_TOO_LARGE,
}
_DETAIL_CHARACTERS = 2048
# Control characters except line feed and tab, those that change the direction of writing, and
# lone surrogates.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One answer as it came, not yet checked. `at_s` is when it came (time.monotonic)."""

    body: bytes
    log: bytes
    dropped: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The checked content of a frame's body."""

    ended: CodeEnd
    value: Json = None
    detail: str = ""


def split(
    buffer: bytearray, *, result_bytes: int, log_bytes: int, now_s: float
) -> tuple[list[Frame], str | None]:
    """Remove all complete frames from the start of `buffer` and return them.

    The second value is None, or says that the next frame is too large; then nothing after it
    can be read. `now_s` becomes the frames' `at_s`.
    """
    frames: list[Frame] = []
    problem = None
    start = 0
    while len(buffer) - start >= HEADER.size:
        dropped, log, body = HEADER.unpack_from(buffer, start)
        if body > result_bytes + ENVELOPE_BYTES or log > log_bytes:
            problem = f"an answer of {body} bytes, with a log of {log}"
            break
        middle = start + HEADER.size + log
        end = middle + body
        if len(buffer) < end:
            break
        printed = bytes(buffer[middle - log : middle])
        frames.append(Frame(bytes(buffer[middle:end]), printed, dropped, now_s))
        start = end
    del buffer[:start]
    return frames, problem


def answer(body: bytes) -> Answer:
    """The answer in the body; BAD_RESULT if the runner cannot have written it. Never raises."""
    try:
        value = _parsed(body)
    except (ValueError, RecursionError) as error:
        return Answer(CodeEnd.BAD_RESULT, detail=f"what the scorer sent is no result: {error}")
    if isinstance(value, dict) and len(value) == 1:
        if "result" in value:
            return Answer(CodeEnd.OK, value["result"])
        told = value.get("error")
        if isinstance(told, dict) and told.keys() == {"kind", "message"}:
            kind, message = told["kind"], told["message"]
            if isinstance(kind, str) and kind in _ERRORS and isinstance(message, str):
                return Answer(_ERRORS[kind], detail=readable(message)[:_DETAIL_CHARACTERS])
    return Answer(CodeEnd.BAD_RESULT, detail="the scorer sent an answer of its own making")


def readable(text: str) -> str:
    r"""The text with control characters escaped (`\x1b`), so that it cannot forge log lines."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _parsed(body: bytes) -> Json:
    value: Json = orjson.loads(body)       # refuses NaN, bad UTF-8 and lone surrogates
    if _check(value, 1 + DEPTH_MAX):       # the envelope is the first level
        json.loads(body, parse_int=_small)
    return value


def _check(value: Json, depth: int) -> bool:
    """Raise ValueError if it cannot be stored. Return whether it may hold a large integer.

    The caller then parses the body again to find out: orjson turns integers beyond 64 bits into
    floats, so they cannot be told from floats here.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("it has a NUL character")
        return False
    if isinstance(value, int | float):
        return not -INTEGER_MAX <= value <= INTEGER_MAX
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"it is nested more than {DEPTH_MAX} deep")
        found = False
        if isinstance(value, dict):
            for name, each in value.items():
                _check(name, depth)
                found |= _check(each, depth - 1)
        else:
            for each in value:
                found |= _check(each, depth - 1)
        return found
    return False


def _small(text: str) -> int:
    if len(text) > len(str(INTEGER_MAX)) + 1 or abs(int(text)) > INTEGER_MAX:
        raise ValueError(f"an integer beyond 2**53: {text:.40}")
    return int(text)
