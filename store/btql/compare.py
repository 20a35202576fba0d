"""Comparisons as SQL: of the stored column wherever that gives the same, for its index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    null,
)

from btql.tree import Comparison, LiteralKind
from spans.json import Json
from store.btql.columns import Sql, json_constant
from store.postgres.tables import shown_span

_MILLISECOND = timedelta(milliseconds=1)


def comparison(op: Comparison, left: Sql, right: Sql) -> Sql:
    match op:
        case Comparison.EQ:
            return left == right
        case Comparison.IS:
            return left.is_not_distinct_from(right)
        case Comparison.LT:
            return left < right
        case Comparison.LE:
            return left <= right
        case Comparison.GT:
            return left > right
        case Comparison.GE:
            return left >= right


def json_comparison(
    op: Comparison, value: Sql, constant: Json, kind: LiteralKind
) -> Sql | None:
    """A jsonb value against a constant of type `kind`; None where SQL has no such order."""
    bound = json_constant(constant)
    if op in (Comparison.EQ, Comparison.IS):
        return comparison(op, value, bound)
    is_same_type = func.jsonb_typeof(value) == kind.value
    if kind is LiteralKind.NUMBER:
        return case((is_same_type, comparison(op, value, bound)))
    if kind is LiteralKind.STRING:
        text = func.btql_text(value, type_=Text).collate("C")
        return case((is_same_type, comparison(op, text, literal(constant, Text))))
    return None


def text_comparison(op: Comparison, name: str, shown: Sql, constant: str) -> Sql:
    """The column `name`, whose text form is `shown`, against a string constant.

    Where the stored form compares in the same way, it is compared instead, so that its index
    serves.
    """
    equal = op in (Comparison.EQ, Comparison.IS)
    if name == "_pagination_key" and (seq := seq_of(constant)) is not None:
        return comparison(op, shown_span.c.seq, literal(seq, BigInteger))
    if name == "project_id" and equal and (project := _uuid_of(constant)):
        return shown_span.c.project_id == project
    if equal:
        return comparison(op, shown, literal(constant, Text))
    return comparison(op, shown.collate("C"), literal(constant, Text))


def seq_of(key: str) -> int | None:
    """The place in the order of arrival that a `_pagination_key` stands for, or None."""
    digits = key.removeprefix("p")
    if len(key) != 21 or len(digits) != 20 or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits) if int(digits) < 2**63 else None


def _uuid_of(text: str) -> UUID | None:
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def created_comparison(op: Comparison, instant: datetime | None) -> Sql:
    """`created`, cut to the milliseconds that are shown, against a constant.

    The constant is adapted and not the column, so that the column's index serves.
    """
    if instant is None:
        return false() if op is Comparison.IS else cast(null(), Boolean)
    instant = instant.astimezone(UTC)
    floor = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    is_whole = floor == instant
    created = shown_span.c.created
    low = literal(floor, DateTime(timezone=True))
    above = low + literal(_MILLISECOND)
    match op:
        case Comparison.GE:
            return created >= (low if is_whole else above)
        case Comparison.GT:
            return created >= above
        case Comparison.LT:
            return created < (low if is_whole else above)
        case Comparison.LE:
            return created < above
        case _:
            return and_(created >= low, created < above) if is_whole else false()
