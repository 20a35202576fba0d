"""The store of rows in memory does what the stored one does."""

from __future__ import annotations

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.logs import MemoryRows, visible_scores
from fakes.memory.ticks import Ticks
from store_behaviours.logs import LogBehaviours, LogStores


class TestMemoryRows(LogBehaviours):
    @pytest.fixture
    def logs(self) -> LogStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        rows = MemoryRows(projects, clock)
        return LogStores(writer=rows, reader=rows, feed=rows, expiry=rows, projects=projects)


@pytest.mark.parametrize(
    ("logged", "computed", "visible"),
    [
        (None, None, None),
        ({"a": 1}, None, {"a": 1}),
        ({"a": None}, None, {"a": None}),
        (None, {"a": 0.5}, {"a": 0.5}),
        ({"a": 1}, {"a": 0.5, "b": 0}, {"a": 1, "b": 0}),
        ({"a": None}, {"a": 0.5}, {"a": 0.5}),
        ({"a": None, "b": None}, {"a": None}, {"a": None, "b": None}),
    ],
)
def test_a_logged_score_is_shown_before_a_computed_one_unless_it_is_null(
    logged: dict | None, computed: dict | None, visible: dict | None
) -> None:
    assert visible_scores(logged, computed) == visible
