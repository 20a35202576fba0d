"""Looks at what changed, on PostgreSQL: what they count, and what they cost."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from store_behaviours.scoring import ended, record
from watched_world import WatchedWorld, watched_world

from flows.automations.evaluate import NoLook, examine
from ops.servers.children import wait_until
from spans.errors import StoreUnavailable
from store.automations.looks import Looks
from store.postgres.database import Database

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[WatchedWorld]:
    with watched_world(fresh_database_url) as world:
        yield world


def test_a_first_match_forms_a_notification_over_the_interval_that_ends_now(world):
    world.watch("error is not null", 3600)
    world.write({"id": "a", "error": "out of memory"}, {"id": "b"})
    before = datetime.now(UTC)
    world.look()
    (sent,) = world.notifications()
    assert (sent.matches, sent.state) == (1, "pending")
    assert sent.time_end - sent.time_start == timedelta(hours=1)
    assert abs(sent.time_end - before) < timedelta(minutes=1)


def test_a_computed_score_that_comes_late_makes_its_row_match(world):
    world.watch("scores.Levenshtein < 0.9")
    world.rule()
    world.defer("a")
    world.look()
    assert world.counts() == []
    record(world.worker, *world.claim(), value=0.5)
    world.look()
    assert world.counts() == [1]


def test_a_row_counts_again_once_the_filter_was_false_in_between(world):
    world.watch("scores.x < 0.5", 1)
    for score, counted in ((0.1, [1]), (0.2, [1]), (0.9, [1]), (0.3, [1, 1])):
        world.write({"id": "a", "scores": {"x": score}})
        world.look()
        assert world.counts() == counted
        if world.notifications()[-1].state == "pending":
            world.end(delivered=True)
        world.age(5)


def test_score_spans_are_not_watched(world):
    world.watch("")
    world.rule()
    world.write(ended("a"))
    world.match()
    world.look()
    assert world.counts() == [1]


def test_a_row_without_its_base_waits_for_it(world):
    world.watch("", 1)
    world.write({"id": "a", "_is_merge": True, "output": "x"})
    world.look()
    assert world.counts() == []
    world.write({"id": "a", "input": "y"})
    world.look()
    assert world.counts() == [1]


def test_two_processes_that_look_at_once_count_each_match_once(world, fresh_database_url):
    world.watch("")
    others = [Database(fresh_database_url) for _ in range(3)]
    looks = [world.looks, *(Looks(each, app_url="") for each in others)]
    is_over = threading.Event()

    def keep_looking(one: Looks) -> None:
        while not is_over.is_set():
            world.look(one)

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(keep_looking, one) for one in looks]
        for number in range(40):
            world.write({"id": f"r{number}"})
        is_over.set()
        for each in running:
            each.result()
    world.look()
    ((collected,),) = world.rows("select collected from automation_state")
    assert sum(world.counts()) + collected == 40
    for each in others:
        each.close()


def test_a_look_whose_process_dies_leaves_nothing_and_is_done_again(
    world, fresh_database_url
):
    world.watch("")
    world.write({"id": "a"})
    dying = Database(fresh_database_url)
    with pytest.raises(StoreUnavailable):
        look_and_die(world, dying)
    dying.close()
    assert world.rows("select from evaluation") == []
    world.look()
    assert world.counts() == [1]


def look_and_die(world: WatchedWorld, dying: Database) -> None:
    """A look that has written all it found when its process dies. No other looks meanwhile."""
    with Looks(dying, app_url="").look(world.where.project_id) as look:
        assert not isinstance(look, NoLook)
        look.write(examine(look, lambda _: uuid.uuid4()))
        assert world.look() == 0
        world.rows(
            """select pg_terminate_backend(pid) from pg_stat_activity
                where application_name like %s""",
            f"%{dying.owner}",
        )


def test_no_change_is_missed_that_commits_after_a_later_version_was_read(
    world, fresh_database_url
):
    world.watch("")
    with psycopg.connect(fresh_database_url.replace("+psycopg", "")) as holder:
        world.write({"id": "first"})
        world.look()
        holder.execute("select from span_head for no key update")
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(world.write, {"id": "first", "input": 1}, {"id": "second"})
            world.await_locks(1)
            world.write({"id": "third"})
            world.look()
            holder.rollback()
            late.result()
    world.look()
    ((collected,),) = world.rows("select collected from automation_state")
    assert sum(world.counts()) + collected == 3


def test_after_an_outage_the_window_begins_where_the_last_one_ended(world):
    world.watch("", 60)
    world.write({"id": "a"})
    world.look()
    world.end(delivered=True)
    world.age(100)
    world.write({"id": "b"})
    world.age(200)   # nobody looked
    world.write({"id": "c"})
    world.look()
    first, second = world.notifications()
    assert second.matches == 2
    assert second.time_start == first.time_end


def test_a_row_that_came_just_now_after_a_quiet_time_is_reported_over_one_interval(world):
    world.watch("", 60)
    world.write({"id": "a"})
    world.look()
    world.end(delivered=True)
    world.age(3600)
    world.looks.mark_time()   # as every ring does, also while nothing comes
    world.write({"id": "b"})
    world.look()
    _, second = world.notifications()
    assert second.time_end - second.time_start == timedelta(seconds=60)


def test_a_row_that_is_read_late_counts_from_the_time_at_which_it_was_stored(world):
    world.watch("", 3600)
    world.look()
    world.write({"id": "a"})

    def is_marked() -> bool:
        world.looks.mark_time()
        return bool(world.rows(
            """select where (select max(xact) from version_time)
                         >= (select max(xact) from span_head)"""
        ))

    assert wait_until(is_marked, deadline_s=30)
    world.age(8)   # others were looked at meanwhile
    world.look()
    ((age_s,),) = world.rows("select extract(epoch from now() - first_at) from delivery")
    assert 7.5 < age_s < 60


def test_times_are_the_same_in_a_database_of_another_time_zone(world, fresh_database_url):
    with world.database.cursor() as cursor:
        cursor.execute("select current_database()")
        ((name,),) = cursor.fetchall()
        cursor.execute(f"alter database \"{name}\" set timezone = 'Asia/Kathmandu'".encode())
    elsewhere = Database(fresh_database_url)
    world.watch("", 3600)
    world.write({"id": "a"})
    world.look(Looks(elsewhere, app_url="http://tallyard"))
    elsewhere.close()
    (sent,) = world.notifications()
    assert abs(sent.time_end - datetime.now(UTC)) < timedelta(minutes=1)
    ((body,),) = world.rows("select convert_from(body, 'UTF8') from delivery")
    assert f"{sent.time_end.astimezone(UTC):%Y-%m-%dT%H:%M}" in body


def test_looks_that_match_nothing_share_a_row_of_the_history(world):
    world.watch("error is not null")
    for number in range(3):
        world.write({"id": f"r{number}"})
        world.look()
    assert world.rows("select looks, rows_read, automations from evaluation") == [(3, 3, 1)]
    world.write({"id": "a", "error": "x"})
    world.look()
    ((matches, decisions),) = world.rows(
        "select matches, decisions from evaluation where automation_nos <> '{}'"
    )
    assert (matches, decisions) == ([1], ["fired"])


def test_rows_that_matched_before_an_automation_was_made_do_not_count(world):
    world.write({"id": "a", "error": "x"}, {"id": "b"})
    world.watch("error is not null")
    world.look()
    world.write({"id": "a", "error": "x", "input": 1}, {"id": "b", "error": "y"})
    world.look()
    assert world.counts() == [1]


def test_deleted_rows_are_forgotten(world):
    world.watch("")
    world.write({"id": "a"})
    world.look()
    assert len(world.rows("select from watched_row")) == 1
    world.write({"id": "a", "_object_delete": True})
    world.look()
    assert world.rows("select from watched_row") == []


def test_a_deleted_project_is_not_looked_at(world):
    world.watch("")
    world.write({"id": "a"})
    world.delete_project()
    world.look()
    assert world.rows("select from delivery") == []


def test_another_project_is_served_after_one_slice_of_one_that_has_much(world):
    for number in range(100):
        world.watch(f"metadata.n = {number}", name=str(number))
    world.look()
    world.write(*({"id": f"r{number}"} for number in range(1500)))
    other = WatchedWorld(world.url, project="other")
    other.watch("")
    other.write({"id": "a"})
    ticks = itertools.count()   # the time is up after each project was looked at once
    world.evaluator().evaluate_all(seconds=lambda: float(next(ticks)), stop_after_s=1.5)
    assert len(other.rows("select from delivery where project_id = %s", other.where[0])) == 1
    ((left,),) = world.rows(
        """select count(*) from automation_project project
             join span_head using (object_no)
            where project_id = %s and (xact, seq) > (read_xact, read_seq)""",
        world.where.project_id,
    )
    assert left >= 1000
    other.close()


def test_a_project_whose_filters_take_long_to_compile_is_looked_at_in_the_same_stint(
    fresh_database_url, monkeypatch
):
    monkeypatch.setattr("store.automations.looks.COMPILE_S", 0.0)   # one filter in each look
    with watched_world(fresh_database_url) as world:
        for number in range(5):
            world.watch(f"metadata.compiled_late = 'n{number}'", name=str(number))
        world.write({"id": "a", "metadata": {"compiled_late": "n3"}})
        world.look()
        assert world.counts() == [1]


def test_a_clock_that_is_set_back_keeps_no_match_longer_than_one_interval(world):
    world.watch("", 60)
    world.write({"id": "a"})
    world.look()
    world.end(delivered=True)
    world.write({"id": "b"})
    world.look()
    world.age(-86_400)   # all that is kept lies a day ahead now
    world.look()
    world.age(61)
    world.look()
    assert world.counts() == [1, 1]
