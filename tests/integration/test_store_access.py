"""The stored projects and keys, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.access import KeyBehaviours, ProjectBehaviours

from store.access.keys import StoredKeys
from store.access.projects import StoredProjects
from store.postgres.database import Database

pytestmark = pytest.mark.every_postgres


class OnPostgres:
    @pytest.fixture
    def database(self, database_url: str) -> Iterator[Database]:
        opened = Database(database_url)
        yield opened
        opened.close()

    @pytest.fixture
    def projects(self, database: Database) -> StoredProjects:
        return StoredProjects(database)

    @pytest.fixture
    def keys(self, database: Database) -> StoredKeys:
        return StoredKeys(database)


class TestStoredProjects(OnPostgres, ProjectBehaviours):
    pass


class TestStoredKeys(OnPostgres, KeyBehaviours):
    pass
