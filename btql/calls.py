"""What the functions and the arithmetic of the language compute from values in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from math import trunc

import orjson

from btql.text import lower_ascii, upper_ascii
from btql.times import read_instant, unix_instant
from btql.tree import Operation
from btql.values import Value, double, in_range, is_number, order, same, text_of
from spans.json import Json

# A string that reads as a number: in decimal or exponent notation, and short enough for
# PostgreSQL's type numeric.
NUMBER = re.compile(r"[+-]?([0-9]{1,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
MOST_ROUND_DIGITS = 15  # decimal digits that a double always keeps
_WIDE = Context(prec=400)  # digits of any number within the range of arithmetic


def add(left: Value, right: Value) -> Value:
    a, b = double(left), double(right)
    return None if a is None or b is None else in_range(a + b)


def subtract(left: Value, right: Value) -> Value:
    a, b = double(left), double(right)
    return None if a is None or b is None else in_range(a - b)


def multiply(left: Value, right: Value) -> Value:
    a, b = double(left), double(right)
    return None if a is None or b is None else in_range(a * b)


def divide(left: Value, right: Value) -> Value:
    """The quotient; null for a division by zero."""
    a, b = double(left), double(right)
    return None if a is None or not b else in_range(a / b)


def remainder(left: Value, right: Value) -> Value:
    """The remainder of a division, with the sign of `left`, as in SQL; null if `right` is 0."""
    a, b = double(left), double(right)
    return None if a is None or not b else in_range(a - float(trunc(a / b)) * b)


def lower(value: Value) -> Value:
    return lower_ascii(value) if isinstance(value, str) else None


def upper(value: Value) -> Value:
    return upper_ascii(value) if isinstance(value, str) else None


def concat(*values: Value) -> Value:
    """The texts of all values, joined; null adds nothing."""
    return "".join(text_of(value) or "" for value in values)


def length(value: Value) -> Value:
    """How many elements an array has, keys an object, characters a string; else null."""
    return len(value) if isinstance(value, list | dict | str) else None


def json_extract(value: Value, key: Value) -> Value:
    """The value at `key` of an object, or of a string that holds one as JSON."""
    if isinstance(value, str):
        value = _read_json(value)
    return value.get(str(key)) if isinstance(value, dict) else None


def coalesce(*values: Value) -> Value:
    return next((value for value in values if value is not None), None)


def nullif(left: Value, right: Value) -> Value:
    if left is None or right is None:
        return left
    return None if same(left, right) else left


def least(*values: Value) -> Value:
    return _extreme(values, -1)


def greatest(*values: Value) -> Value:
    return _extreme(values, 1)


def round_number(value: Value, digits: Value = 0) -> Value:
    """The number rounded to `digits` decimal places, halves away from zero.

    What is rounded is the decimal notation: round(2.675, 2) is 2.68. Null unless `digits` is a
    whole number from -15 to 15.
    """
    number, places = double(value), double(digits)
    if number is None or places is None or places != trunc(places):
        return None
    if abs(places) > MOST_ROUND_DIGITS:
        return None
    unit = Decimal(1).scaleb(-int(places))
    return float(Decimal(repr(number)).quantize(unit, ROUND_HALF_UP, _WIDE))


def to_boolean(value: Value) -> Value:
    """A boolean itself, 'true' or 'false' in any case, a number (0 is false); else null."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(lower_ascii(value))
    if isinstance(value, bool):
        return value
    return value != 0 if is_number(value) else None


def to_number(value: Value) -> Value:
    """A number itself, a string that reads as one, a boolean as 1 or 0; else null."""
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value if is_number(value) else None
    if not NUMBER.fullmatch(value):
        return None
    number = Decimal(value)
    if number == number.to_integral_value(context=_WIDE) and abs(number) < 2**63:
        return int(number)
    return in_range(float(number)) if float(number) != float("inf") else None


def to_integer(value: Value) -> Value:
    """The number that `to_number` gives, cut towards zero; null beyond 64 bits."""
    number = to_number(value)
    if not isinstance(number, int | float):
        return None
    whole = int(Decimal(repr(number)))
    return whole if abs(whole) < 2**63 else None


def to_datetime(value: Value) -> Value:
    """A time itself, a string that reads as one, a number of unix seconds; else null."""
    if isinstance(value, str):
        return read_instant(value)
    seconds = double(value)
    if seconds is not None:
        return unix_instant(seconds)
    return None if isinstance(value, bool | list | dict | int | float) else value


CALLS: dict[str, Callable[..., Value]] = {
    Operation.ADD: add,
    Operation.SUB: subtract,
    Operation.MUL: multiply,
    Operation.DIV: divide,
    Operation.MOD: remainder,
    "lower": lower,
    "upper": upper,
    "concat": concat,
    "len": length,
    "json_extract": json_extract,
    "coalesce": coalesce,
    "nullif": nullif,
    "least": least,
    "greatest": greatest,
    "round": round_number,
    "to_string": text_of,
    "to_boolean": to_boolean,
    "to_integer": to_integer,
    "to_number": to_number,
    "to_datetime": to_datetime,
}


def _extreme(values: tuple[Value, ...], wanted: int) -> Value:
    """The greatest value (`wanted` 1) or the least (-1); null where two have no order."""
    best: Value = None
    for value in values:
        if value is None:
            continue
        sign = order(value, value if best is None else best)
        if sign is None:
            return None
        if best is None or sign == wanted:
            best = value
    return best


def _read_json(text: str) -> Json:
    try:
        found: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    # PostgreSQL's jsonb refuses a document with the character NUL anywhere in it.
    return None if "\\u0000" in text and _has_nul(found) else found


def _has_nul(value: Json) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return False
