"""Reads JSON text that a strict parser refuses, because it holds what JSON does not know.

Python's own `json.dumps` writes NaN, infinite numbers and halves of surrogate pairs. Integers
beyond 64 bits are JSON, but a strict parser makes floats of them. Programs that put JSON
together themselves leave line breaks in strings, write Latin-1, or a byte order mark in front.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from spans.json import Json, JsonObject
from spans.repair.faults import Unreadable, Unstorable

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
"""What is kept as an integer: the same as by the strict parser."""

INTEGER_CHARS_MAX = 20
"""Characters of the longest such integer. Python refuses to read those of some thousands."""


def read_tolerantly(body: bytes) -> Json:
    """The value in a JSON text. A number that cannot be kept exactly becomes Unstorable.

    Halves of surrogate pairs stay in strings and keys, and a byte that is not UTF-8 becomes
    one. Raises ValueError, and RecursionError for a text that is nested as deeply as Python's
    stack allows.
    """
    text = body.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
    return _DECODER.decode(text)   # type: ignore[no-any-return]


def _integer(text: str) -> int | Unstorable:
    if len(text) <= INTEGER_CHARS_MAX and INTEGER_MIN <= (number := int(text)) <= INTEGER_MAX:
        return number
    return Unstorable(text)


def _float(text: str) -> float | Unstorable:
    number = float(text)
    return number if math.isfinite(number) else Unstorable(text)


def read_rows_apart(body: bytes, name: str) -> JsonObject | None:
    """The object of a body that no parser reads as a whole, with each row of `name` read alone.

    A row that cannot be read becomes Unreadable; the others are read tolerantly, also what is
    no object. None if the body is not an object with a list `name`, or has very many brackets
    and strings.
    """
    parts = _parts(body, name)
    if parts is None:
        return None
    start, end, rows = parts
    try:
        rest = read_tolerantly(body[:start] + b"[]" + body[end:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(rest, dict):
        return None
    items = _items(body, start, end, rows)
    return {**rest, name: [_read_row(body[first:last]) for first, last in items]}


def _items(
    body: bytes, start: int, end: int, rows: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Where each item of a list is: its rows, and what stands between them but commas."""
    before = start + 1
    for first, last in (*rows, (end - 1, end)):
        if body[before:first].strip(b" \t\r\n,"):
            yield before, first
        if last < end:
            yield first, last
        before = last


def _read_row(text: bytes) -> Json:
    text = text.strip(b" \t\r\n,")
    try:
        return read_tolerantly(text)
    except RecursionError:
        return Unreadable(text, "nested too deep to be read", _names(text))
    except ValueError as error:
        return Unreadable(text, f"not valid JSON: {error}", _names(text))


def _names(text: bytes) -> JsonObject:
    """The plain strings among the outermost fields of a row that name it."""
    names: JsonObject = {}
    depth, key, after_key = 0, b"", 0
    for token in _TOKENS.finditer(text):
        if text[token.start()] != _QUOTE:
            depth += 1 if token[0] in {b"[", b"{"} else -1
        elif depth == 1:
            is_value = text[after_key : token.start()].strip() == b":"
            if is_value and key in NAMES and token[0].isascii() and b"\\" not in token[0]:
                names[key.decode()] = token[0][1:-1].decode()
            key, after_key = token[0][1:-1], token.end()
    return names


def _parts(body: bytes, name: str) -> tuple[int, int, list[tuple[int, int]]] | None:
    """Where the list `name` of the outermost object is, and each object in it."""
    key = b'"%b"' % name.encode()
    depth, is_key, start, first = 0, False, -1, 0
    rows: list[tuple[int, int]] = []
    for token in islice(_TOKENS.finditer(body), TOKENS_MAX):
        sign = body[token.start()]
        if sign == _QUOTE:
            is_key = depth == 1 and token[0] == key
        elif sign in b"[{":
            depth += 1
            if depth == 2 and is_key and sign == _LIST:
                start = token.start()
            elif depth == 3:
                first = token.start()
            is_key = False
        else:
            depth -= 1
            if depth == 2 and start >= 0:
                rows.append((first, token.end()))
            elif depth == 1 and start >= 0:
                return start, token.end(), rows
    return None


NAMES = frozenset({b"id", b"span_id", b"project_id"})

TOKENS_MAX = 500_000
"""Brackets and strings of a body that are looked at: a quarter of a second's work, and more
than an SDK's batch of 6 MB has."""

_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_QUOTE, _LIST = b'"['

_DECODER = json.JSONDecoder(
    parse_int=_integer, parse_float=_float, parse_constant=Unstorable,
    strict=False,   # a line break or tab may stand in a string
)
