"""The store of automations in memory does what the stored one does."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.automations import MemoryAutomations
from fakes.memory.ticks import Ticks
from store_behaviours.automations import AutomationBehaviours, AutomationStores


class TestMemoryAutomations(AutomationBehaviours):
    @pytest.fixture
    def stores(self) -> AutomationStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        return AutomationStores(
            automations=MemoryAutomations(projects, clock), projects=projects
        )
