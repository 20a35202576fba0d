"""The stored rows, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.logs import LogBehaviours, LogStores

from flows.logs.ingest import IngestRequest
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
