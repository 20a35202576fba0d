"""Compiles the filter tree to SQL over the table `span`, with the meaning of `btql.closure`.

Every constant, key and pattern is a bound parameter. A value takes one of three forms: jsonb
(SQL's null for JSON's), boolean, or a timestamp in UTC. Where plain SQL would raise an error
for some rows, a function `btql_...` of the migrations gives null instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Integer,
    Text,
    and_,
    any_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, array
from sqlalchemy.types import TypeEngine

from btql.checks import kind_of, period_of
from btql.closure import compile_value, version_of
from btql.kinds import Kind
from btql.paths import paths_read
from btql.text import escape_like, word_pattern
from btql.times import MICROS_OF, as_instant
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
from btql.values import Value, text_of
from spans.json import Json
from store.btql.columns import (
    Sql,
    created_column,
    is_json,
    is_null_column,
    is_plain,
    json_constant,
    json_constants,
    json_path,
    text_column,
    time_constant,
)
from store.btql.compare import comparison, created_comparison, json_comparison, text_comparison
from store.postgres.tables import shown_span

_MIRRORED = {
    Comparison.LT: Comparison.GT,
    Comparison.LE: Comparison.GE,
    Comparison.GT: Comparison.LT,
    Comparison.GE: Comparison.LE,
}


def filter_clause(
    expr: Expr, *, now: datetime, tz_offset: int = 0, org_id: str | None = None
) -> ColumnElement[bool]:
    """The condition, for a WHERE over `store.postgres.tables.span`, that `expr` is true.

    `now` is an aware instant, `tz_offset` the minutes that local time is behind UTC, `org_id`
    the value of that column in every row.
    """
    return SqlCompiler(now=now, tz_offset=tz_offset, org_id=org_id).condition(expr)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlCompiler:
    """Compiles the expressions of one query. Its fields are what no row says by itself."""

    now: datetime
    tz_offset: int
    org_id: str | None

    def condition(self, expr: Expr) -> Sql:  # noqa: C901 - one case for each kind of node
        """The expression as a boolean. A value that is neither true nor false is null."""
        if not paths_read(expr):
            return _truth(self._constant(expr))
        match expr:
            case And(children=children):
                return and_(*map(self.condition, children))
            case Or(children=children):
                return or_(*map(self.condition, children))
            case Not(item=item):
                return not_(self.condition(item))
            case Compare():
                return self._compare(expr)
            case In():
                return self._among(expr)
            case Like() | Match() | Includes():
                return self._search(expr)
            case IsNull(item=item):
                return self._is_null(item)
            case Path(column="is_root"):
                return shown_span.c.is_root
            case Call(name="to_boolean", args=args):
                return func.btql_to_boolean(self.json(args[0]), type_=Boolean)
            case _:
                return _json_truth(self.json(expr))

    def json(self, expr: Expr) -> Sql:
        """The expression as jsonb. A time is its text."""
        kind = kind_of(expr)
        if not paths_read(expr):
            value = self._constant(expr)
            return json_constant(text_of(value) if isinstance(value, datetime) else value)
        if kind is Kind.TIME:
            return func.to_jsonb(self.text(expr), type_=JSONB)
        match expr:
            case Path() if is_json(expr):
                return json_path(expr)
            case Path() if kind is Kind.TEXT:
                return func.to_jsonb(self.text(expr), type_=JSONB)
            case Arithmetic():
                return self._arithmetic(expr)
            case If():
                whens = [
                    (self.condition(one.condition), self.json(one.result))
                    for one in expr.branches
                ]
                return case(*whens, else_=self.json(expr.otherwise))
            case Call() if expr.name != "to_boolean":
                return self._call(expr)
            case _:
                return func.to_jsonb(self.condition(expr), type_=JSONB)

    def text(self, expr: Expr) -> Sql:
        """The expression as the text that LIKE and to_string() see."""
        if not paths_read(expr):
            return cast(literal(text_of(self._constant(expr)), Text), Text)
        if kind_of(expr) is Kind.TIME:
            return func.btql_time_text(self.time(expr), type_=Text)
        if isinstance(expr, Path) and not is_json(expr) and kind_of(expr) is Kind.TEXT:
            return text_column(expr.column, org_id=self.org_id)
        return func.btql_text(self.json(expr), type_=Text)

    def time(self, expr: Expr) -> Sql:
        """The expression as a timestamp in UTC. A string is parsed."""
        if not paths_read(expr):
            return time_constant(as_instant(self._constant(expr)))
        if kind_of(expr) is not Kind.TIME:
            return func.btql_time(self.json(expr), type_=DateTime)
        match expr:
            case Arithmetic(op=op, left=left, right=right):
                if isinstance(left, Interval):
                    return _shifted(self.time(right), left, 1)
                assert isinstance(right, Interval)  # noqa: S101 - what makes it a time
                return _shifted(self.time(left), right, -1 if op is Operation.SUB else 1)
            case If():
                whens = [
                    (self.condition(one.condition), self.time(one.result))
                    for one in expr.branches
                ]
                return case(*whens, else_=self.time(expr.otherwise))
            case Call():
                return self._time_call(expr)
            case _:
                return created_column()

    def _constant(self, expr: Expr) -> Value:
        """The value of an expression that reads no column, computed by its closure."""
        return compile_value(expr, now=lambda: self.now, tz_offset=self.tz_offset)({})

    def _compare(self, expr: Compare) -> Sql:
        op, left, right = expr.op, expr.left, expr.right
        if Kind.TIME in (kind_of(left), kind_of(right)):
            return self._compare_times(op, left, right)
        if isinstance(right, Literal):
            quick = self._compare_quickly(op, left, right)
            if quick is not None:
                return quick
        a, b = self.json(left), self.json(right)
        if op is Comparison.EQ:
            return a == b
        if op is Comparison.IS:
            return a.is_not_distinct_from(b)
        return comparison(op, func.btql_order(a, b, type_=Integer), literal(0, Integer))

    def _compare_times(self, op: Comparison, left: Expr, right: Expr) -> Sql:
        if left == Path(column="created") and not paths_read(right):
            return created_comparison(op, as_instant(self._constant(right)))
        if right == Path(column="created") and not paths_read(left):
            mirrored = _MIRRORED.get(op, op)
            return created_comparison(mirrored, as_instant(self._constant(left)))
        return comparison(op, self.time(left), self.time(right))

    def _compare_quickly(self, op: Comparison, left: Expr, right: Literal) -> Sql | None:
        """The comparison with a constant in plain SQL; None where that means another thing."""
        if kind_of(left) is Kind.BOOLEAN and right.kind is LiteralKind.BOOLEAN:
            equal = op in (Comparison.EQ, Comparison.IS)
            # NOT binds looser than the comparison; the cast puts it in parentheses.
            truth = cast(self.condition(left), Boolean)
            return comparison(op, truth, _truth(right.json())) if equal else None
        if kind_of(left) is Kind.NUMBER and right.kind is LiteralKind.NUMBER:
            return comparison(op, self.json(left), json_constant(right.json()))
        if not isinstance(left, Path):
            return None
        constant = right.json()
        if is_json(left):
            return json_comparison(op, json_path(left), constant, right.kind)
        if left.column == "_xact_id":
            version = version_of(right)
            return (
                None
                if version is None
                else comparison(op, shown_span.c.xact, literal(version, BigInteger))
            )
        if kind_of(left) is not Kind.TEXT or not isinstance(constant, str):
            return None
        return text_comparison(op, left.column, self.text(left), constant)

    def _among(self, expr: In) -> Sql:
        options = [option.json() for option in expr.options]
        listed: list[Json] = [option for option in options if option is not None]
        found = self._listed(expr.item, expr.options, listed)
        return case((found, true())) if None in options else found

    def _listed(self, item: Expr, literals: tuple[Literal, ...], options: list[Json]) -> Sql:
        if kind_of(item) is Kind.TIME:
            instants = [time_constant(as_instant(one)) for one in options]
            time = self.time(item)
            return case(
                (time.is_(None), null()), else_=or_(false(), *(time == one for one in instants))
            )
        if isinstance(item, Path) and is_plain(item):
            strings = [one for one in options if isinstance(one, str)]
            return shown_span.c[item.column] == any_(literal(strings, ARRAY(Text)))
        if item == Path(column="_xact_id"):
            versions = [version_of(one) for one in literals]
            if None not in versions:
                return shown_span.c.xact == any_(literal(versions, ARRAY(BigInteger)))
        value, constants = self.json(item), json_constants(options)
        listed: Sql = func.btql_listed(value, constants, type_=Boolean)
        if not isinstance(item, Path) or not options:
            return listed
        strings = [one for one in options if isinstance(one, str)]
        if len(strings) == len(options):
            listed = value.op("?|", is_comparison=True)(literal(strings, ARRAY(Text)))
        is_array = func.jsonb_typeof(value) == "array"
        return case((is_array, listed), else_=value == any_(constants))

    def _search(self, expr: Like | Match | Includes) -> Sql:
        match expr:
            case Like(item=item, pattern=pattern, ignore_case=ignore_case):
                shown = self.text(item).collate("C")
                bound = literal(escape_like(pattern), Text)
                return shown.ilike(bound) if ignore_case else shown.like(bound)
            case Match(item=item, words=words):
                wanted = literal(list(words), ARRAY(Text))
                patterns = literal([word_pattern(word) for word in words], ARRAY(Text))
                value = self.json(item)
                return func.btql_has_words(value, wanted, patterns, type_=Boolean)
            case Includes(
                haystack=Path() as path, needle=Literal(kind=LiteralKind.STRING) as needle
            ):
                return _includes_string(self.json(path), self.json(needle), str(needle.value))
            case Includes(haystack=haystack, needle=needle):
                return func.btql_includes(self.json(haystack), self.json(needle), type_=Boolean)

    def _is_null(self, item: Expr) -> Sql:
        if kind_of(item) is Kind.TIME:
            return self.time(item).is_(None)
        if isinstance(item, Path) and is_json(item) and not item.keys:
            return is_null_column(item.column)
        if isinstance(item, Path) and kind_of(item) is Kind.TEXT:
            return self.text(item).is_(None)
        return self.json(item).is_(None)

    def _arithmetic(self, expr: Arithmetic) -> Sql:
        left, right = expr.left, expr.right
        if Kind.TIME in (kind_of(left), kind_of(right)):
            return func.btql_seconds(self.time(left), self.time(right), type_=JSONB)
        operation = literal(expr.op.value, Text)
        return func.btql_calculate(operation, self.json(left), self.json(right), type_=JSONB)

    def _call(self, expr: Call) -> Sql:
        name, args = expr.name, expr.args
        if name == "json_extract":
            key = literal(str(self._constant(args[1])), Text)
            return func.btql_extract(self.json(args[0]), key, type_=JSONB)
        if name in ("concat", "to_string"):
            texts = [self.text(arg) for arg in args]
            joined = texts[0] if name == "to_string" else func.concat(*texts)
            return func.to_jsonb(cast(joined, Text), type_=JSONB)
        values = [self.json(arg) for arg in args]
        match name:
            case "lower" | "upper":
                fold = func.lower if name == "lower" else func.upper
                is_string = func.jsonb_typeof(values[0]) == "string"
                text = fold(func.btql_text(values[0], type_=Text).collate("C"))
                return case((is_string, func.to_jsonb(text, type_=JSONB)))
            case "least" | "greatest":
                sign = literal(1 if name == "greatest" else -1, Integer)
                return func.btql_extreme(array(values, type_=JSONB), sign, type_=JSONB)
            case "coalesce" | "nullif":
                return _function(name, *values, type_=JSONB)
            case "round":
                digits = values[1] if len(values) > 1 else json_constant(0)
                return func.btql_round(values[0], digits, type_=JSONB)
            case "len":
                return func.btql_length(values[0], type_=JSONB)
            case _:
                return _function(f"btql_{name}", values[0], type_=JSONB)

    def _time_call(self, expr: Call) -> Sql:
        name, args = expr.name, expr.args
        if name == "date_trunc":
            unit, count = period_of(args[0])
            return self._truncated(self.time(args[1]), unit, count)
        if name in ("to_datetime", "to_date"):
            found = self.time(args[0])
            if kind_of(args[0]) is not Kind.TIME:
                found = func.btql_to_datetime(self.json(args[0]), type_=DateTime)
            return found if name == "to_datetime" else self._truncated(found, Unit.DAY, 1)
        # coalesce, nullif, least, greatest
        return _function(name, *map(self.time, args), type_=DateTime)

    def _truncated(self, time: Sql, unit: Unit, count: int) -> Sql:
        size = literal(MICROS_OF.get(unit, 0) * count, BigInteger)
        behind = literal(self.tz_offset, Integer)
        return func.btql_truncate(time, literal(unit.value, Text), size, behind, type_=DateTime)


def _includes_string(haystack: Sql, needle: Sql, text: str) -> Sql:
    """INCLUDES of a string. For an object the operator `?` would test keys, not values."""
    kind = func.jsonb_typeof(haystack)
    has_element = haystack.op("?", is_comparison=True)(literal(text, Text))
    has_value = func.btql_includes(haystack, needle, type_=Boolean)
    return case(
        (kind == "array", has_element),
        (kind == "object", has_value),
        (kind.is_not(None), false()),
    )


def _function(name: str, *args: Sql, type_: type[TypeEngine[Any]]) -> Sql:
    """A call of the SQL function `name`, which never comes from a user's text."""
    call: Sql = getattr(func, name)(*args, type_=type_)
    return call


def _truth(value: Value) -> Sql:
    if value is True:
        return true()
    return false() if value is False else cast(null(), Boolean)


def _json_truth(value: Sql) -> Sql:
    truths = {text: json_constant(text == "true") for text in ("true", "false")}
    return case((value == truths["true"], true()), (value == truths["false"], false()))


def _shifted(time: Sql, by: Interval, sign: int) -> Sql:
    months = literal(sign * by.months, Integer)
    micros = literal(sign * by.micros, BigInteger)
    return func.btql_shift(time, months, micros, type_=DateTime)
