"""What a change of an automation does to what it watches and has collected, on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from store_behaviours.automations import SLACK, fields, written
from watched_world import WatchedWorld

from automations.model import Automation
from flows.automations.automations import AutomationWrite
from spans.ids import ProjectId
from store.automations.automations import StoredAutomations
from store.automations.states import disable

pytestmark = pytest.mark.every_postgres

HOUR_S = 3600


class ChangingWorld(WatchedWorld):
    """A watched project whose automations are made and changed as users do it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.automations = StoredAutomations(self.database)

    def put(self, name: str = "a", **config: Any) -> Automation:
        """Makes the automation, or replaces that of the name."""
        given = fields(name, **{"btql_filter": "error = 'x'", **config})
        ((made, _),) = self.automations.put_automations(
            self.where.project_id, [given], lambda each, _: written(each), created_by="a key",
            replace=True,
        )
        return made

    def fail(self, *row_ids: str, error: str = "x") -> None:
        self.write(*({"id": row_id, "error": error} for row_id in row_ids))

    def value(self, column: str) -> Any:
        """Of the state of the only automation."""
        ((value,),) = self.rows(f"select {column} from automation_state")
        return value

    def revision(self) -> int:
        ((value,),) = self.rows("select revision from automation_project")
        return int(value)


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[ChangingWorld]:
    with opened(fresh_database_url) as world:
        yield world


@contextmanager
def opened(url: str) -> Iterator[ChangingWorld]:
    world = ChangingWorld(url)
    yield world
    world.close()


def test_what_was_stored_before_an_automation_began_never_counts(world):
    world.fail("old")
    world.put()
    world.look()
    world.write({"id": "old", "_is_merge": True, "output": "scored"})
    world.fail("new")
    world.look()
    assert world.counts() == [1]


def test_what_is_stored_while_it_is_paused_does_not_count(world):
    world.put()
    world.put(status="paused")
    world.fail("a", "b")
    world.look()
    world.put()
    world.look()
    assert world.counts() == []
    world.fail("c")
    world.look()
    assert world.counts() == [1]


def test_what_it_had_collected_waits_while_it_is_paused(world):
    world.put(interval_seconds=60)
    world.fail("a")
    world.look()
    world.end(delivered=True)
    world.fail("b", "c")
    world.look()
    world.put(interval_seconds=60, status="paused")
    world.age(600)
    world.look()
    assert world.counts() == [1]
    assert world.value("due_at") is None
    world.put(interval_seconds=60)
    world.look()
    assert world.counts() == [1, 2]


def test_another_filter_reports_what_the_former_collected_and_counts_anew(world):
    world.put(interval_seconds=60)
    world.fail("a")
    world.look()
    world.end(delivered=True)
    world.fail("b")
    world.look()
    world.fail("c", error="y")
    world.put(interval_seconds=60, btql_filter="error = 'y'")
    world.fail("d", error="y")
    world.look()
    world.age(600)
    world.look()
    assert world.counts() == [1, 2]


def test_another_interval_moves_the_time_at_which_it_is_due(world):
    world.put(interval_seconds=HOUR_S)
    world.fail("a")
    world.look()
    world.end(delivered=True)
    world.fail("b")
    world.look()
    due = world.value("due_at")
    world.put(interval_seconds=2 * HOUR_S)
    assert world.value("due_at") - due == timedelta(hours=1)


def test_a_change_that_concerns_nothing_watched_goes_on_watching(world):
    world.put()
    watch = world.value("watch_no")
    world.look()
    world.put(interval_seconds=5, action=SLACK)
    assert (world.value("watch_no"), world.value("has_baseline")) == (watch, True)
    world.put(btql_filter="error = 'y'")
    assert (world.value("watch_no") == watch, world.value("has_baseline")) == (False, False)


def test_what_is_equal_changes_nothing(world):
    made = world.put()
    before = world.revision()
    world.put()
    world.automations.change_automation(
        made, lambda _: written(fields(btql_filter="error = 'x'", name="a"))
    )
    assert world.revision() == before
    world.put(interval_seconds=5)
    assert world.revision() == before + 1


def test_one_that_was_disabled_goes_on_without_its_past(world):
    made = world.put()
    with world.database.cursor() as cursor:
        cursor.execute(
            "update automation_state set failing_since = now(), failed_attempts = 12"
        )
        ((number, url),) = world.rows(
            "select automation_no, config -> 'action' ->> 'url' from automation"
        )
        assert disable(cursor, number, "410", url=url)
    org = world.org_id
    found = world.automations.find_automation(org, made.id)
    assert (found.status, found.disabled_reason) == ("paused", "410")
    world.fail("a")
    world.put()
    world.look()
    found = world.automations.find_automation(org, made.id)
    assert (found.status, found.disabled_at, found.disabled_reason) == ("active", None, None)
    assert (world.value("failing_since"), world.value("failed_attempts")) == (None, 0)
    world.fail("b")
    world.look()
    assert world.counts() == [1]


def test_a_deleted_one_takes_its_deliveries_with_it_and_leaves_those_of_others(world):
    gone, kept = world.put("gone"), world.put("kept")
    world.fail("a")
    world.look()
    assert len(world.notifications()) == 2
    world.automations.delete_automations(world.where.project_id, [gone.id])
    assert [each.name for each in world.notifications()] == ["kept"]
    assert world.rows("select active from automation_project") == [(1,)]
    other, _ = world.projects.get_or_create_project(
        world.org_id, ProjectId(uuid.uuid4()), "other", None
    )
    world.automations.delete_automations(other.id, [kept.id])
    assert [each.name for each in world.notifications()] == ["kept"]


def test_those_who_make_one_name_at_once_get_one_automation(world):
    def make(_: int) -> tuple[Automation, bool]:
        def write(given: Any, present: Automation | None) -> AutomationWrite:
            return written(given)

        ((made, existed),) = world.automations.put_automations(
            world.where.project_id, [fields("one")], write, created_by="a key", replace=False
        )
        return made, existed

    with ThreadPoolExecutor(4) as threads:
        done: Sequence[tuple[Automation, bool]] = list(threads.map(make, range(4)))
    assert len({made.id for made, _ in done}) == 1
    assert sorted(existed for _, existed in done) == [False, True, True, True]
    assert world.rows("select active, revision from automation_project") == [(1, 1)]
