"""The stored automations, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.automations import AutomationBehaviours, AutomationStores

from store.access.projects import StoredProjects
from store.automations.automations import StoredAutomations
from store.postgres.database import Database

pytestmark = pytest.mark.every_postgres


class TestStoredAutomations(AutomationBehaviours):
    @pytest.fixture
    def stores(self, database_url: str) -> Iterator[AutomationStores]:
        database = Database(database_url)
        yield AutomationStores(
            automations=StoredAutomations(database), projects=StoredProjects(database)
        )
        database.close()
