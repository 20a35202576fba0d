"""The memory store of re-score jobs passes the tests of the real one."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.rescore import MemoryJobs
from fakes.memory.ticks import Ticks
from store_behaviours.rescore import JobBehaviours, JobStores


class TestMemoryJobs(JobBehaviours):
    @pytest.fixture
    def stores(self) -> JobStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        return JobStores(jobs=MemoryJobs(projects, clock), projects=projects)
