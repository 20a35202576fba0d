"""The store of invocations in memory does what the stored one does."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.invocations import MemoryInvocations
from fakes.memory.logs import MemoryRows
from fakes.memory.ticks import Ticks
from store_behaviours.invocations import InvocationBehaviours, InvocationStores
from store_behaviours.logs import LogStores


class TestMemoryInvocations(InvocationBehaviours):
    @pytest.fixture
    def stores(self) -> InvocationStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        rows = MemoryRows(projects, clock)
        store = MemoryInvocations(rows=rows)
        return InvocationStores(
            store=store, answers=store, let_go=store.let_go, count=store.count,
            logs=LogStores(
                writer=rows, reader=rows, feed=rows, expiry=rows, projects=projects
            ),
        )
