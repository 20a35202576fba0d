"""The stored rules, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.rules import RuleBehaviours, RuleStores

from store.access.projects import StoredProjects
from store.postgres.database import Database
from store.rules.rules import StoredRules

pytestmark = pytest.mark.every_postgres


class TestStoredRules(RuleBehaviours):
    @pytest.fixture
    def stores(self, database_url: str) -> Iterator[RuleStores]:
        database = Database(database_url)
        yield RuleStores(rules=StoredRules(database), projects=StoredProjects(database))
        database.close()
