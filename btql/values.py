"""Equality, order and text of the values that a filter computes in memory.

A value is JSON or an aware UTC datetime. Equal means the same JSON type and the same value;
numbers are equal when their decimal notations are. `store.btql.compiler` follows the same
rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import TypeAlias

from spans.json import Json

Value: TypeAlias = "Json | datetime"
Row: TypeAlias = Mapping[str, Json]

# Below this a double holds every whole number exactly, so that Python's own comparison of an
# int with a float agrees with that of their decimal notations.
EXACT = 2**53
# The range of arithmetic: a result outside of it is null. It ends long before a double
# overflows or underflows, where Python and PostgreSQL differ.
LARGEST, SMALLEST = 1e150, 1e-150


def exact(number: int | float) -> int | float:
    """The number that a float's decimal notation shows: of 2.0**60, 1152921504606847000."""
    if number.__class__ is float and abs(number) >= EXACT:
        return int(Decimal(repr(number)))
    return number


def is_number(value: Value) -> bool:
    return value.__class__ is float or value.__class__ is int


def same(left: Value, right: Value) -> bool:
    """Equality of two values that are not null; different types are never equal."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float):
        return isinstance(right, int | float) and exact(left) == exact(right)
    if isinstance(left, list):
        return (
            isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
        )
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(value, right[key]) for key, value in left.items())
        )
    return left == right


def order(left: Value, right: Value) -> int | None:
    """-1, 0 or 1; None where the types differ or have no order (arrays, objects, null)."""
    if isinstance(left, bool) or isinstance(right, bool):
        if not (isinstance(left, bool) and isinstance(right, bool)):
            return None
        return (left > right) - (left < right)
    if isinstance(left, int | float) and isinstance(right, int | float):
        a, b = exact(left), exact(right)
        return (a > b) - (a < b)
    if isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return (left > right) - (left < right)
    return None


def double(value: Value) -> float | None:
    """A number as arithmetic takes it; None if it is no number, or out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return in_range(value)


def in_range(number: int | float) -> float | None:
    """The number, or None outside of the range of arithmetic."""
    if number == 0 or SMALLEST <= abs(number) <= LARGEST:
        return float(number)
    return None


def instant_text(instant: datetime) -> str:
    """ISO 8601 with milliseconds and Z, as the API writes every time."""
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def text_of(value: Value) -> str | None:
    """A value as LIKE, concat and to_string see it; None for null."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            plain = _notation(value)
            return plain.rstrip("0").rstrip(".") if "." in plain else plain
        case datetime():
            return instant_text(value)
        case _:
            return json_text(value)


def json_text(value: Json) -> str:
    """JSON as PostgreSQL writes jsonb: keys by length, then by bytes; ", " and ": " between."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return encode_basestring(value)
        case int() | float():
            return _notation(value)
        case list():
            return f"[{', '.join([json_text(item) for item in value])}]"
        case dict():
            keys = sorted(value, key=_by_length)
            pairs = [f"{encode_basestring(key)}: {json_text(value[key])}" for key in keys]
            return f"{{{', '.join(pairs)}}}"


def words_text(value: Value) -> str | None:
    """The text that MATCH searches: a string, or each string inside (no keys), one a line."""
    if not isinstance(value, list | dict):
        return text_of(value)
    found: list[str] = []
    waiting: list[Json] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
    return "\n".join(found)


def _by_length(key: str) -> tuple[int, bytes]:
    raw = key.encode()
    return len(raw), raw


def _notation(number: int | float) -> str:
    """Plain decimal notation, without an exponent."""
    text = repr(number)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removeprefix("-") if number == 0 else text
