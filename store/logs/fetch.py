"""Reads pages of a project's rows, answers queries, and reads rejected rows."""

from __future__ import annotations

from sqlalchemy import BigInteger, literal

from btql.query import Query
from btql.tree import TRUE
from flows.logs.fetch import FetchRequest, Page, QueryPage
from spans.clock import Clock
from spans.errors import BadInput
from spans.ids import OrgId, ProjectId
from spans.json import JsonObject
from spans.row import ObjectRef, project_logs
from store.btql.access import access_of
from store.btql.compiler import SqlCompiler
from store.btql.pages import PageOf
from store.btql.query import QueryScope, advice, choose_way, execute, run_query, time_limit
from store.btql.sort import NEWEST_FIRST
from store.postgres.database import Database
from store.postgres.row_json import ROW_COLUMN_NAMES, api_row, instant_text
from store.postgres.tables import shown_span

CURSOR_PREFIX = "s"
"""A cursor is this letter and the `seq` of the page's last row. The letter distinguishes it
from other kinds of cursor that may be added."""


class SpanReader:
    """Implements flows.logs.fetch.RowReader."""

    def __init__(self, database: Database, clock: Clock, *, query_timeout_s: float) -> None:
        self._database = database
        self._clock = clock
        self._timeout_s = query_timeout_s

    def page(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, *, limit: int
    ) -> Page:
        """A page of at most `limit` rows, newest first. Raises BadInput for a wrong cursor."""
        before = None if asked.cursor is None else _seq_of(asked.cursor)
        object_no = self._database.numbers.find_object(where)
        if object_no is None or not limit:
            return Page(rows=[], cursor=None)
        compiler = SqlCompiler(now=self._clock(), tz_offset=0, org_id=str(org_id))
        conditions = [] if asked.filter == TRUE else [compiler.condition(asked.filter)]
        if before is not None:
            conditions.append(shown_span.c.seq < literal(before, BigInteger))
        access = access_of(asked.filter, ())
        with (
            self._database.connection() as connection,
            time_limit(connection, self._timeout_s, advice=advice(access)) as cursor,
        ):
            page = PageOf(
                object_nos=(object_no,),
                way=choose_way(cursor, access, compiler, (object_no,)),
                conditions=conditions, order=NEWEST_FIRST, limit=limit + 1,
            )
            rows = execute(cursor, page.rows(ROW_COLUMN_NAMES)).fetchall()
        shown = [dict(zip(ROW_COLUMN_NAMES, row, strict=False)) for row in rows[:limit]]
        return Page(
            rows=[api_row(row, org_id=org_id) for row in shown],
            cursor=f"{CURSOR_PREFIX}{shown[-1]['seq']}" if len(rows) > limit else None,
        )

    def query(
        self,
        query: Query,
        org_id: OrgId,
        projects: tuple[ProjectId, ...],
        *,
        limit_max: int,
        tz_offset: int,
    ) -> QueryPage:
        """A page of the rows that the query selects. It reads no rows of other projects."""
        numbers = self._database.numbers
        found = [numbers.find_object(project_logs(each)) for each in projects]
        objects = tuple(dict.fromkeys(number for number in found if number is not None))
        with self._database.connection() as connection:
            return run_query(
                connection,
                query,
                scope=QueryScope(org_id=org_id, object_nos=objects),
                limit_max=limit_max,
                now=self._clock(),
                tz_offset=tz_offset,
                timeout_s=self._timeout_s,
            )

    def rejected(self, org_id: OrgId, project_id: ProjectId, limit: int) -> list[JsonObject]:
        """The project's latest rejected rows, newest first, at most `limit`."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """select row_id, reason, excerpt, created from rejected_row
                    where org_id = %s and project_id = %s order by id desc limit %s""",
                (org_id, project_id, limit),
            )
            return [
                {"id": row_id, "reason": reason, "excerpt": excerpt,
                 "created": instant_text(created)}
                for row_id, reason, excerpt, created in cursor
            ]


def _seq_of(cursor: str) -> int:
    digits = cursor.removeprefix(CURSOR_PREFIX)
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= 18
    if not cursor.startswith(CURSOR_PREFIX) or not is_number:
        raise BadInput("not a cursor: send the `cursor` of a page, unchanged", path="cursor")
    return int(digits)
