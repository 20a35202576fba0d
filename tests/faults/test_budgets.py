"""A budget is never passed, whoever dies and however the judge behaves, and loses nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from budget_worker import ANSWER_TOKENS_MAX, PRICES
from fakes.judge import Call, FakeJudge
from store_behaviours.budgets import put, statuses
from stored_world import StoredWorld, opened_world

from ops.servers.children import wait_until
from rules.budgets.model import Period

TESTS = Path(__file__).parents[1]
START = """
import sys
sys.path[:0] = sys.argv[1:3]
from budget_worker import main
main(sys.argv[3], sys.argv[4], int(sys.argv[5]))
"""
PROCESSES, WORKERS_EACH = 4, 4
ROWS = 160
SEED = 7
BEHAVIOURS = (
    "ok", "ok", "ok;delay=0.4", "uncounted", "hang;times=1", "500;times=1", "429;times=1",
)
"""How the judge answers: at once, late, without usage, not at all the first time, or with an
error that time heals."""

DEADLINE_S = 60.0
HELD = """
    select count(*) from outcome
     where state = 'pending' and starts_with(queue, 'held:budget:')
"""
OTHER_PENDING = """
    select count(*) from outcome
     where state = 'pending' and not starts_with(queue, 'held:budget:')
"""
AT_WORK = "select count(*) from outcome where state = 'pending' and owner is not null"
STATES = "select state, error_class, count(*) from outcome group by 1, 2"
SCORED_ONCE = """
    select count(*) from span_head where computed_by is not null and computed_scores is not null
"""


def by_hand(call: Call) -> int:
    """What the judge charges for a call that it has got, whether or not it answers."""
    return len(call.prompt) // 4 * 2000 + 7 * 8000


def dearest(call: Call) -> int:
    """What the call may have cost, by what was sent."""
    assert call.body["max_tokens"] == ANSWER_TOKENS_MAX
    return PRICES.dearest(len(call.raw), ANSWER_TOKENS_MAX)


class Crew:
    """Processes with workers in them, which a test kills and starts again."""

    def __init__(self, database_url: str, judge_url: str) -> None:
        self._arguments = [
            sys.executable, "-c", START, str(TESTS), str(TESTS.parent), database_url,
            judge_url, str(WORKERS_EACH),
        ]
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, number: int) -> None:
        new = [
            subprocess.Popen(self._arguments, stdout=subprocess.PIPE, text=True)
            for _ in range(number)
        ]
        for one in new:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
            one.stdout.close()
        self.processes += new

    def kill(self, number: int) -> None:
        for _ in range(number):
            one = self.processes.pop(0)
            one.send_signal(signal.SIGKILL)
            one.wait()

    def end(self) -> None:
        self.kill(len(self.processes))


def kill_some_at_work(world: StoredWorld, crew: Crew) -> None:
    """Kill half of the processes, while outcomes are claimed, and start as many."""
    assert wait_until(
        lambda: world.rows(AT_WORK) > [(4,)], deadline_s=DEADLINE_S
    ), world.rows(STATES)
    crew.kill(PROCESSES // 2)
    crew.start(PROCESSES // 2)


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[StoredWorld]:
    with opened_world(fresh_database_url) as world:
        yield world


@pytest.fixture
def judge() -> Iterator[FakeJudge]:
    with FakeJudge() as own:
        yield own


def test_a_cap_of_sixteen_workers_is_never_passed_and_nothing_that_it_held_is_lost(
    world: StoredWorld, judge: FakeJudge
) -> None:
    rule = world.rule("judged", "Factuality")
    dice = random.Random(SEED)
    world.write(*(
        {
            "id": f"row {number}", "input": f"{number} judge!{dice.choice(BEHAVIOURS)}",
            "output": "a", "expected": "b", "metrics": {"start": 1.0, "end": 2.0},
        }
        for number in range(ROWS)
    ))
    world.match()
    one = 3_600_000   # about what one call may cost, and four times what it costs
    cap = ROWS // 4 * one
    put(world, money=cap)
    put(world, rule=uuid.UUID(str(rule)), calls=10 * ROWS, period=Period.DAY)
    passed: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            money = statuses(world)[0].use.money
            spent = sum(map(by_hand, list(judge.calls)))
            if max(money, spent) > cap:
                passed.append(max(money, spent))

    watcher = threading.Thread(target=watch)
    watcher.start()
    crew = Crew(world.url, judge.url)
    try:
        crew.start(PROCESSES)
        kill_some_at_work(world, crew)
        assert wait_until(
            lambda: world.rows(OTHER_PENDING) == [(0,)], deadline_s=DEADLINE_S
        ), world.rows(STATES)
        ((held,),) = world.rows(HELD)
        calls = list(judge.calls)

        is_over.set()
        watcher.join()
        assert passed == []
        assert 0 < held < ROWS
        assert sum(map(by_hand, calls)) <= cap
        money = statuses(world)[0]
        assert money.held == held
        assert money.use.money <= cap
        assert cap - money.use.money < max(map(dearest, calls))   # it was used as far as can be

        put(world, money=100 * ROWS * one)
        kill_some_at_work(world, crew)
        assert wait_until(
            lambda: world.rows("select count(*) from outcome where state = 'pending'")
            == [(0,)], deadline_s=DEADLINE_S,
        ), world.rows(STATES)
    finally:
        is_over.set()
        watcher.join()
        crew.end()

    assert world.rows(STATES) == [("completed", None, ROWS)]
    assert world.rows(SCORED_ONCE) == [(ROWS,)]
    assert len(world.score_spans()) == ROWS
    assert sum(map(by_hand, judge.calls)) <= statuses(world)[0].use.money
