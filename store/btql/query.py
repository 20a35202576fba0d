"""Runs a query over rows: within a scope, a time limit and a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import psycopg.errors
from sqlalchemy import Connection, and_

from btql.checks import kind_of
from btql.columns import COLUMNS
from btql.errors import BtqlError
from btql.kinds import Kind
from btql.query import Field, Query
from btql.tree import TRUE
from flows.logs.fetch import QueryPage
from spans.errors import BadInput
from spans.json import Json, JsonObject
from store.btql.access import Access, access_of
from store.btql.columns import Sql
from store.btql.compiler import SqlCompiler
from store.btql.pages import (
    ByIds,
    InWindow,
    PageOf,
    Walk,
    Way,
    count_in_window,
)
from store.btql.score_pages import PagesByScore
from store.btql.sort import beyond, cursor_values, read_cursor, sort_columns, write_cursor
from store.btql.text import execute
from store.postgres.database import Cursor, follow_indexes
from store.postgres.row_json import ROW_COLUMN_NAMES, api_row

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


WINDOW_MAX = 20_000
"""The most rows of a window that are collected before they are filtered and sorted: some 10 ms
of work. A larger one is read along the order's index, where matches may be far apart."""


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
    fields = _Fields(query, compiler, scope)
    order = sort_columns(query, compiler)
    conditions = [] if query.filter == TRUE else [compiler.condition(query.filter)]
    place = None if query.cursor is None else cursor_values(query, order, query.cursor)
    access = access_of(query.filter, query.sort)
    rows: Sequence[tuple[Any, ...]] = ()
    if scope.object_nos:
        with time_limit(connection, timeout_s, advice=advice(access)) as cursor:
            way = choose_way(cursor, access, compiler, scope.object_nos)
            page = PageOf(
                object_nos=scope.object_nos, way=way, conditions=conditions, order=order,
                limit=limit,
            )
            if access.score is not None and isinstance(way, Walk):
                by_score = PagesByScore(cursor=cursor, score=access.score, page=page)
                rows = by_score.rows(fields.columns, place)
            else:
                if query.cursor is not None:
                    conditions.append(beyond(order, read_cursor(query, order, query.cursor)))
                rows = execute(cursor, page.rows(fields.columns)).fetchall()
    return QueryPage(
        rows=[fields.shown(row) for row in rows],
        cursor=write_cursor(query, order, rows[-1][-len(order):]) if rows else None,
        schema=_schema(query.select),
    )


def choose_way(
    cursor: Cursor, access: Access, compiler: SqlCompiler, object_nos: Sequence[int]
) -> Way:
    """The cheapest way to the rows. Windows are counted, to see whether they are small."""
    if access.pins is not None:
        return ByIds(pins=access.pins)
    closed = [
        InWindow(column=one.column, condition=and_(*map(compiler.condition, one.bounds)))
        for one in access.windows if one.is_closed
    ]
    if all(window.column != access.follows for window in closed):
        for window in closed:
            counting = count_in_window(object_nos, window, WINDOW_MAX + 1)
            (count,) = execute(cursor, counting).fetchone() or (0,)
            if count <= WINDOW_MAX:
                return window
    return Walk(column=access.follows or next((one.column for one in closed), "seq"))


@contextmanager
def time_limit(
    connection: Connection, timeout_s: float, *, advice: str, is_snapshot: bool = False
) -> Iterator[Cursor]:
    """A cursor whose statements follow indexes and have `timeout_s` seconds each.

    `is_snapshot`: all of them see the rows as they are for the first. Raises BadInput with
    `advice` if one takes longer. The settings hold until the connection's transaction ends.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - for the type checker
    with driver.cursor() as cursor:
        if is_snapshot:
            cursor.execute("set transaction isolation level repeatable read")
        follow_indexes(cursor, timeout_s=timeout_s)
        try:
            yield cursor
        except psycopg.errors.QueryCanceled as error:
            raise BadInput(
                f"the query took longer than {timeout_s:g} s: {advice}"
            ) from error


def advice(access: Access) -> str:
    """What makes a query faster that took too long."""
    bound = (
        "narrow its bounds on created or _xact_id" if access.is_bounded
        else "add a bound on created or _xact_id (created > now() - interval 1 day), "
        "or an id, span_id or root_span_id"
    )
    if access.follows is not None or access.score is not None:
        return bound
    return f"{bound}, or sort by created, _xact_id, _pagination_key or one score"


class _Fields:
    """What a query selects: its fields and, for `*`, the row."""

    def __init__(self, query: Query, compiler: SqlCompiler, scope: QueryScope) -> None:
        self._scope = scope
        self._fields = [field for field in query.select if field.expr is not None]
        self._has_star = len(self._fields) < len(query.select)
        self.columns: list[str | Sql] = [
            *(ROW_COLUMN_NAMES if self._has_star else ()),
            *(compiler.json(field.expr) for field in self._fields if field.expr),
        ]

    def shown(self, row: tuple[Any, ...]) -> JsonObject:
        """The row as the answer shows it, its fields in the order of the query."""
        first = len(ROW_COLUMN_NAMES) if self._has_star else 0
        values = {field.name: row[first + i] for i, field in enumerate(self._fields)}
        if not self._has_star:
            return values
        stored = dict(zip(ROW_COLUMN_NAMES, row[:first], strict=True))
        return {**api_row(stored, org_id=self._scope.org_id), **values}


def _schema(fields: tuple[Field, ...]) -> JsonObject:
    properties: dict[str, Json] = {}
    for field in fields:
        if field.expr is None:
            properties.update({name: _SCHEMAS.get(kind, {}) for name, kind in COLUMNS.items()})
        else:
            properties[field.name] = _SCHEMAS.get(kind_of(field.expr), {})
    return {"type": "array", "items": {"type": "object", "properties": properties}}
