"""The stored re-score jobs, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.rescore import JobBehaviours, JobStores

from store.access.projects import StoredProjects
from store.postgres.database import Database
from store.rescore.jobs import StoredJobs

pytestmark = pytest.mark.every_postgres


class TestStoredJobs(JobBehaviours):
    @pytest.fixture
    def stores(self, database_url: str) -> Iterator[JobStores]:
        database = Database(database_url)
        yield JobStores(jobs=StoredJobs(database), projects=StoredProjects(database))
        database.close()
