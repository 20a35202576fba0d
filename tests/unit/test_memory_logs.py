"""The store of rows in memory does what the stored one does."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.logs import MemoryRows
from fakes.memory.ticks import Ticks
from store_behaviours.logs import LogBehaviours, LogStores


class TestMemoryRows(LogBehaviours):
    @pytest.fixture
    def logs(self) -> LogStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        rows = MemoryRows(projects, clock)
        return LogStores(writer=rows, reader=rows, feed=rows, projects=projects)
