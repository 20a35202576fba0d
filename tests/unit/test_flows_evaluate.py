"""What a look at a project's changes counts, and when it forms a notification."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest
from fakes.memory.looks import BEGAN, MemoryLooks, delivery_id

from flows.automations.evaluate import (
    NOTIFICATIONS_PER_LOOK,
    ROWS_PER_LOOK,
    ROWS_PER_LOOK_MIN,
    Evaluated,
    Evaluator,
    rows_per_look,
)


class Evaluation:
    def __init__(self) -> None:
        self.logs = MemoryLooks()
        self.rings = 0

    def look(self) -> int:
        def ring() -> None:
            self.rings += 1

        evaluator = Evaluator(store=self.logs, ring=ring, new_id=delivery_id)
        return evaluator.evaluate_all(seconds=lambda: 0.0, stop_after_s=10)

    def counts(self) -> list[int]:
        return [report.matches for report in self.logs.reports()]


@pytest.fixture
def world():
    return Evaluation()


def test_the_first_match_is_notified_at_once(world):
    world.logs.watch("error is not null")
    world.logs.write(1, {"error": "out of memory"})
    world.look()
    (report,) = world.logs.reports()
    assert (report.matches, report.time_end) == (1, BEGAN)
    assert report.time_start == BEGAN - timedelta(seconds=60)
    assert world.rings == 1


def test_what_does_not_match_leaves_an_evaluation_and_nothing_else(world):
    world.logs.watch("error is not null")
    world.logs.write(1, {"error": None})
    world.look()
    assert world.counts() == []
    assert world.logs.evaluations == [(BEGAN, 1, [])]


def test_later_matches_are_collected_and_sent_once_when_the_interval_ends(world):
    no = world.logs.watch(interval_s=60)
    world.logs.write(1, {})
    world.look()
    world.logs.end(no, delivered=True)
    for seq in (2, 3):
        world.logs.pass_time(10)
        world.logs.write(seq, {})
        world.look()
    assert world.counts() == [1]
    (decided,) = world.logs.evaluations[-1][2]
    assert decided.decision is Evaluated.COLLECTED
    assert decided.due_at == BEGAN + timedelta(seconds=60)
    world.logs.pass_time(40)
    world.look()
    assert world.counts() == [1, 2]
    first, second = world.logs.reports()
    assert second.time_start == first.time_end


def test_a_row_counts_once_until_the_filter_was_false(world):
    no = world.logs.watch("scores.x < 0.5", interval_s=1)
    for score in (0.1, 0.2, 0.9, 0.3):
        world.logs.write(1, {"scores": {"x": score}})
        world.look()
        if no in world.logs.on_its_way:
            world.logs.end(no, delivered=True)
        world.logs.pass_time(5)
    world.look()
    assert world.counts() == [1, 1]


def test_a_score_that_comes_late_counts_in_the_window_in_which_it_comes(world):
    world.logs.watch("scores.x < 0.5", interval_s=60)
    world.logs.write(1, {"scores": None})
    world.look()
    world.logs.pass_time(7200)
    world.logs.write(1, {"scores": {"x": 0.1}})
    world.look()
    (report,) = world.logs.reports()
    assert report.time_start == report.time_end - timedelta(seconds=60)


def test_while_a_notification_is_on_its_way_no_other_is_formed(world):
    no = world.logs.watch(interval_s=1)
    world.logs.write(1, {})
    world.look()
    for seq in (2, 3, 4):
        world.logs.pass_time(100)
        world.logs.write(seq, {})
        world.look()
    assert world.counts() == [1]
    assert world.logs.evaluations[-1][2][0].decision is Evaluated.RETRYING
    world.logs.end(no, delivered=True)
    world.look()
    assert world.counts() == [1, 3]
    first, second = world.logs.reports()
    assert second.time_start == first.time_end   # the matches waited longer than an interval


def test_the_matches_of_an_abandoned_notification_are_in_the_next(world):
    no = world.logs.watch(interval_s=60)
    world.logs.write(1, {})
    world.look()
    world.logs.pass_time(3600)
    world.logs.write(2, {})
    world.look()
    world.logs.end(no, delivered=False)
    world.look()
    first, second = world.logs.reports()
    assert second.matches == 2
    assert second.time_start == first.time_start


def test_after_an_outage_there_is_one_catch_up_over_the_gap(world):
    no = world.logs.watch(interval_s=60)
    world.logs.write(1, {})
    world.look()
    world.logs.end(no, delivered=True)
    for seq in range(2, 8):
        world.logs.pass_time(60)
        world.logs.write(seq, {})
    world.look()
    world.look()
    assert world.counts() == [1, 6]
    first, second = world.logs.reports()
    assert (second.time_start, second.time_end) == (first.time_end, world.logs.now)


def test_rows_that_matched_before_the_automation_was_made_do_not_count_again(world):
    world.logs.write(1, {"error": "old"})
    world.logs.write(2, {"error": None})
    world.logs.watch("error is not null")
    world.look()
    world.logs.write(1, {"error": "old", "scores": {"x": 1}})
    world.logs.write(2, {"error": "new"})
    world.look()
    assert world.counts() == [1]


def test_a_row_that_a_scorer_made_matches_nothing(world):
    world.logs.watch("")
    world.logs.write(1, {"span_attributes": {"type": "score"}})
    world.look()
    assert world.counts() == []


def test_a_filter_that_does_not_compile_matches_nothing_and_stops_no_other(world):
    world.logs.watch("this is no filter", name="broken")
    world.logs.watch("", name="good")
    world.logs.write(1, {})
    world.look()
    assert [each.automation_no for each in world.logs.notifications] == [2]


def test_a_clock_that_is_set_back_delays_the_next_notification_by_one_interval_at_most(world):
    no = world.logs.watch(interval_s=60)
    world.logs.write(1, {})
    world.look()
    world.logs.end(no, delivered=True)
    world.logs.pass_time(-86_400)
    world.logs.write(2, {})
    world.look()
    assert world.counts() == [1]
    assert world.logs.due_ats[no] == world.logs.now + timedelta(seconds=60)
    world.logs.pass_time(60)
    world.look()
    assert world.counts() == [1, 1]


def test_many_that_are_due_at_once_are_formed_in_several_looks(world):
    for number in range(NOTIFICATIONS_PER_LOOK + 50):
        world.logs.watch(name=str(number))
    world.logs.write(1, {})
    world.look()
    assert len(world.counts()) == NOTIFICATIONS_PER_LOOK + 50


def test_another_process_that_looks_at_the_project_is_left_alone(world):
    world.logs.watch("")
    world.logs.write(1, {})
    world.logs.is_looked_at = True
    assert world.look() == 0
    assert world.counts() == []


def test_a_deleted_row_counts_again_if_it_comes_again(world):
    no = world.logs.watch("", interval_s=1)
    world.logs.write(1, {})
    world.look()
    world.logs.end(no, delivered=True)
    world.logs.pass_time(5)
    world.logs.write(1, None)
    world.look()
    world.logs.write(1, {})
    world.look()
    assert world.counts() == [1, 1]


def test_the_body_of_a_notification_is_the_documented_one(world):
    world.logs.watch("error is not null", interval_s=3600, name="Errors")
    world.logs.write(1, {"error": "x"})
    world.look()
    body = orjson.loads(world.logs.notifications[0].body)
    assert list(body) == ["organization", "project", "automation", "details"]
    assert body["details"]["message"] == "Errors: 1 log triggered automation in the last 1 hour"


@pytest.mark.parametrize(
    ("tests", "rows"),
    [(0, ROWS_PER_LOOK), (100, 500), (10_000, 5), (10**9, ROWS_PER_LOOK_MIN)],
)
def test_a_look_reads_fewer_rows_the_more_tests_each_takes(tests, rows):
    assert rows_per_look(tests) == rows
