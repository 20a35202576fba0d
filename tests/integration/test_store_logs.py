"""The stored rows, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.logs import LogBehaviours, LogStores

from spans.clock import system_clock
from store.access.projects import StoredProjects
from store.logs.change_feed import ChangeFeed
from store.logs.expiry import LogExpiry
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.postgres.database import Database

pytestmark = pytest.mark.every_postgres


class TestStoredRows(LogBehaviours):
    @pytest.fixture
    def logs(self, database_url: str) -> Iterator[LogStores]:
        database = Database(database_url)
        yield LogStores(
            writer=SpanWriter(database, system_clock, resend_minutes=60),
            reader=SpanReader(database, system_clock, query_timeout_s=30),
            feed=ChangeFeed(database), expiry=LogExpiry(database),
            projects=StoredProjects(database),
        )
        database.close()
