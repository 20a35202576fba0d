"""Runs a query over the table `span`: scoped, bounded, a page at a time."""

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
    """What the asker may see: one organisation's projects, already checked."""

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
    found = _fetched(connection, statement, limit + 1, timeout_s)
    rows = found[:limit]
    return QueryPage(
        rows=[statement.shown(row) for row in rows],
        cursor=statement.cursor(rows[-1]) if len(found) > limit else None,
        schema=_schema(query.select),
    )


class _Statement:
    """A query as one SELECT: the stored columns if it has a star, its fields, its order."""

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
        """At most `limit` rows, from the query's cursor on."""
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

    def is_in_page_order(self) -> bool:
        """Whether rows come straight from the index of pages, until there are enough."""
        return not self._pinned and len(self._order) == 1

    def _ordered(self) -> list[Sql]:
        if "id" not in self._pinned:
            return order_by(self._order)
        # The few rows of one id are sorted; to read a whole log in order instead looks
        # as good to the planner.
        last = self._order[-1]
        return order_by([*self._order[:-1], replace(last, sql=last.sql + 0)])

    def _rows_in_scope(self) -> list[Sql]:
        """The scope, written so that the index which serves the query best is at hand.

        The planner has no statistics of the columns that name an object, and believes that
        few rows share them. Wrapped, they only check, and what is left is the index of the
        trace, the span or the versions that the filter asks for.
        """
        ids = [_object_id(text) for text in self._query.object_ids]
        in_objects: Sql = _one_of(span.c.object_id, ids)
        of_type: Sql = span.c.object_type == literal(self._query.object_type)
        if self._pinned and "id" not in self._pinned:
            in_objects = cast(span.c.object_id, Text).in_([str(one) for one in ids])
            of_type = span.c.object_type + "" == literal(self._query.object_type)
        in_pages = () if self._pinned else (span.c.seq > 0,)   # the index of pages asks for it
        return [
            *in_pages,
            _one_of(span.c.project_id, self._scope.project_ids),
            of_type,
            in_objects,
            span.c.deleted_at.is_(None),
        ]


def _columns_pinned(expr: Expr) -> frozenset[str]:
    """The indexed columns of which every row that passes has one of few values."""
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
    connection: Connection, statement: _Statement, limit: int, timeout_s: float
) -> Sequence[Row[Any]]:
    """The rows, and the connection's settings as they were, but for the timeout."""
    _set(connection, "statement_timeout", str(max(1, int(timeout_s * 1000))))
    # Told that an object is small (see `_rows_in_scope`), the planner would read all of it
    # and sort; there is an index that needs no sort.
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
    """A setting of PostgreSQL, until the transaction ends."""
    connection.execute(select(func.set_config(name, value, True)))  # noqa: FBT003 - is_local


def _schema(fields: tuple[Field, ...]) -> JsonObject:
    properties: dict[str, Json] = {}
    for field in fields:
        if field.expr is None:
            properties.update({name: _SCHEMAS.get(kind, {}) for name, kind in COLUMNS.items()})
        else:
            properties[field.name] = _SCHEMAS.get(kind_of(field.expr), {})
    return {"type": "array", "items": {"type": "object", "properties": properties}}
