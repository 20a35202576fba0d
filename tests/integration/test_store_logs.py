"""The stored rows, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from store_behaviours.logs import LogBehaviours, LogStores

from flows.logs.ingest import IngestRequest
from ops.servers.children import wait_until
from spans.clock import system_clock
from spans.json import Json
from spans.resends import IngestAnswer
from store.access.projects import StoredProjects
from store.logs.change_feed import ChangeFeed
from store.logs.expiry import LogExpiry
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.postgres.database import Database

pytestmark = pytest.mark.every_postgres


def stores_of(database: Database) -> LogStores:
    return LogStores(
        writer=SpanWriter(database, system_clock, resend_minutes=60),
        reader=SpanReader(database, system_clock, query_timeout_s=30),
        feed=ChangeFeed(database), expiry=LogExpiry(database),
        projects=StoredProjects(database),
    )


def locks_waited_for(database: Database) -> int:
    with database.cursor() as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock'"
        )
        return cursor.fetchall()[0][0]


class TestStoredRows(LogBehaviours):
    @pytest.fixture
    def logs(self, database_url: str) -> Iterator[LogStores]:
        database = Database(database_url)
        yield stores_of(database)
        database.close()


def test_what_cannot_be_written_costs_no_other_request_of_its_group(database_url: str) -> None:
    database = Database(database_url)
    logs = stores_of(database)
    endless: list[Json] = []
    for _ in range(500):
        endless = [endless]
    rows = [
        logs.row("a"), logs.row("deep", fields={"input": endless}), logs.row("b"),
        logs.row("odd\0"), logs.row("half \ud83d"), logs.row("c"),
    ]

    answers = logs.writer.write([
        IngestRequest(org_id=logs.org, sent_by="key", writes=(row,)) for row in rows
    ])

    is_stored = [isinstance(answer, IngestAnswer) for answer in answers]
    assert is_stored == [True, False, True, False, False, True]
    assert logs.ids() == ["c", "b", "a"]
    database.close()


def test_a_later_try_is_answered_though_the_first_one_is_committed_meanwhile(
    database_url: str,
) -> None:
    """The later try has found no first one, and waits for a row that somebody has locked."""
    database = Database(database_url)
    logs = stores_of(database)
    logs.send(logs.row("locked"))
    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url) as other, ThreadPoolExecutor() as threads:
        other.execute(
            "select from span_head join span using (object_no, seq) "
            "where id = 'locked' for update of span_head"
        )
        later = threads.submit(
            logs.send, logs.row("locked"), logs.row("made later"), resend=logs.tried(1)
        )
        assert wait_until(lambda: locks_waited_for(database) == 1, deadline_s=30)
        first = logs.send(logs.row("made first"), resend=logs.tried(0))
        other.rollback()

        assert later.result() == first
    assert logs.ids() == ["made first", "locked"]
    database.close()
