"""The stores of projects and keys in memory do what the stored ones do."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryKeys, MemoryProjects
from fakes.memory.ticks import Ticks
from store_behaviours.access import KeyBehaviours, ProjectBehaviours


class InMemory:
    @pytest.fixture
    def projects(self) -> MemoryProjects:
        return MemoryProjects(Ticks())

    @pytest.fixture
    def keys(self, projects: MemoryProjects) -> MemoryKeys:
        return MemoryKeys(projects, Ticks())


class TestMemoryProjects(InMemory, ProjectBehaviours):
    pass


class TestMemoryKeys(InMemory, KeyBehaviours):
    pass
