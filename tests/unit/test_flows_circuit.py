"""Circuits: a judge that is down costs no outcome and few calls, and is found again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from fakes.judged_scorers import Judges
from fakes.memory.circuits import MemoryCircuits
from fakes.memory.ticks import START, Ticks
from memory_scoring import MemoryWorld
from store_behaviours.scoring import BUDGET_S, NOTHING_IS_CHEAP, ended

from flows.scoring.circuit import (
    FAILURES_TO_OPEN,
    FIRST_IN_FLIGHT,
    FULL_WAIT_MAX_S,
    PROBE_WAIT_MAX_S,
    CallWindow,
    Circuit,
    Full,
    Gate,
    Gates,
    Held,
    probe_wait_s,
)
from flows.scoring.drain import Drain, Pace
from flows.scoring.judge_executor import JudgeExecutor
from flows.scoring.retry import RetryPolicy
from spans.errors import (
    BadResult,
    JudgeUnavailable,
    RateLimited,
    StoreUnavailable,
    Timeout,
    TransientError,
)
from spans.queues import JUDGE, held_queue
from spans.scoring import ScoringResult
from spans.work import Assignment

HOUR_S = 3_600.0
POLICY = RetryPolicy(budget_s=BUDGET_S, wait_max_s=600.0, spread=lambda: 0.5)


class JudgedWorld(MemoryWorld):
    """A project whose spans wait for judges, and one worker that asks them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.judges = Judges()
        self.rule(scorer="Factuality")
        self.gates = self.new_gates(default=256)

    def new_gates(self, **in_flight_max: int) -> Gates:
        """The gates to endpoints that may have so many calls in flight."""
        return Gates(
            self.circuits, self.clock, loop=self.loop, in_flight_max=in_flight_max
        )

    def wait_for_judge(self, *row_ids: str) -> None:
        """Writes rows whose scorers wait in the queue `judge`."""
        self.write(*(ended(row_id, input="q") for row_id in row_ids))
        self.match(NOTHING_IS_CHEAP)

    def drain(self) -> int:
        """Runs what is due, as a ring has a worker do."""
        def meanwhile() -> int:
            self.gates.tend()
            return 0

        return Drain(
            store=self.worker.ledger, queue=JUDGE, policy=POLICY,
            executor=JudgeExecutor(self.judges, self.gates, loop=self.loop),
            pace=Pace(gather=100_000, gather_s=0.0, renew_s=60.0), meanwhile=meanwhile,
        ).run(stop_after_s=600.0)

    def live(self, seconds: float, *, ring_s: float = 5.0) -> None:
        """Lets the time pass, with a ring every five seconds, as beat rings."""
        until = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < until:
            self.drain()
            self.clock.pass_s(ring_s)

    def states(self) -> Counter[str]:  # type: ignore[override] # of all rows, counted
        return Counter(one.state.value for one in self.scoring.outcomes.values())

    def queues(self) -> Counter[str]:
        return Counter(
            one.queue for one in self.scoring.outcomes.values() if one.is_waiting
        )


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def world(loop: asyncio.AbstractEventLoop) -> JudgedWorld:
    return JudgedWorld(loop)


def names(count: int, name: str = "row") -> list[str]:
    return [f"{name} {number:05}" for number in range(count)]


def unavailable() -> JudgeUnavailable:
    return JudgeUnavailable("503: no healthy upstream")


def test_a_judge_that_is_down_for_an_hour_costs_no_outcome_and_at_most_200_calls(
    world: JudgedWorld,
) -> None:
    world.wait_for_judge(*names(10_000))
    world.judges.down["default"] = unavailable

    world.live(HOUR_S, ring_s=20.0)   # a ring costs the store in memory as much as it holds
    wasted = world.judges.wasted["default"]
    assert world.states() == {"pending": 10_000}
    world.judges.down.clear()
    # The outcomes that have failed wait for their own time.
    world.live(2 * PROBE_WAIT_MAX_S + 600.0, ring_s=20.0)

    assert world.states() == {"completed": 10_000}
    assert wasted <= 200, wasted
    assert world.judges.wasted["default"] == wasted


@pytest.mark.parametrize("error", [
    unavailable, lambda: Timeout("no answer"), lambda: RateLimited("slow down"),
    lambda: RateLimited("slow down", retry_after_s=20.0),
])
def test_whatever_keeps_a_judge_from_answering_opens_its_circuit(
    world: JudgedWorld, error: Callable[[], TransientError]
) -> None:
    world.wait_for_judge(*names(500))
    world.judges.down["default"] = error

    world.drain()

    assert world.judges.wasted["default"] <= FIRST_IN_FLIGHT
    assert [one.endpoint for one in world.circuits.present()] == ["default"]
    assert world.queues()[held_queue("default")] >= 500 - FIRST_IN_FLIGHT


def test_another_judge_is_asked_as_before(world: JudgedWorld) -> None:
    world.gates = world.new_gates(default=256, other=256)
    world.wait_for_judge(*names(300), *names(300, "other"))
    world.judges.down["default"] = unavailable

    world.live(60.0)

    assert world.states() == {"pending": 300, "completed": 300}
    assert world.judges.calls["other"] == 300


def test_a_judge_with_few_places_leaves_those_of_the_others_free(world: JudgedWorld) -> None:
    world.gates = world.new_gates(default=256, other=1)
    world.wait_for_judge(*names(600, "other"))
    world.wait_for_judge(*names(300))

    world.drain()

    assert world.judges.calls["default"] == 300
    assert world.judges.calls["other"] < 300
    late = [one for one in world.scoring.outcomes.values() if one.is_waiting]
    assert {one.attempts for one in late} == {0}
    assert {one.failing_since for one in late} == {None}

    for _ in range(100):
        world.live(60.0, ring_s=10.0)
    assert world.states() == {"completed": 900}


def test_held_outcomes_count_no_attempt(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(500))
    world.judges.down["default"] = unavailable

    world.live(60.0)

    attempts = Counter(
        one.attempts for one in world.scoring.outcomes.values()
        if one.queue == held_queue("default")
    )
    assert attempts[0] >= 500 - world.judges.wasted["default"]


def test_a_judge_that_answers_some_calls_is_not_held_to_be_down(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(400))
    turn = iter(range(10_000))

    class EverySecond(Judges):
        async def score(self, assignment: Assignment) -> ScoringResult:
            if next(turn) % 2:
                self.begin_call("default")
                raise unavailable()
            return await super().score(assignment)

    world.judges = EverySecond()

    world.live(1_800.0)

    assert world.circuits.present() == []
    assert world.states() == {"completed": 400}


def test_outcomes_that_always_fail_do_not_keep_the_judge_from_the_others(
    world: JudgedWorld,
) -> None:
    class Choosy(Judges):
        async def score(self, assignment: Assignment) -> ScoringResult:
            self.begin_call("default")
            if assignment.subject.key.id.startswith("bad"):
                raise Timeout("no answer")
            return await super().score(assignment)

    world.judges = Choosy()
    world.wait_for_judge(*names(50, "bad"))
    world.drain()
    assert world.circuits.present() != []
    world.wait_for_judge(*names(500))

    world.live(HOUR_S, ring_s=20.0)

    assert world.states() == {"completed": 500, "pending": 50}


@pytest.mark.parametrize("uncalled", ["cached", "lacking"])
def test_outcomes_that_need_no_call_do_not_keep_a_dead_judges_circuit_closed(
    world: JudgedWorld, uncalled: str
) -> None:
    world.wait_for_judge(*(
        f"{name} {number:05}" for number in range(500) for name in ("row", uncalled)
    ))
    world.judges.down["default"] = unavailable

    world.drain()

    assert world.judges.wasted["default"] <= FIRST_IN_FLIGHT
    assert world.circuits.present() != []


@pytest.mark.parametrize("uncalled", ["cached", "lacking"])
def test_a_probe_that_made_no_call_leaves_the_circuit_open_and_another_follows_at_once(
    world: JudgedWorld, uncalled: str
) -> None:
    world.wait_for_judge(*names(200))
    world.judges.down["default"] = unavailable
    world.drain()
    before = world.judges.calls["default"]
    world.wait_for_judge(f"{uncalled} 1")
    for outcome in world.scoring.outcomes.values():
        outcome.attempts += outcome.queue == held_queue("default")   # it is tried least
    world.clock.pass_s(6.0)

    world.drain()
    assert world.circuits.present() != []
    assert world.judges.calls["default"] == before

    world.clock.pass_s(1.0)
    world.drain()
    assert world.judges.calls["default"] == before + 1


def test_an_error_of_the_store_says_nothing_of_the_judge(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(100))
    world.judges.down["default"] = lambda: StoreUnavailable("away")

    world.drain()

    assert world.circuits.present() == []


def test_a_verdict_that_cannot_be_read_is_an_answer_and_closes_the_circuit(
    world: JudgedWorld,
) -> None:
    world.wait_for_judge(*names(100))
    world.judges.down["default"] = unavailable
    world.drain()
    assert world.circuits.present() != []

    world.judges.down["default"] = lambda: BadResult("no choice")
    world.live(60.0)

    assert world.circuits.present() == []
    assert world.states() == {"errored": 100}


def test_outcomes_end_as_errored_with_the_circuits_reason_after_the_budget(
    world: JudgedWorld,
) -> None:
    world.wait_for_judge(*names(50))
    world.judges.down["default"] = unavailable
    world.drain()
    world.clock.pass_s(BUDGET_S - 60.0)
    world.drain()
    assert world.states() == {"pending": 50}

    world.clock.pass_s(120.0)
    for _ in range(3):
        world.drain()
        world.clock.pass_s(600.0)

    assert world.states() == {"errored": 50}
    assert {
        (one.failure.error_class, one.failure.message)
        for one in world.scoring.outcomes.values() if one.failure
    } == {("judge_unavailable", "503: no healthy upstream")}


def test_a_judge_that_no_setting_names_any_more_holds_nothing_back(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(100))
    world.circuits.open("renamed", unavailable(), wait_s=5.0)
    for outcome in world.scoring.outcomes.values():
        outcome.queue = held_queue("renamed")

    world.live(600.0)

    assert world.circuits.present() == []
    assert world.states() == {"completed": 100}


def test_another_process_learns_that_a_circuit_is_open(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(200))
    world.judges.down["default"] = unavailable
    world.drain()
    before = world.judges.calls["default"]

    world.gates = world.new_gates(default=256)
    world.wait_for_judge(*names(200, "later"))
    world.drain()

    assert world.judges.calls["default"] == before


def test_a_store_that_is_away_when_a_circuit_opens_loses_no_outcome(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(200))
    world.judges.down["default"] = unavailable
    world.scoring.fail("open", StoreUnavailable("away"), StoreUnavailable("away"))

    world.live(60.0)
    world.judges.down.clear()
    world.live(700.0)

    assert world.states() == {"completed": 200}


def test_calls_grow_in_number_with_the_answers(world: JudgedWorld) -> None:
    world.wait_for_judge(*names(2_000))

    world.drain()

    assert FIRST_IN_FLIGHT <= world.judges.in_flight_max <= 256
    assert world.states() == {"completed": 2_000}


# --- the gate alone


def gate(most: int = 4) -> tuple[Gate, MemoryCircuits, Ticks]:
    world = MemoryWorld()
    one = Gate("default", world.circuits, world.clock, in_flight_max=most)
    return one, world.circuits, world.clock


def test_a_call_waits_for_a_place_and_takes_one_that_a_cancelled_call_leaves() -> None:
    async def run() -> None:
        one, _, _ = gate(most=1)
        entry = await one.enter()
        assert not isinstance(entry, Held | Full)
        first, second = (asyncio.ensure_future(one.enter()) for _ in range(2))
        await asyncio.sleep(0)
        assert not first.done()

        first.cancel()
        one.abandon()
        await asyncio.wait_for(second, 10)

    asyncio.run(run())


def test_runs_beyond_the_line_are_put_off_each_behind_the_one_before() -> None:
    async def run() -> None:
        one, _, _ = gate(most=1)
        assert not isinstance(await one.enter(), Held | Full)
        waiting = asyncio.ensure_future(one.enter())
        await asyncio.sleep(0)

        late = [await one.enter() for _ in range(1_000)]

        assert not waiting.done()
        waits = [each.wait_s for each in late if isinstance(each, Full)]
        assert len(waits) == 1_000
        assert waits == sorted(waits)
        assert 0 < waits[0] < waits[9] <= waits[-1] == FULL_WAIT_MAX_S
        waiting.cancel()

    asyncio.run(run())


def test_calls_that_wait_for_a_place_are_held_when_the_circuit_opens() -> None:
    async def run() -> None:
        one, _, _ = gate(most=FAILURES_TO_OPEN)
        entries = [await one.enter() for _ in range(FAILURES_TO_OPEN)]
        waiting = asyncio.ensure_future(one.enter())
        for entry in entries:
            assert not isinstance(entry, Held | Full)
            await one.leave(entry, unavailable(), has_called=True)

        assert isinstance(await asyncio.wait_for(waiting, 10), Held)

    asyncio.run(run())


def test_what_a_process_learnt_before_it_changed_the_circuit_is_not_taken_over() -> None:
    async def run() -> None:
        one, _, _ = gate()
        seen = one.changes
        for _ in range(FAILURES_TO_OPEN):
            entry = await one.enter()
            assert not isinstance(entry, Held | Full)
            await one.leave(entry, unavailable(), has_called=True)

        one.learn(None, changes=seen)
        assert isinstance(await one.enter(), Held)
        one.learn(None, changes=one.changes)
        assert not isinstance(await one.enter(), Held)

    asyncio.run(run())


def test_only_one_of_those_that_come_when_a_probe_is_due_is_the_probe() -> None:
    async def run() -> None:
        one, circuits, clock = gate()
        circuits.open("default", unavailable(), wait_s=5.0)
        one.learn(circuits.present()[0], changes=0)
        clock.pass_s(6.0)

        entries = await asyncio.gather(*(one.enter() for _ in range(20)))

        assert sum(not isinstance(entry, Held | Full) for entry in entries) == 1

    asyncio.run(run())


def test_calls_that_failed_before_others_closed_the_circuit_do_not_open_it_again() -> None:
    async def run() -> None:
        one, circuits, _ = gate(most=64)
        entries = [await one.enter() for _ in range(3 * FAILURES_TO_OPEN)]
        for entry in entries:
            assert not isinstance(entry, Held | Full)
            await one.leave(entry, unavailable(), has_called=True)
        assert isinstance(await one.enter(), Held)

        circuits.close("default")   # by another process, whose probe was answered
        one.learn(None, changes=one.changes)
        entry = await one.enter()
        assert not isinstance(entry, Held | Full)
        await one.leave(entry, unavailable(), has_called=True)

        assert circuits.present() == []

    asyncio.run(run())


@pytest.mark.parametrize("behind_s", [-600.0, 600.0])
def test_a_probe_is_made_when_it_is_due_though_the_clocks_of_store_and_process_differ(
    behind_s: float,
) -> None:
    async def run() -> None:
        _, circuits, clock = gate()
        one = Gate(
            "default", circuits, lambda: clock() - timedelta(seconds=behind_s),
            in_flight_max=4,
        )
        circuits.open("default", unavailable(), wait_s=5.0)
        one.learn(circuits.present()[0], changes=0)

        clock.pass_s(4.0)
        assert isinstance(await one.enter(), Held)
        clock.pass_s(2.0)
        assert not isinstance(await one.enter(), Held)

    asyncio.run(run())


# --- pure decisions


def test_an_error_halves_the_window_once_for_all_calls_that_were_under_way() -> None:
    window = CallWindow(first=64, most=256)
    for _ in range(10):
        window.shrink(begun_at=1.0, now=2.0)
    assert window.size == 32

    window.shrink(begun_at=2.5, now=3.0)
    assert window.size == 16


def test_a_window_grows_fast_to_where_it_shrank_and_slowly_beyond() -> None:
    window = CallWindow(first=64, most=256)
    for _ in range(1_000):
        window.grow()
    assert window.size == 256

    window.shrink(begun_at=1.0, now=2.0)
    for _ in range(128):
        window.grow()
    assert 128 < window.size < 130


def test_a_window_never_closes() -> None:
    window = CallWindow(first=4, most=4)
    for at in range(10):
        window.shrink(begun_at=at + 0.5, now=at + 1.0)

    assert window.size == 1


@pytest.mark.parametrize(("probes", "asked_s", "expected_s"), [
    (0, None, 5.0), (1, None, 10.0), (2, None, 20.0), (4, None, 60.0), (10_000, None, 60.0),
    (0, 90.0, 90.0), (3, 1.0, 40.0),
])
def test_probes_are_made_at_longer_and_longer_intervals(
    probes: int, asked_s: float | None, expected_s: float
) -> None:
    assert probe_wait_s(probes, asked_s) == expected_s


def test_the_text_of_a_held_outcome_names_the_reason_and_the_next_call() -> None:
    circuit = Circuit(
        endpoint="default", opened_at=START, probe_at=START + timedelta(seconds=60),
        probe_in_s=60.0, probes=3, error_class="judge_unavailable",
        reason="503: no healthy upstream",
    )

    assert circuit.sentence == (
        "held back: the judge endpoint default is down since 2026-11-20T12:00:00+00:00 "
        "(judge_unavailable: 503: no healthy upstream); one call tries it again at "
        "2026-11-20T12:01:00+00:00"
    )
