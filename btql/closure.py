"""Compiles a tree to a Python function, which matching calls for each span that comes in.

    passes = compile_filter(parse_filter("metadata.env = 'prod'"))
    passes({"metadata": {"env": "prod"}})   # True
    passes({"metadata": {}})                # None: metadata.env is null

Each node becomes a small function of the row. It is chosen by what is known before any row is
seen (the shape of a path, the type of a constant), so that little is decided for each row.
A compiled filter never raises, whatever JSON the row holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from btql.calls import CALLS
from btql.checks import common_kind_of, is_null, kind_of, period_of
from btql.kinds import Kind
from btql.predicates import (
    Read,
    ReadTime,
    Test,
    all_of,
    among,
    any_of,
    as_test,
    comparison,
    comparison_to_constant,
    includes,
    includes_string,
    like,
    matches,
    negation,
    read_path,
    time_difference,
    time_shift,
)
from btql.text import word_test
from btql.times import as_instant, as_seconds, read_instant, truncate
from btql.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
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
from btql.values import Row, Value, text_of
from spans.clock import Clock, system_clock
from spans.ids import LARGEST_XACT, read_xact


def compile_filter(
    expr: Expr, *, now: Clock | None = None, tz_offset: int = 0
) -> Callable[[Row], bool | None]:
    """A function that takes a row, as the API writes it, and returns True, False or None.

    `now` is the clock of now(), by default the machine's. `tz_offset` is how many minutes local
    time is behind UTC, for current_date() and date_trunc().
    """
    return _Compiler(now or system_clock, tz_offset).test(expr)


def compile_value(
    expr: Expr, *, now: Clock | None = None, tz_offset: int = 0
) -> Callable[[Row], Value]:
    """A function that takes a row and returns the value of `expr`: JSON, or a datetime."""
    return _Compiler(now or system_clock, tz_offset).read(expr)


@dataclass(frozen=True, slots=True)
class _Compiler:
    """Compiles the nodes of one expression."""

    now: Clock
    tz_offset: int

    def test(self, expr: Expr) -> Test:
        """The expression as a condition. A value that is not true or false counts as null."""
        match expr:
            case And(children=children):
                return all_of([self.test(child) for child in children])
            case Or(children=children):
                return any_of([self.test(child) for child in children])
            case Not(item=item):
                return negation(self.test(item))
            case Compare():
                return self._compare(expr)
            case In():
                return self._among(expr)
            case Like() | Match() | Includes() | IsNull():
                return self._predicate(expr)
            case _:
                return as_test(self.read(expr))

    def read(self, expr: Expr) -> Read:
        """The expression as a value. It is a datetime only where the kind is TIME."""
        match expr:
            case Literal():
                constant = expr.json()
                return lambda _row: constant
            case Path():
                return self.time(expr) if kind_of(expr) is Kind.TIME else read_path(expr)
            case Arithmetic():
                return self._arithmetic(expr)
            case If():
                return self._choice(expr)
            case Call():
                return self._call(expr)
            case Interval():
                seconds = as_seconds(expr)
                return lambda _row: seconds
            case _:
                return self.test(expr)

    def time(self, expr: Expr) -> ReadTime:
        """The expression as a time. A string is parsed; a value of another type is null."""
        if isinstance(expr, Literal):
            instant = as_instant(expr.json())
            return lambda _row: instant
        read = read_path(expr) if isinstance(expr, Path) else self.read(expr)
        return lambda row: as_instant(read(row))

    def _compare(self, expr: Compare) -> Test:
        op, left, right = expr.op, expr.left, expr.right
        if Kind.TIME in (kind_of(left), kind_of(right)):
            return comparison(op, self.time(left), self.time(right))
        if left == Path(column="_xact_id") and isinstance(right, Literal):
            version = version_of(right)
            if version is not None:
                return comparison(op, _read_version, lambda _row: version)
        if isinstance(right, Literal) and not is_null(right):
            quick = comparison_to_constant(op, left, self.read(left), right)
            if quick is not None:
                return quick
        return comparison(op, self.read(left), self.read(right))

    def _among(self, expr: In) -> Test:
        options: list[Value] = [option.json() for option in expr.options]
        if kind_of(expr.item) is Kind.TIME:
            instants = [read_instant(str(one)) for one in options if one is not None]
            return among(
                self.read(expr.item), [*instants, *([None] if None in options else [])]
            )
        if expr.item == Path(column="_xact_id"):
            versions = [version_of(option) for option in expr.options]
            if None not in versions:
                return among(_read_version, list(versions))
        return among(self.read(expr.item), options)

    def _predicate(self, expr: Like | Match | Includes | IsNull) -> Test:
        match expr:
            case Like(item=item, pattern=pattern, ignore_case=ignore_case):
                return like(self.read(item), pattern, ignore_case=ignore_case)
            case Match(item=item, words=words):
                return matches(self.read(item), word_test(words))
            case Includes(haystack=haystack, needle=Literal(kind=LiteralKind.STRING) as needle):
                return includes_string(self._json(haystack), str(needle.value))
            case Includes(haystack=haystack, needle=needle):
                return includes(self._json(haystack), self._json(needle))
            case IsNull(item=item):
                read = self.read(item)
                return lambda row: read(row) is None

    def _json(self, expr: Expr) -> Read:
        """The expression as JSON: what `read` gives, with a time as its text."""
        read = self.read(expr)
        if kind_of(expr) is not Kind.TIME:
            return read
        return lambda row: text_of(read(row))

    def _arithmetic(self, expr: Arithmetic) -> Read:
        kinds = (kind_of(expr.left), kind_of(expr.right))
        if isinstance(expr.right, Interval):
            sign = -1 if expr.op is Operation.SUB else 1
            return time_shift(self.time(expr.left), expr.right, sign)
        if isinstance(expr.left, Interval):
            return time_shift(self.time(expr.right), expr.left, 1)
        if Kind.TIME in kinds:
            return time_difference(self.time(expr.left), self.time(expr.right))
        calculate, left, right = CALLS[expr.op], self.read(expr.left), self.read(expr.right)
        return lambda row: calculate(left(row), right(row))

    def _choice(self, expr: If) -> Read:
        results = [*(branch.result for branch in expr.branches), expr.otherwise]
        as_time = common_kind_of(results) is Kind.TIME
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
            return lambda _row: now()
        if expr.name == "current_date":
            return self._truncated(lambda _row: self.now(), Unit.DAY, 1)
        if expr.name == "date_trunc":
            unit, count = period_of(expr.args[0])
            return self._truncated(self.time(expr.args[1]), unit, count)
        if expr.name == "to_date":
            return self._truncated(_to_datetime(self.read(expr.args[0])), Unit.DAY, 1)
        if expr.name == "to_datetime":
            return _to_datetime(self.read(expr.args[0]))
        as_time = kind_of(expr) is Kind.TIME
        reads: list[Read] = [
            self.time(arg) if as_time else self._json(arg) for arg in expr.args
        ]
        function = CALLS[expr.name]
        if len(reads) == 1:
            only = reads[0]
            return lambda row: function(only(row))
        return lambda row: function(*[read(row) for read in reads])

    def _truncated(self, read: ReadTime, unit: Unit, count: int) -> Read:
        tz_offset = self.tz_offset

        def cut(row: Row) -> Value:
            instant = read(row)
            return (
                None if instant is None else truncate(instant, unit, count, tz_offset=tz_offset)
            )

        return cut


def version_of(literal: Literal) -> int | None:
    """The version that a constant beside `_xact_id` names, or None if it names none."""
    value = literal.json()
    if isinstance(value, str):
        return read_xact(value)
    return value if type(value) is int and 0 <= value <= LARGEST_XACT else None


def _read_version(row: Row) -> Value:
    value = row.get("_xact_id")
    return int(value) if isinstance(value, str) and value.isdigit() else None


def _to_datetime(read: Read) -> ReadTime:
    to_datetime = CALLS["to_datetime"]
    return lambda row: as_instant(to_datetime(read(row)))
