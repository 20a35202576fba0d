"""The store of rules in memory does what the stored one does."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.functions import MemoryBundles, MemoryFunctions
from fakes.memory.logs import MemoryRows
from fakes.memory.rules import MemoryRules
from fakes.memory.ticks import Ticks
from store_behaviours.rules import RuleBehaviours, RuleStores


class TestMemoryRules(RuleBehaviours):
    @pytest.fixture
    def stores(self) -> RuleStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        functions = MemoryFunctions(
            projects, MemoryBundles(), clock, draw=MemoryRows(projects, clock).draw
        )
        return RuleStores(rules=MemoryRules(projects, functions, clock), projects=projects)
