"""The small functions that a compiled filter is made of.

Each function here takes readers of its operands and returns a function of the row. A reader
(`Read`) returns a value; a test (`Test`) returns true, false or null (None). None of them
raises, whatever JSON the row holds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from btql.text import like_test, lower_ascii
from btql.times import seconds_between, shift
from btql.tree import Comparison, Expr, Interval, Literal, LiteralKind, Path
from btql.values import EXACT, Row, Value, order, same, text_of, words_text
from spans.json import Json

Test: TypeAlias = Callable[[Row], "bool | None"]
Read: TypeAlias = Callable[[Row], Value]
ReadTime: TypeAlias = Callable[[Row], "datetime | None"]

_ORDERS: dict[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.LT: lt,
    Comparison.LE: le,
    Comparison.GT: gt,
    Comparison.GE: ge,
}


# Paths. A key reads objects only, an index arrays only; of other values they give null.


def read_path(path: Path) -> Read:
    column, keys = path.column, path.keys
    if not keys:
        return lambda row: row.get(column)
    if len(keys) == 1 and isinstance(keys[0], str):
        return _read_field(column, keys[0])

    def read(row: Row) -> Value:
        value = row.get(column)
        for key in keys:
            value = _step(value, key)
        return value

    return read


def _read_field(column: str, key: str) -> Read:
    def read(row: Row) -> Value:
        value = row.get(column)
        return value.get(key) if type(value) is dict else None

    return read


def _step(value: Json, key: str | int) -> Json:
    if isinstance(key, str):
        return value.get(key) if isinstance(value, dict) else None
    if isinstance(value, list) and -len(value) <= key < len(value):
        return value[key]
    return None


# Logic with three values, as in SQL: true, false and null.


def all_of(tests: list[Test]) -> Test:
    if len(tests) == 2:
        first, second = tests

        def both(row: Row) -> bool | None:
            left = first(row)
            if left is False:
                return False
            right = second(row)
            return right if left or right is False else None

        return both

    def every(row: Row) -> bool | None:
        result: bool | None = True
        for test in tests:
            value = test(row)
            if value is False:
                return False
            if value is None:
                result = None
        return result

    return every


def any_of(tests: list[Test]) -> Test:
    def some(row: Row) -> bool | None:
        result: bool | None = False
        for test in tests:
            value = test(row)
            if value:
                return True
            if value is None:
                result = None
        return result

    return some


def negation(test: Test) -> Test:
    def opposite(row: Row) -> bool | None:
        value = test(row)
        return None if value is None else not value

    return opposite


def as_test(read: Read) -> Test:
    def test(row: Row) -> bool | None:
        value = read(row)
        return value if value is True or value is False else None

    return test


# Comparisons.


def comparison_to_constant(
    op: Comparison, left: Expr, read: Read, right: Literal
) -> Test | None:
    """A faster test for a string or a number below 2**53, or None where there is none."""
    constant = right.json()
    if right.kind is LiteralKind.STRING and op in (Comparison.EQ, Comparison.IS):
        return _equals_string(left, read, str(constant), op)
    if op is Comparison.IS:
        return None
    if right.kind is LiteralKind.STRING:
        holds = _ORDERS[op]

        def compare_string(row: Row) -> bool | None:
            value = read(row)
            return holds(value, constant) if type(value) is str else None

        return compare_string
    if right.kind is not LiteralKind.NUMBER or abs(constant) >= EXACT:  # type: ignore[arg-type]
        return None
    return _compared_to_number(op, read, constant)


def _equals_string(left: Expr, read: Read, constant: str, op: Comparison) -> Test:
    if op is Comparison.IS:
        return lambda row: read(row) == constant
    if isinstance(left, Path) and len(left.keys) == 1 and isinstance(left.keys[0], str):
        column, key = left.column, left.keys[0]

        def field_equals(row: Row) -> bool | None:
            value = row.get(column)
            if type(value) is not dict:
                return None
            value = value.get(key)
            return None if value is None else value == constant

        return field_equals

    def equals(row: Row) -> bool | None:
        value = read(row)
        return None if value is None else value == constant

    return equals


def _compared_to_number(op: Comparison, read: Read, constant: Json) -> Test:
    if op is Comparison.EQ:

        def equals(row: Row) -> bool | None:
            value = read(row)
            if value is None:
                return None
            return value == constant and value is not True and value is not False

        return equals
    holds = _ORDERS[op]

    def compare(row: Row) -> bool | None:
        value = read(row)
        kind = type(value)
        return holds(value, constant) if kind is float or kind is int else None

    return compare


def comparison(op: Comparison, left: Read, right: Read) -> Test:
    if op is Comparison.IS:

        def is_same(row: Row) -> bool | None:
            a, b = left(row), right(row)
            return a is b if a is None or b is None else same(a, b)

        return is_same
    if op is Comparison.EQ:

        def equals(row: Row) -> bool | None:
            a, b = left(row), right(row)
            return None if a is None or b is None else same(a, b)

        return equals
    holds = _ORDERS[op]

    def compare(row: Row) -> bool | None:
        sign = order(left(row), right(row))
        return None if sign is None else holds(sign, 0)

    return compare


def among(read: Read, options: list[Value]) -> Test:
    """Whether the value, or an element of an array, is one of `options`.

    As in SQL, a value that is not found is null, not false, where the options hold a null.
    """
    absent = None if None in options else False
    values = [option for option in options if option is not None]
    strings = frozenset(option for option in values if isinstance(option, str))
    others = [option for option in values if not isinstance(option, str)]

    def is_listed(value: Value) -> bool:
        if type(value) is str:
            return value in strings
        return value is not None and any(same(value, other) for other in others)

    def is_among(row: Row) -> bool | None:
        value = read(row)
        if value is None:
            return None
        found = any(map(is_listed, value)) if type(value) is list else is_listed(value)
        return True if found else absent

    return is_among


def like(read: Read, pattern: str, *, ignore_case: bool) -> Test:
    fits = like_test(lower_ascii(pattern) if ignore_case else pattern)

    def is_like(row: Row) -> bool | None:
        value = read(row)
        text = value if type(value) is str else text_of(value)
        if text is None:
            return None
        return fits(lower_ascii(text) if ignore_case else text)

    return is_like


def matches(read: Read, has_words: Callable[[str], bool]) -> Test:
    def has_all(row: Row) -> bool | None:
        text = words_text(read(row))
        return None if text is None else has_words(lower_ascii(text))

    return has_all


def includes_string(read_haystack: Read, needle: str) -> Test:
    def holds_needle(row: Row) -> bool | None:
        haystack = read_haystack(row)
        if haystack is None:
            return None
        if type(haystack) is dict:
            return needle in haystack.values()
        return needle in haystack if type(haystack) is list else False

    return holds_needle


def includes(read_haystack: Read, read_needle: Read) -> Test:
    def holds_needle(row: Row) -> bool | None:
        haystack, needle = read_haystack(row), read_needle(row)
        if haystack is None or needle is None:
            return None
        if isinstance(haystack, dict):
            haystack = list(haystack.values())
        return isinstance(haystack, list) and any(
            item is not None and same(item, needle) for item in haystack
        )

    return holds_needle


# Times.


def time_shift(read: ReadTime, by: Interval, sign: int) -> Read:
    months, micros = sign * by.months, sign * by.micros

    def move(row: Row) -> Value:
        instant = read(row)
        return None if instant is None else shift(instant, months=months, micros=micros)

    return move


def time_difference(read_later: ReadTime, read_earlier: ReadTime) -> Read:
    def subtract(row: Row) -> Value:
        later, earlier = read_later(row), read_earlier(row)
        return None if later is None or earlier is None else seconds_between(later, earlier)

    return subtract
