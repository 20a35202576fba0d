"""Runs a query over the table `span`: scoped, bounded, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg.errors
from sqlalchemy import Connection, Row, Select, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import Uuid

from btql.checks import kind_of
from btql.columns import COLUMNS
from btql.errors import BtqlError
from btql.kinds import Kind
from btql.query import Field, Query
from spans.errors import BadInput
from spans.json import Json, JsonObject
from store.btql_columns import Sql
from store.btql_sort import beyond, order_by, read_cursor, sort_columns, write_cursor
from store.btql_sql import SqlCompiler
from store.rows import STORED, api_row
from store.tables import span

TIMEOUT_S = 5.0
_SCHEMAS: dict[Kind, JsonObject] = {
    Kind.TEXT: {"type": "string"},
    Kind.TIME: {"type": "string", "format": "date-time"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.NUMBER: {"type": "number"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the asker may see: one organisation's projects, already checked."""

    org_id: UUID
    project_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPage:
    """Rows in the query's order. `cursor` is None once there are no more.

    `schema` is a JSON schema of the whole answer: an array of objects.
    """

    rows: list[JsonObject]
    cursor: str | None
    schema: JsonObject


def run_query(
    connection: Connection,
    query: Query,
    *,
    scope: Scope,
    limit_max: int,
    now: datetime,
    tz_offset: int = 0,
    timeout_s: float = TIMEOUT_S,
) -> QueryPage:
    """One page of a query's rows; rows that are deleted, or out of scope, do not exist.

    The connection's engine decodes JSON with orjson (`json_deserializer`); the timeout holds
    until its transaction ends. Raises BtqlError for a limit above `limit_max`, a cursor of
    another query or an id that is none, BadInput for a query that ran into the timeout.
    """
    limit = limit_max if query.limit is None else query.limit
    if limit > limit_max:
        raise BtqlError(f"a limit is at most {limit_max}; go on with the cursor")
    compiler = SqlCompiler(now=now, tz_offset=tz_offset, org_id=str(scope.org_id))
    statement = _Statement(query, compiler, scope)
    found = _fetched(connection, statement.select(limit + 1), timeout_s)
    rows = found[:limit]
    return QueryPage(
        rows=[statement.shown(row) for row in rows],
        cursor=statement.cursor(rows[-1]) if len(found) > limit else None,
        schema=_schema(query.select),
    )


class _Statement:
    """A query as one SELECT: the stored columns if it has a star, its fields, its order."""

    def __init__(self, query: Query, compiler: SqlCompiler, scope: Scope) -> None:
        self._query = query
        self._scope = scope
        self._condition = compiler.condition(query.filter)
        self._order = sort_columns(query, compiler)
        self._fields = [field for field in query.select if field.expr is not None]
        self._values = [compiler.json(field.expr) for field in self._fields if field.expr]
        self._has_star = len(self._fields) < len(query.select)

    def select(self, limit: int) -> Select[Any]:
        """At most `limit` rows, from the query's cursor on."""
        stored = [span.c[name] for name in STORED] if self._has_star else []
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
        """A row of the answer, its fields in the order of the query."""
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
        object_ids = [_object_id(text) for text in self._query.object_ids]
        return [
            _one_of(span.c.project_id, self._scope.project_ids),
            span.c.object_type == literal(self._query.object_type),
            _one_of(span.c.object_id, object_ids),
            span.c.deleted_at.is_(None),
        ]


def _one_of(column: Sql, ids: Sequence[UUID]) -> Sql:
    """A single id is an equality: so the index gives the rows in the order of `seq`."""
    if len(ids) == 1:
        return column == literal(ids[0], Uuid())
    return column == any_(literal(list(ids), ARRAY(Uuid())))


def _object_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BtqlError(f"{text!r} is no id; ids look like {UUID(int=0)}") from None


def _fetched(
    connection: Connection, statement: Select[Any], timeout_s: float
) -> Sequence[Row[Any]]:
    milliseconds = str(max(1, int(timeout_s * 1000)))
    connection.execute(select(func.set_config("statement_timeout", milliseconds, True)))  # noqa: FBT003
    try:
        return connection.execute(statement).all()
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise BadInput(
                f"the query took longer than {timeout_s:g} s: narrow it by created or"
                " root_span_id"
            ) from error
        raise


def _schema(fields: tuple[Field, ...]) -> JsonObject:
    properties: dict[str, Json] = {}
    for field in fields:
        if field.expr is None:
            properties.update({name: _SCHEMAS.get(kind, {}) for name, kind in COLUMNS.items()})
        else:
            properties[field.name] = _SCHEMAS.get(kind_of(field.expr), {})
    return {"type": "array", "items": {"type": "object", "properties": properties}}
