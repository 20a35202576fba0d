"""The order of a query's rows, and the cursor that continues after the last row of a page.

Every sort key becomes columns that are never null and have one SQL type each. The place of a
row in the order is then a plain list of values, and a cursor is that list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

import orjson
from sqlalchemy import (
    BigInteger,
    DateTime,
    Integer,
    Numeric,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    tuple_,
)

from btql.checks import kind_of
from btql.errors import BtqlError
from btql.kinds import Kind
from btql.query import Query
from btql.tree import Expr, Path
from spans.columns import API_COLUMNS, Storage
from spans.json import Json
from store.btql.columns import Sql
from store.btql.compiler import SqlCompiler
from store.postgres.tables import shown_span

SortType: TypeAlias = type[int] | type[str] | type[Decimal] | type[datetime]

_DIGEST_BYTES = 8
# A double's notation has at most 1 + 308 digits before the point, or 324 behind it.
_DIGITS_MAX = 400
_NO_TIME = datetime(1, 1, 1)  # noqa: DTZ001 - stands for null, which sorts by its own column
# Numbers that the API writes as text, which sorts in the same order.
_STORED_AS = {
    Path(column=name): shown_span.c[column.stored_as]
    for name, column in API_COLUMNS.items() if column.storage is Storage.BIGINT
}
_FORGED = "the cursor is not one that this query gave; start again without it"


@dataclass(frozen=True, slots=True, kw_only=True)
class SortColumn:
    """One column of the order, which is never null."""

    sql: Sql
    descending: bool
    type: SortType


NEWEST_FIRST = (SortColumn(sql=shown_span.c.seq, descending=True, type=int),)
"""The order of arrival, from its end. Later writes do not change it."""


def sort_columns(query: Query, compiler: SqlCompiler) -> tuple[SortColumn, ...]:
    """The columns that order the query: its keys, then `seq`, so that no two rows are equal.

    Nulls come last in both directions. A query without keys gives the newest rows first.
    """
    columns: list[SortColumn] = []
    for key in query.sort:
        columns += _key_columns(key.expr, compiler, descending=key.descending)
    if not columns or columns[-1].sql is not shown_span.c.seq:
        descending = query.sort[0].descending if query.sort else True
        columns.append(SortColumn(sql=shown_span.c.seq, descending=descending, type=int))
    return tuple(columns)


def beyond(columns: Sequence[SortColumn], place: Sequence[Sql]) -> Sql:
    """The condition that a row comes after `place` in the order.

    Where all columns go in one direction, it is one comparison of rows: an index of these
    columns is then entered at the place.
    """
    if len({one.descending for one in columns}) == 1:
        row, after = tuple_(*(one.sql for one in columns)), tuple_(*place)
        return row < after if columns[0].descending else row > after
    steps = []
    for i, column in enumerate(columns):
        further = column.sql < place[i] if column.descending else column.sql > place[i]
        same = [before.sql == place[j] for j, before in enumerate(columns[:i])]
        steps.append(and_(*same, further))
    return or_(*steps)


def write_cursor(query: Query, columns: Sequence[SortColumn], place: Sequence[object]) -> str:
    """The cursor of a row, of which `place` holds the values of `columns`."""
    values = [_written(value) for value in place]
    body = _digest(query, columns) + orjson.dumps(values)
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def read_cursor(query: Query, columns: Sequence[SortColumn], cursor: str) -> list[Sql]:
    """The place that a cursor stands for, as bound parameters.

    Raises BtqlError for the cursor of another query, and for a text that is no cursor.
    """
    values = cursor_values(query, columns, cursor)
    return [_bound(column, value) for column, value in zip(columns, values, strict=True)]


def cursor_values(
    query: Query, columns: Sequence[SortColumn], cursor: str
) -> Sequence[object]:
    """The values of a cursor as they are written in it. Raises as read_cursor does."""
    try:
        body = base64.b64decode(
            cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True
        )
        digest, values = body[:_DIGEST_BYTES], orjson.loads(body[_DIGEST_BYTES:])
    except (UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError):
        raise BtqlError(_FORGED) from None
    if (
        digest != _digest(query, columns)
        or not isinstance(values, list) or len(values) != len(columns)
    ):
        raise BtqlError(_FORGED)
    for column, value in zip(columns, values, strict=True):
        _bound(column, value)
    return values


def _key_columns(expr: Expr, compiler: SqlCompiler, *, descending: bool) -> list[SortColumn]:
    def column(sql: Sql, kind: SortType) -> SortColumn:
        return SortColumn(sql=sql, descending=descending, type=kind)

    if expr == Path(column="created"):
        return [column(shown_span.c.created, datetime)]
    if expr in _STORED_AS:
        return [column(_STORED_AS[expr], int)]
    kind = kind_of(expr)
    if kind is Kind.TIME:
        time = compiler.time(expr)
        return [
            _null_last(time),
            column(func.coalesce(time, literal(_NO_TIME, DateTime)), datetime),
        ]
    if kind is Kind.TEXT:
        text = compiler.text(expr)
        shown = func.coalesce(text, literal("", Text)).collate("C")
        return [_null_last(text), column(shown, str)]
    return _json_columns(compiler.json(expr), descending=descending)


def _json_columns(value: Sql, *, descending: bool) -> list[SortColumn]:
    """Columns that order JSON: booleans, numbers, strings, then arrays and objects.

    Arrays and objects have no order among themselves.
    """
    kind = func.jsonb_typeof(value)
    text = func.btql_text(value, type_=Text)
    rank = case({"boolean": 0, "number": 1, "string": 2}, value=kind, else_=3)
    number = case((kind == "number", cast(text, Numeric)), else_=literal(0, Numeric))
    is_text = kind.in_(["string", "boolean"])
    shown = case((is_text, text), else_=literal("", Text)).collate("C")
    return [
        _null_last(value),
        SortColumn(sql=cast(rank, Integer), descending=descending, type=int),
        SortColumn(sql=number, descending=descending, type=Decimal),
        SortColumn(sql=shown, descending=descending, type=str),
    ]


def _null_last(value: Sql) -> SortColumn:
    return SortColumn(sql=case((value.is_(None), 1), else_=0), descending=False, type=int)


def _digest(query: Query, columns: Sequence[SortColumn]) -> bytes:
    """A hash of what a cursor belongs to: the query's objects and order, not its filter."""
    bound = repr((query.object_type, query.object_ids, query.sort, len(columns)))
    return hashlib.blake2b(bound.encode(), digest_size=_DIGEST_BYTES).digest()


def _written(value: object) -> Json:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    assert isinstance(value, int | str)  # noqa: S101 - the types of SortColumn
    return value


def _bound(column: SortColumn, value: object) -> Sql:
    if column.type is int and isinstance(value, int) and not isinstance(value, bool):
        if -(2**63) <= value < 2**63:
            return literal(value, BigInteger)
    elif isinstance(value, str) and "\0" not in value:
        if column.type is str:
            return literal(value, Text)
        try:
            return _bound_text(column, value)
        except (ValueError, InvalidOperation):
            raise BtqlError(_FORGED) from None
    raise BtqlError(_FORGED)


def _bound_text(column: SortColumn, value: str) -> Sql:
    if column.type is datetime:
        instant = datetime.fromisoformat(value)
        return literal(instant, DateTime(timezone=instant.tzinfo is not None))
    if len(value) > _DIGITS_MAX:
        raise ValueError(value)
    return literal(Decimal(value), Numeric)
