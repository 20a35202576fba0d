"""Runs a query over the table `span`: within a scope, a time limit and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg.errors
from sqlalchemy import Connection, Row, Select, Text, any_, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import Uuid

from btql.checks import kind_of
from btql.columns import COLUMNS
from btql.errors import BtqlError
from btql.kinds import Kind
from btql.query import Field, Query
from btql.tree import And, Compare, Comparison, Expr, In, Literal, Path
from flows.logs.fetch import QueryPage
from spans.errors import BadInput
from spans.json import Json, JsonObject
from store.btql.columns import Sql
from store.btql.compiler import SqlCompiler
from store.btql.sort import beyond, order_by, read_cursor, sort_columns, write_cursor
from store.postgres.row_json import ROW_COLUMNS, api_row
from store.postgres.tables import span

TIMEOUT_S = 5.0
_SCHEMAS: dict[Kind, JsonObject] = {
    Kind.TEXT: {"type": "string"},
    Kind.TIME: {"type": "string", "format": "date-time"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.NUMBER: {"type": "number"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryScope:
    """The projects of one organisation that the query may read. The caller has checked them."""

    org_id: UUID
    project_ids: tuple[UUID, ...]


def run_query(
    connection: Connection,
    query: Query,
    *,
    scope: QueryScope,
    limit_max: int,
    now: datetime,
    tz_offset: int = 0,
    timeout_s: float = TIMEOUT_S,
) -> QueryPage:
    """One page of a query's rows, without those that are deleted or out of scope.

    The connection's engine must decode JSON with orjson (`json_deserializer`). The timeout
    holds until the connection's transaction ends.

    Raises BtqlError if the query's limit is above `limit_max`, its cursor is of another query
    or one of its ids is no UUID. Raises BadInput if the query takes longer than `timeout_s`.
    """
    limit = limit_max if query.limit is None else query.limit
    if limit > limit_max:
        raise BtqlError(f"a limit is at most {limit_max}; use the cursor to get more")
    compiler = SqlCompiler(now=now, tz_offset=tz_offset, org_id=str(scope.org_id))
    statement = _Statement(query, compiler, scope)
    found = _fetched(connection, statement, limit + 1, timeout_s)
    rows = found[:limit]
    return QueryPage(
        rows=[statement.shown(row) for row in rows],
        cursor=statement.cursor(rows[-1]) if len(found) > limit else None,
        schema=_schema(query.select),
    )


class _Statement:
    """A query as one SELECT of its fields, the columns of its order and, for `*`, the row."""

    def __init__(self, query: Query, compiler: SqlCompiler, scope: QueryScope) -> None:
        self._query = query
        self._scope = scope
        self._condition = compiler.condition(query.filter)
        self._order = sort_columns(query, compiler)
        self._pinned = _columns_pinned(query.filter)
        self._fields = [field for field in query.select if field.expr is not None]
        self._values = [compiler.json(field.expr) for field in self._fields if field.expr]
        self._has_star = len(self._fields) < len(query.select)

    def select(self, limit: int) -> Select[Any]:
        """The SELECT of at most `limit` rows after the query's cursor."""
        stored = ROW_COLUMNS if self._has_star else ()
        places = [one.sql.label(f"place_{i}") for i, one in enumerate(self._order)]
        values = [value.label(f"field_{i}") for i, value in enumerate(self._values)]
        statement = (
            select(*stored, *values, *places)
            .where(*self._rows_in_scope(), self._condition)
            .order_by(*self._ordered())
            .limit(limit)
        )
        if self._query.cursor is None:
            return statement
        place = read_cursor(self._query, self._order, self._query.cursor)
        return statement.where(beyond(self._order, place))

    def shown(self, row: Row[Any]) -> JsonObject:
        """The row as the answer shows it, its fields in the order of the query."""
        stored = row._asdict()
        values = {field.name: stored[f"field_{i}"] for i, field in enumerate(self._fields)}
        if not self._has_star:
            return values
        return {**api_row(stored, org_id=self._scope.org_id), **values}

    def cursor(self, row: Row[Any]) -> str:
        stored = row._asdict()
        place = [stored[f"place_{i}"] for i in range(len(self._order))]
        return write_cursor(self._query, self._order, place)

    def is_in_page_order(self) -> bool:
        """Whether the index `span_page` gives the rows in the query's order, without a sort."""
        return not self._pinned and len(self._order) == 1

    def _ordered(self) -> list[Sql]:
        if "id" not in self._pinned:
            return order_by(self._order)
        # One id has few rows, which are quickly sorted. To the planner it looks as good to read
        # the whole log in order; adding 0 hides from it that an index has that order.
        last = self._order[-1]
        return order_by([*self._order[:-1], replace(last, sql=last.sql + 0)])

    def _rows_in_scope(self) -> list[Sql]:
        """The conditions of the scope, written so that the planner takes the best index.

        The planner has no statistics of the columns that name an object, and believes that few
        rows share them. Where the filter pins a trace, a span or versions, the index of those
        is better: the object's columns are then wrapped in an expression that no index has, so
        that they only filter.
        """
        ids = [_object_id(text) for text in self._query.object_ids]
        in_objects: Sql = _one_of(span.c.object_id, ids)
        of_type: Sql = span.c.object_type == literal(self._query.object_type)
        if self._pinned and "id" not in self._pinned:
            in_objects = cast(span.c.object_id, Text).in_([str(one) for one in ids])
            of_type = span.c.object_type + "" == literal(self._query.object_type)
        # The condition of the partial index `span_page`.
        in_pages = () if self._pinned else (span.c.seq > 0,)
        return [
            *in_pages,
            _one_of(span.c.project_id, self._scope.project_ids),
            of_type,
            in_objects,
            span.c.deleted_at.is_(None),
        ]


def _columns_pinned(expr: Expr) -> frozenset[str]:
    """The indexed columns that the filter pins: those for which it lists the values."""
    match expr:
        case And(children=children):
            return frozenset().union(*map(_columns_pinned, children))
        case Compare(left=Path(column="_xact_id"), right=Literal()):
            return frozenset({"_xact_id"})
        case (
            Compare(op=Comparison.EQ, left=Path(column=column), right=Literal())
            | In(item=Path(column=column))
        ) if column in ("id", "span_id", "root_span_id"):
            return frozenset({column})
        case _:
            return frozenset()


def _one_of(column: Sql, ids: Sequence[UUID]) -> Sql:
    """`column` is one of `ids`. With one id it is an equality, so the index keeps its order."""
    if len(ids) == 1:
        return column == literal(ids[0], Uuid())
    return column == any_(literal(list(ids), ARRAY(Uuid())))


def _object_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BtqlError(f"{text!r} is no id; an id is a UUID, such as {UUID(int=0)}") from None


def _fetched(
    connection: Connection, statement: _Statement, limit: int, timeout_s: float
) -> Sequence[Row[Any]]:
    """The rows of the statement. Of the settings that it changes, only the timeout stays."""
    _set(connection, "statement_timeout", str(max(1, int(timeout_s * 1000))))
    # The planner believes that an object is small (see `_rows_in_scope`): it would read all of
    # it and sort, although the index `span_page` has the order already.
    in_order = statement.is_in_page_order()
    if in_order:
        _set(connection, "enable_sort", "off")
    try:
        rows = connection.execute(statement.select(limit)).all()
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise BadInput(
                f"the query took longer than {timeout_s:g} s: narrow it by created or"
                " root_span_id"
            ) from error
        raise
    if in_order:
        _set(connection, "enable_sort", "on")
    return rows


def _set(connection: Connection, name: str, value: str) -> None:
    """Sets a setting of PostgreSQL until the transaction ends."""
    connection.execute(select(func.set_config(name, value, True)))  # noqa: FBT003 - is_local


def _schema(fields: tuple[Field, ...]) -> JsonObject:
    properties: dict[str, Json] = {}
    for field in fields:
        if field.expr is None:
            properties.update({name: _SCHEMAS.get(kind, {}) for name, kind in COLUMNS.items()})
        else:
            properties[field.name] = _SCHEMAS.get(kind_of(field.expr), {})
    return {"type": "array", "items": {"type": "object", "properties": properties}}
