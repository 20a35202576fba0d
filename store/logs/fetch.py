"""Reads pages of a project's rows, answers queries, and reads rejected rows."""

from __future__ import annotations

import hashlib

from btql.query import Query
from btql.tree import TRUE
from flows.logs.fetch import FetchRequest, Page, QueryPage
from spans.clock import Clock
from spans.ids import OrgId, ProjectId, Xact
from spans.json import JsonObject
from spans.row import ObjectRef, project_logs
from store.btql.access import access_of
from store.btql.columns import Sql
from store.btql.compiler import SqlCompiler
from store.btql.pages import PageOf
from store.btql.query import QueryScope, advice, choose_way, run_query, time_limit
from store.btql.sort import NEWEST_FIRST
from store.btql.text import execute
from store.logs.fetch_cursor import FetchCursor, FirstPage, read_fetch_cursor
from store.logs.trace_pages import TracePages
from store.postgres.database import Database
from store.postgres.row_json import ROW_COLUMN_NAMES, api_row, instant_text
from store.postgres.versions import settled_version

START_HOURS = 24
"""How long a reader by places may take for a project, hours, and still miss no row."""

# One start in ten minutes is enough: an earlier one counts for the later ones too.
ADD_START = """
    insert into fetch_start (object_no, asked, settled)
    select %(object)s, %(asked)s, %(settled)s
     where not exists (
       select from fetch_start
        where object_no = %(object)s and asked = %(asked)s
          and started_at > now() - interval '10 minutes')
"""
FIRST_START = """
    select min(settled) from fetch_start
     where object_no = %s and asked = %s and started_at > now() - make_interval(hours => %s)
"""


class SpanReader:
    """Implements flows.logs.fetch.RowReader."""

    def __init__(self, database: Database, clock: Clock, *, query_timeout_s: float) -> None:
        self._database = database
        self._clock = clock
        self._timeout_s = query_timeout_s

    def page(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, *, limit: int
    ) -> Page:
        if asked.cursor is None:
            return self._traces(where, org_id, asked, limit)
        return self._arrived(where, org_id, asked, read_fetch_cursor(asked.cursor), limit)

    def _traces(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, limit: int
    ) -> Page:
        """A page of traces, the newest versions first."""
        object_no = self._database.numbers.find_object(where)
        if object_no is None or not limit:
            return Page(rows=[], cursor=None)
        settled = self._settled(object_no, asked)
        conditions = self._conditions(asked, org_id)
        access = access_of(asked.filter, ())
        with (
            self._database.connection() as connection,
            time_limit(
                connection, self._timeout_s, advice=advice(access), is_snapshot=True
            ) as cursor,
        ):
            pages = TracePages(
                cursor=cursor, object_no=object_no, conditions=conditions, pins=access.pins,
                since=settled,
            )
            traces, more = pages.page(asked.after, limit)
            rows = pages.rows(traces, asked.after)
        # Who names a place goes on by places.
        goes_on = None
        if more and asked.after is None:
            first = FirstPage(traces[-1].place, settled)
            goes_on = FetchCursor(before=None, first=first).text
        return Page(rows=[api_row(row, org_id=org_id) for row in rows], cursor=goes_on)

    def _arrived(
        self, where: ObjectRef, org_id: OrgId, asked: FetchRequest, after: FetchCursor,
        limit: int,
    ) -> Page:
        """A page of rows in the order of arrival, the newest first."""
        object_no = self._database.numbers.find_object(where)
        if object_no is None or not limit:
            return Page(rows=[], cursor=None)
        conditions = self._conditions(asked, org_id)
        access = access_of(asked.filter, ())
        with (
            self._database.connection() as connection,
            time_limit(connection, self._timeout_s, advice=advice(access)) as cursor,
        ):
            page = PageOf(
                object_nos=(object_no,),
                way=choose_way(cursor, access, self._compiler(org_id), (object_no,)),
                conditions=[*conditions, *after.conditions()], order=NEWEST_FIRST,
                limit=limit + 1, unless=after.given(conditions),
            )
            rows = execute(cursor, page.rows(ROW_COLUMN_NAMES)).fetchall()
        shown = [dict(zip(ROW_COLUMN_NAMES, row, strict=False)) for row in rows[:limit]]
        return Page(
            rows=[api_row(row, org_id=org_id) for row in shown],
            cursor=after.at(shown[-1]["seq"]).text if len(rows) > limit else None,
        )

    def _settled(self, object_no: int, asked: FetchRequest) -> Xact:
        """A version up to which the reader saw every write when it began: now, if it begins.

        Nothing tells which reader names a place. So of all that began to read the same within
        START_HOURS, the first counts; 0 if none did.
        """
        same = int.from_bytes(
            hashlib.sha256(repr((asked.limit, asked.filter)).encode()).digest()[:7]
        )
        with self._database.cursor() as cursor:
            if asked.after is None:
                settled = settled_version(cursor)
                cursor.execute(
                    ADD_START, {"object": object_no, "asked": same, "settled": settled}
                )
                return settled
            cursor.execute(FIRST_START, (object_no, same, START_HOURS))
            (first,) = cursor.fetchone() or (None,)
            return Xact(first or 0)

    def _compiler(self, org_id: OrgId) -> SqlCompiler:
        return SqlCompiler(now=self._clock(), tz_offset=0, org_id=str(org_id))

    def _conditions(self, asked: FetchRequest, org_id: OrgId) -> list[Sql]:
        return [] if asked.filter == TRUE else [self._compiler(org_id).condition(asked.filter)]

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

    def rejected(
        self, org_id: OrgId, project_id: ProjectId | None, limit: int
    ) -> list[JsonObject]:
        """The latest rejected rows of the project, or of the organisation, newest first.

        At most `limit`.
        """
        with self._database.cursor() as cursor:
            cursor.execute(
                """select project_id::text, row_id, span_id, reason, excerpt, created
                     from rejected_row
                    where org_id = %s and (%s::uuid is null or project_id = %s)
                    order by id desc limit %s""",
                (org_id, project_id, project_id, limit),
            )
            return [
                {"id": row_id, "span_id": span_id, "project_id": of, "reason": reason,
                 "excerpt": excerpt, "created": instant_text(created)}
                for of, row_id, span_id, reason, excerpt, created in cursor
            ]
