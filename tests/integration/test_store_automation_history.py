"""What automations have found and sent, and the rows that tests of them read, on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from store_behaviours.scoring import ended, record
from watched_world import WatchedWorld, watched_world

from flows.automations.evaluate import Evaluated
from flows.automations.history import DeliveryEntry, History, LookEntry, read_history
from spans.ids import AutomationId
from store.automations.dated_rows import DatedRows
from store.automations.evaluations import Evaluations

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[WatchedWorld]:
    with watched_world(fresh_database_url) as world:
        yield world


def id_of(world: WatchedWorld, number: int) -> AutomationId:
    ((found,),) = world.rows("select id from automation where automation_no = %s", number)
    return AutomationId(found)


def history(world: WatchedWorld, number: int, **asked: Any) -> History:
    found = read_history(
        Evaluations(world.database), id_of(world, number), **{
            "limit": 100, "cursor": None, **asked,
        },
    )
    assert found is not None
    return found


def told(found: History) -> list[tuple[str, int]]:
    """The kind of each entry with its number of matches."""
    return [
        ("look" if isinstance(each, LookEntry) else each.state, each.matches)
        for each in found.entries
    ]


def test_each_look_and_each_notification_is_told_newest_first(world):
    number = world.watch("error is not null", 3600)
    world.watch("input = 1", name="other")
    world.write({"id": "a"})
    world.look()
    world.write({"id": "b", "error": "x"})
    world.look()
    world.end(delivered=True)
    world.write({"id": "c", "error": "y"}, {"id": "d", "error": "z"})
    world.look()

    found = history(world, number)
    assert sorted(told(found)) == [
        ("delivered", 1), ("look", 0), ("look", 1), ("look", 2),
    ]
    newest, *_, oldest = found.entries
    assert isinstance(newest, LookEntry)
    assert newest.decision is Evaluated.COLLECTED
    assert newest.due_at == found.present.due_at
    assert found.present.collected == 2
    assert isinstance(oldest, LookEntry)
    assert (oldest.decision, oldest.rows_read) == (None, 1)
    (fired,) = [each for each in found.entries if getattr(each, "decision", "") == "fired"]
    (sent,) = [each for each in found.entries if isinstance(each, DeliveryEntry)]
    assert fired.delivery_id == sent.id


def test_looks_that_only_others_matched_are_told_as_one(world):
    number = world.watch("error is not null")
    world.watch("", name="other")
    for row_id in "abc":
        world.write({"id": row_id})
        world.look()

    (entry,) = history(world, number).entries
    assert isinstance(entry, LookEntry)
    assert (entry.looks, entry.rows_read, entry.matches) == (3, 3, 0)


def test_what_waits_for_a_notification_on_its_way_names_it(world):
    number = world.watch("", 1)
    world.write({"id": "a"})
    world.look()
    world.write({"id": "b"})
    world.look()

    found = history(world, number)
    (waiting,) = [each for each in found.entries if getattr(each, "decision", "") == "retrying"]
    assert found.present.sending is not None
    assert waiting.delivery_id == found.present.sending.id
    assert "waits for the one on its way" in " ".join(found.present.sentences())


def test_the_last_error_of_a_delivery_is_told(world):
    number = world.watch("")
    world.write({"id": "a"})
    world.look()
    with world.database.cursor() as cursor:
        cursor.execute(
            """insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint,
                                             run_ms, status, error_class, error_message)
               select id, place, project_id, '', 1, 500, 'refused', 'status 50' || place
                 from delivery cross join generate_series(1, 2) place"""
        )
        cursor.execute("update delivery set attempt_no = 2, attempts = 2")

    sending = history(world, number).present.sending
    assert sending is not None
    assert (sending.attempts, sending.last_error) == (2, "status 502")


def test_pages_of_the_history_tell_everything_once(world):
    number = world.watch("error is not null", 1)
    for n in range(6):
        world.write({"id": f"{n}", "error": "x"}, {"id": f"quiet {n}"})
        world.look()
        world.write({"id": f"more {n}"})
        world.look()
    world.end(delivered=True)

    whole = history(world, number)
    pages, cursor = [], None
    while True:
        page = history(world, number, limit=2, cursor=cursor)
        pages += page.entries
        if (cursor := page.cursor) is None:
            break
    assert [str(entry) for entry in pages] == [str(entry) for entry in whole.entries]
    assert len(pages) == 13   # a look with matches and one without, six times; a delivery


def test_a_new_automation_is_not_told_what_came_before_it(world):
    world.watch("", name="old")
    world.write({"id": "a"})
    world.look()
    number = world.watch("", name="new")

    assert history(world, number).entries == ()
    unknown = AutomationId(uuid.uuid4())
    assert read_history(Evaluations(world.database), unknown, limit=1, cursor=None) is None


# --- stored rows


def rows_of(world: WatchedWorld, *columns: str) -> list[Any]:
    pages = DatedRows(world.database).newest(world.where, frozenset(columns))
    return [row for page in pages for row in page]


def test_rows_are_read_by_the_time_at_which_they_were_created(world):
    for row_id, hour in (("a", 3), ("b", 1), ("c", 2)):
        world.write({"id": row_id, "input": row_id, "created": f"2026-05-01T0{hour}:00:00Z"})
    found = rows_of(world, "input")
    assert [(row.id, row.view["input"]) for row in found] == [
        ("a", "a"), ("c", "c"), ("b", "b")
    ]
    assert found[0].created == datetime(2026, 5, 1, 3, tzinfo=UTC)


def test_score_spans_deleted_rows_and_rows_without_a_base_are_left_out(world):
    world.rule()
    world.defer("scored")
    record(world.worker, *world.claim(), value=0.5)
    world.write(
        {"id": "gone"}, {"id": "half", "_is_merge": True, "output": 1}, ended("whole"),
    )
    world.write({"id": "gone", "_object_delete": True})
    assert {row.id for row in rows_of(world)} == {"scored", "whole"}


def test_every_row_is_read_once_however_many_pages_there_are(world):
    world.write(*(
        {"id": f"{n}", "created": f"2026-05-01T00:00:0{n % 2}Z"} for n in range(2100)
    ))
    found = [row.id for row in rows_of(world)]
    assert len(found) == len(set(found)) == 2100


def test_a_row_was_scored_when_its_last_outcome_ended(world):
    world.rule()
    world.defer("a")
    before = datetime.now(UTC) - timedelta(minutes=1)
    record(world.worker, *world.claim(), value=0.5)
    world.write({"id": "b"})
    by_id = {row.id: row.seq for row in rows_of(world)}
    found = DatedRows(world.database).scored_at(list(by_id.values()))
    assert found.keys() == {by_id["a"]}
    assert found[by_id["a"]] > before
