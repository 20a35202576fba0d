"""Tree to closure: a filter that is asked once for each span that comes in.

Each node becomes a small function of the row, chosen by what is known before any row is
seen: the shape of a path, the type of a constant. A filter never raises for a row of JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from btql.calls import CALLS
from btql.checks import is_null, kind_of, period_of, unified_kind
from btql.columns import COLUMNS
from btql.kinds import Kind
from btql.text import like_test, lower_ascii, word_test
from btql.times import as_instant, as_seconds, read_instant, seconds_between, shift, truncate
from btql.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    Comparison,
    Expr,
    If,
    In,
    Includes,
    Interval,
    IsNull,
    Like,
    Literal,
    LiteralKind,
    Match,
    Not,
    Operation,
    Or,
    Path,
    Unit,
)
from btql.values import EXACT, Row, Value, order, same, text_of, words_text
from spans.clock import Clock, system_clock
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


def compile_filter(
    expr: Expr, *, now: Clock | None = None, tz_offset: int = 0
) -> Callable[[Row], bool | None]:
    """A function from a row, as the API writes it, to true, false or null (None).

    `now` is what now() asks, the machine's clock if none is given; `tz_offset` is how many
    minutes local time is behind UTC, for current_date() and date_trunc().
    """
    return _Compiler(now or system_clock, tz_offset).test(expr)


def compile_value(
    expr: Expr, *, now: Clock | None = None, tz_offset: int = 0
) -> Callable[[Row], Value]:
    """A function from a row to the value of `expr`: JSON, or a datetime for a time."""
    return _Compiler(now or system_clock, tz_offset).read(expr)


@dataclass(frozen=True, slots=True)
class _Compiler:
    now: Clock
    tz_offset: int

    def test(self, expr: Expr) -> Test:
        """The expression as a condition; what is neither true nor false is null."""
        match expr:
            case And(children=children):
                return _all_of([self.test(child) for child in children])
            case Or(children=children):
                return _any_of([self.test(child) for child in children])
            case Not(item=item):
                return _negated(self.test(item))
            case Compare():
                return self._compare(expr)
            case In():
                return self._among(expr)
            case Like() | Match() | Includes() | IsNull():
                return self._predicate(expr)
            case _:
                return _as_test(self.read(expr))

    def read(self, expr: Expr) -> Read:
        """The expression as a value; a time only where its kind is TIME."""
        match expr:
            case Literal():
                constant = expr.json()
                return lambda row: constant
            case Path():
                return self.time(expr) if kind_of(expr) is Kind.TIME else _read_path(expr)
            case Arithmetic():
                return self._arithmetic(expr)
            case If():
                return self._choice(expr)
            case Call():
                return self._call(expr)
            case Interval():
                seconds = as_seconds(expr)
                return lambda row: seconds
            case _:
                return self.test(expr)

    def time(self, expr: Expr) -> ReadTime:
        """The expression as a time: a string is read as one, anything else is null."""
        if isinstance(expr, Literal):
            instant = as_instant(expr.json())
            return lambda row: instant
        read = _read_path(expr) if isinstance(expr, Path) else self.read(expr)
        return lambda row: as_instant(read(row))

    def _compare(self, expr: Compare) -> Test:
        op, left, right = expr.op, expr.left, expr.right
        if Kind.TIME in (kind_of(left), kind_of(right)):
            return _times_compared(op, self.time(left), self.time(right))
        if left == Path(column="_xact_id") and isinstance(right, Literal):
            version = version_of(right)
            if version is not None:
                return _compared(op, _read_version, lambda row: version)
        if isinstance(right, Literal) and not is_null(right):
            quick = _compared_to_constant(op, left, self.read(left), right)
            if quick is not None:
                return quick
        return _compared(op, self.read(left), self.read(right))

    def _among(self, expr: In) -> Test:
        options: list[Value] = [option.json() for option in expr.options]
        if kind_of(expr.item) is Kind.TIME:
            instants = [read_instant(str(one)) for one in options if one is not None]
            return _among(self.read(expr.item), [*instants, *([None] if None in options else [])])
        if expr.item == Path(column="_xact_id"):
            versions = [version_of(option) for option in expr.options]
            if None not in versions:
                return _among(_read_version, list(versions))
        return _among(self.read(expr.item), options)

    def _predicate(self, expr: Like | Match | Includes | IsNull) -> Test:
        match expr:
            case Like(item=item, pattern=pattern, ignore_case=ignore_case):
                return _like(self.read(item), pattern, ignore_case=ignore_case)
            case Match(item=item, words=words):
                return _matches(self.read(item), word_test(words))
            case Includes(haystack=haystack, needle=needle):
                return _includes(self._json(haystack), self._json(needle))
            case IsNull(item=item):
                read = self.read(item)
                return lambda row: read(row) is None

    def _json(self, expr: Expr) -> Read:
        """As `read`, with a time as its text."""
        read = self.read(expr)
        if kind_of(expr) is not Kind.TIME:
            return read
        return lambda row: text_of(read(row))

    def _arithmetic(self, expr: Arithmetic) -> Read:
        kinds = (kind_of(expr.left), kind_of(expr.right))
        if isinstance(expr.right, Interval):
            sign = -1 if expr.op is Operation.SUB else 1
            return _shifted(self.time(expr.left), expr.right, sign)
        if isinstance(expr.left, Interval):
            return _shifted(self.time(expr.right), expr.left, 1)
        if Kind.TIME in kinds:
            return _difference(self.time(expr.left), self.time(expr.right))
        calculate, left, right = CALLS[expr.op], self.read(expr.left), self.read(expr.right)
        return lambda row: calculate(left(row), right(row))

    def _choice(self, expr: If) -> Read:
        results = [*(branch.result for branch in expr.branches), expr.otherwise]
        as_time = unified_kind(results) is Kind.TIME
        reads: list[Read] = [self.time(one) if as_time else self.read(one) for one in results]
        tests = [self.test(branch.condition) for branch in expr.branches]
        cases, otherwise = list(zip(tests, reads, strict=False)), reads[-1]

        def choose(row: Row) -> Value:
            for test, read in cases:
                if test(row):
                    return read(row)
            return otherwise(row)

        return choose

    def _call(self, expr: Call) -> Read:
        if expr.name == "now":
            now = self.now
            return lambda row: now()
        if expr.name == "current_date":
            return self._truncated(lambda row: self.now(), Unit.DAY, 1)
        if expr.name == "date_trunc":
            unit, count = period_of(expr.args[0])
            return self._truncated(self.time(expr.args[1]), unit, count)
        if expr.name == "to_date":
            return self._truncated(_to_datetime(self.read(expr.args[0])), Unit.DAY, 1)
        if expr.name == "to_datetime":
            return _to_datetime(self.read(expr.args[0]))
        as_time = kind_of(expr) is Kind.TIME
        reads: list[Read] = [self.time(arg) if as_time else self._json(arg) for arg in expr.args]
        function = CALLS[expr.name]
        if len(reads) == 1:
            only = reads[0]
            return lambda row: function(only(row))
        return lambda row: function(*[read(row) for read in reads])

    def _truncated(self, read: ReadTime, unit: Unit, count: int) -> Read:
        tz_offset = self.tz_offset

        def cut(row: Row) -> Value:
            instant = read(row)
            return None if instant is None else truncate(instant, unit, count, tz_offset=tz_offset)

        return cut


def version_of(literal: Literal) -> int | None:
    """The number that a constant beside `_xact_id` stands for, if it stands for one."""
    value = literal.json()
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


def _read_version(row: Row) -> Value:
    value = row.get("_xact_id")
    return int(value) if isinstance(value, str) and value.isdigit() else None


def _to_datetime(read: Read) -> ReadTime:
    to_datetime = CALLS["to_datetime"]
    return lambda row: as_instant(to_datetime(read(row)))


# Paths. A key looks into objects only, an index into arrays only; the rest is null.


def _read_path(path: Path) -> Read:
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


# Logic in three values.


def _all_of(tests: list[Test]) -> Test:
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


def _any_of(tests: list[Test]) -> Test:
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


def _negated(test: Test) -> Test:
    def negated(row: Row) -> bool | None:
        value = test(row)
        return None if value is None else not value

    return negated


def _as_test(read: Read) -> Test:
    def test(row: Row) -> bool | None:
        value = read(row)
        return value if value is True or value is False else None

    return test


# Comparisons.


def _compared_to_constant(
    op: Comparison, left: Expr, read: Read, right: Literal
) -> Test | None:
    """The short way for strings and everyday numbers, or None."""
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


def _compared(op: Comparison, left: Read, right: Read) -> Test:
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


def _times_compared(op: Comparison, left: ReadTime, right: ReadTime) -> Test:
    return _compared(op, left, right)


def _among(read: Read, options: list[Value]) -> Test:
    """Membership; a null among the options makes what is not found null."""
    absent = None if None in options else False
    values = [option for option in options if option is not None]
    strings = frozenset(option for option in values if isinstance(option, str))
    others = [option for option in values if not isinstance(option, str)]

    def is_listed(value: Value) -> bool:
        if type(value) is str:
            return value in strings
        return value is not None and any(same(value, other) for other in others)

    def among(row: Row) -> bool | None:
        value = read(row)
        if value is None:
            return None
        found = any(map(is_listed, value)) if type(value) is list else is_listed(value)
        return True if found else absent

    return among


def _like(read: Read, pattern: str, *, ignore_case: bool) -> Test:
    fits = like_test(lower_ascii(pattern) if ignore_case else pattern)

    def like(row: Row) -> bool | None:
        text = text_of(read(row))
        if text is None:
            return None
        return fits(lower_ascii(text) if ignore_case else text)

    return like


def _matches(read: Read, has_words: Callable[[str], bool]) -> Test:
    def matches(row: Row) -> bool | None:
        text = words_text(read(row))
        return None if text is None else has_words(lower_ascii(text))

    return matches


def _includes(read_haystack: Read, read_needle: Read) -> Test:
    def includes(row: Row) -> bool | None:
        haystack, needle = read_haystack(row), read_needle(row)
        if haystack is None or needle is None:
            return None
        if isinstance(haystack, dict):
            haystack = list(haystack.values())
        return isinstance(haystack, list) and any(
            item is not None and same(item, needle) for item in haystack
        )

    return includes


# Times.


def _shifted(read: ReadTime, by: Interval, sign: int) -> Read:
    months, micros = sign * by.months, sign * by.micros

    def shifted(row: Row) -> Value:
        instant = read(row)
        return None if instant is None else shift(instant, months=months, micros=micros)

    return shifted


def _difference(read_later: ReadTime, read_earlier: ReadTime) -> Read:
    def difference(row: Row) -> Value:
        later, earlier = read_later(row), read_earlier(row)
        return None if later is None or earlier is None else seconds_between(later, earlier)

    return difference
