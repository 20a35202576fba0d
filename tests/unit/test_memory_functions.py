"""The stores of functions and bundles in memory do what the stored ones do."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.functions import MemoryBundles, MemoryFunctions
from fakes.memory.logs import MemoryRows
from fakes.memory.ticks import Ticks
from store_behaviours.functions import FunctionBehaviours, FunctionStores


class TestMemoryFunctions(FunctionBehaviours):
    @pytest.fixture
    def stores(self) -> FunctionStores:
        clock, bundles = Ticks(), MemoryBundles()
        projects = MemoryProjects(clock)
        draw = MemoryRows(projects, clock).draw
        return FunctionStores(
            functions=MemoryFunctions(projects, bundles, clock, draw=draw), bundles=bundles,
            projects=projects,
        )
