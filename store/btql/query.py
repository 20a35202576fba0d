"""Runs a query over the table `span`: within a scope, a time limit and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg.errors
from sqlalchemy import Connection, Row, Select, func, literal, select
from sqlalchemy.exc import OperationalError

from btql.checks import kind_of
from btql.columns import COLUMNS
from btql.errors import BtqlError
from btql.kinds import Kind
from btql.query import Field, Query
from flows.logs.fetch import QueryPage
from spans.errors import BadInput
from spans.json import Json, JsonObject
from store.btql.columns import Sql
from store.btql.compiler import SqlCompiler
from store.btql.sort import beyond, order_by, read_cursor, sort_columns, write_cursor
from store.postgres.row_json import ROW_COLUMNS, api_row
from store.postgres.tables import shown_span

TIMEOUT_S = 5.0
_SCHEMAS: dict[Kind, JsonObject] = {
    Kind.TEXT: {"type": "string"},
    Kind.TIME: {"type": "string", "format": "date-time"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.NUMBER: {"type": "number"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryScope:
    """The objects of one organisation that the query reads, by their numbers. The caller has
    checked that it may."""

    org_id: UUID
    object_nos: tuple[int, ...]


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
            .order_by(*order_by(self._order))
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

    def _rows_in_scope(self) -> list[Sql]:
        numbers = self._scope.object_nos
        in_objects: Sql = (
            shown_span.c.object_no == literal(numbers[0])
            if len(numbers) == 1 else shown_span.c.object_no.in_(numbers)
        )
        return [in_objects, shown_span.c.deleted_at.is_(None)]


def _fetched(
    connection: Connection, statement: _Statement, limit: int, timeout_s: float
) -> Sequence[Row[Any]]:
    """The rows of the statement. Of the settings that it changes, only the timeout stays."""
    _set(connection, "statement_timeout", str(max(1, int(timeout_s * 1000))))
    try:
        rows = connection.execute(statement.select(limit)).all()
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise BadInput(
                f"the query took longer than {timeout_s:g} s: narrow it by created or"
                " root_span_id"
            ) from error
        raise
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
