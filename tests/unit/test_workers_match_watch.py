"""The watch of the match queue: what is rung for, and when a process waits for company."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.scoring.match import ROWS_PER_CLAIM, MatchCount
from spans.errors import Contended, StoreUnavailable
from spans.queues import JUDGE, MATCH
from workers.match_watch import FEW_ROWS, LOOK_EVERY_S, WATCH_S, MatchWatch

MATCHING_S = 0.01


class World:
    """A queue with these claims in it, matched by one process, whose time passes by itself.

    `other_is_awake`: another process stays awake. `happened` lists what the process did.
    """

    def __init__(self, *claims: int | Exception, other_is_awake: bool = False) -> None:
        self.claims: Iterator[int | Exception] = iter(claims)
        self.other_is_awake = other_is_awake
        self.queues: frozenset[str] = frozenset()
        self.happened: list[str] = []
        self.pauses_s: list[float] = []
        self.now_s = 0.0
        self.rows = 0

    def run(self) -> None:
        MatchWatch(
            match=self.match, release=lambda: self.happened.append("release"),
            matched=self.matched, bell=self, seconds=lambda: self.now_s, pause=self.pause,
        ).run()

    def match(self) -> MatchCount:
        self.now_s += MATCHING_S
        claim = next(self.claims, 0)
        if isinstance(claim, Exception):
            raise claim
        self.happened.append(str(claim))
        return MatchCount(rows=claim, queues=self.queues)

    def matched(self, rows: int) -> None:
        self.rows += rows

    def pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds

    def ring(self, queue: str) -> None:
        self.happened.append(f"ring {queue}")

    def stay_awake(self, queue: str) -> bool:
        assert queue == MATCH
        self.happened.append("awake")
        return not self.other_is_awake

    def fall_asleep(self, queue: str) -> None:
        assert queue == MATCH
        self.happened.append("asleep")


def test_a_process_that_finds_nothing_ends_without_staying_awake() -> None:
    world = World()
    world.run()
    assert world.happened == ["0"]


def test_after_few_rows_a_process_waits_for_company_and_looks_once_more_at_the_end() -> None:
    world = World(3, 2, 0, 0)
    world.run()
    assert world.happened == ["3", "awake", "2", "awake", "0", "asleep", "0"]
    assert world.pauses_s == pytest.approx([LOOK_EVERY_S - MATCHING_S] * 2)
    assert world.rows == 5


def test_rows_that_came_as_the_process_fell_asleep_are_matched() -> None:
    world = World(1, 0, 4)
    world.run()
    assert world.rows == 5


def test_a_claim_of_many_rows_is_followed_by_the_next_at_once() -> None:
    world = World(FEW_ROWS, ROWS_PER_CLAIM - 1)
    world.run()
    assert world.pauses_s == []


def test_rings_arrive_while_much_comes_so_that_other_processes_help() -> None:
    world = World(1, FEW_ROWS, 1)
    world.run()
    assert world.happened == [
        "1", "awake", str(FEW_ROWS), "asleep", "1", "awake", "0", "asleep", "0"
    ]


def test_a_process_leaves_few_rows_to_the_one_that_is_awake() -> None:
    world = World(3, 2, other_is_awake=True)
    world.run()
    assert world.happened == ["3", "awake"]


def test_a_full_claim_rings_for_help_even_if_this_process_was_awake() -> None:
    world = World(1, ROWS_PER_CLAIM)
    world.run()
    assert world.happened == ["1", "awake", str(ROWS_PER_CLAIM), "asleep", "ring match", "0"]


def test_queues_that_got_outcomes_are_rung_at_once() -> None:
    world = World(1, other_is_awake=True)
    world.queues = frozenset({JUDGE})
    world.run()
    assert world.happened == ["1", "ring judge", "awake"]


def test_a_watch_ends_in_time_and_its_ring_arrives() -> None:
    world = World(*[1] * 1000)
    world.run()
    assert world.happened[-2:] == ["asleep", "ring match"]
    assert WATCH_S < world.now_s < WATCH_S + 2 * LOOK_EVERY_S


def test_a_claim_that_lost_to_another_worker_is_released_and_tried_again() -> None:
    world = World(Contended("lost"), 1, other_is_awake=True)
    world.run()
    assert world.happened == ["release", "1", "awake"]


def test_a_process_that_fails_while_awake_lets_rings_arrive_again() -> None:
    world = World(1, StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        world.run()
    assert world.happened == ["1", "awake", "asleep"]
