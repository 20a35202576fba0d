"""The drain over a store in memory: what is run, recorded, tried again, and given back."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from fakes.memory.scoring import MemoryLedger, MemoryWorker
from memory_scoring import MemoryWorld
from store_behaviours.scoring import LEASE_S, NOTHING_IS_CHEAP, ended, verdict

from flows.patience import POLL_S
from flows.scoring.claims import execution_of, is_last_try
from flows.scoring.drain import Drain, Pace, RunEnd, bug_end
from flows.scoring.inline_executor import BATCH, InlineExecutor
from flows.scoring.retry import RetryPolicy
from scorers.functions.source import KeptFunctions
from scorers.functions.version import FunctionKind, FunctionVersion
from spans.errors import (
    Contended,
    JudgeUnavailable,
    RateLimited,
    StoreUnavailable,
    TransientError,
)
from spans.ids import FunctionId, Xact
from spans.outcome import BUG, Errored, Verdict
from spans.queues import HEAVY
from spans.work import DEATHS_MAX, Claim, ColumnsOf, Execution, RunnableClaim

POLICY = RetryPolicy(budget_s=15.0, wait_max_s=60.0, spread=lambda: 0.0)
SCORED = verdict(1.0)
End = Verdict | TransientError


class Executor:
    """Runs one claim at each wait. `end_of` says how a row's run ends.

    `begun` has the rows of each call of `begin`, and `together` how many claims were under way
    after it.
    """

    columns: ColumnsOf | None = None

    def __init__(self, end_of: Callable[[str], End] = lambda _: SCORED, room: int = 8) -> None:
        self._end_of = end_of
        self._room = room
        self._waiting: list[RunnableClaim] = []
        self.begun: list[list[str]] = []
        self.together: list[int] = []

    def room(self, unrecorded: int) -> int:
        return self._room - len(self._waiting) - unrecorded

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        self._waiting += claims
        self.begun.append([claim.lead.subject_id for claim in claims])
        self.together.append(len(self._waiting))

    def wait(self, timeout_s: float) -> list[RunEnd]:
        if not self._waiting:
            return []
        claim = self._waiting.pop(0)
        return [RunEnd(claim, self._end_of(claim.lead.subject_id))]

    def under_way(self) -> int:
        return len(self._waiting)

    def take_back(self) -> list[RunnableClaim]:
        taken, self._waiting = self._waiting, []
        return taken

    def cancel(self) -> None:
        self._waiting = []


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld()
    world.rule()
    return world


def drain(
    world: MemoryWorld, executor: Executor | InlineExecutor, *,
    ledger: MemoryLedger | None = None,
    gather: int = 100, gather_s: float = 0.0, renew_s: float = 60.0, recorders: int = 0,
) -> Drain:
    return Drain(
        store=ledger or world.worker.ledger, queue=HEAVY, executor=executor, policy=POLICY,
        pace=Pace(gather=gather, gather_s=gather_s, renew_s=renew_s, recorders=recorders),
    )


def states(world: MemoryWorld) -> dict[str, str]:
    return {one.row: one.state for one in world.outcomes()}


def recorded_together(world: MemoryWorld) -> list[int]:
    """How many rows each transaction recorded: they got one version."""
    rows = {one.row for one in world.outcomes() if one.state == "completed"}
    return sorted(Counter(world.version(row) for row in rows).values())


def is_free(world: MemoryWorld) -> bool:
    """Whether another process can claim what waits."""
    return bool(world.claim(worker=world.process()))


def names(count: int) -> list[str]:
    """Ids for so many rows."""
    return [f"row {number:02}" for number in range(count)]


# --- what is run


@pytest.mark.parametrize("recorders", [0, 2])
def test_all_that_is_due_is_run_and_recorded_once(world: MemoryWorld, recorders: int) -> None:
    world.defer(*names(20))
    executor = Executor()

    count = drain(world, executor, recorders=recorders).run(stop_after_s=60.0)

    assert count == 20
    assert states(world) == dict.fromkeys(names(20), "completed")
    assert sorted(row for batch in executor.begun for row in batch) == names(20)
    assert {one.attempts for one in world.outcomes()} == {1}


def test_an_empty_queue_is_drained_at_once(world: MemoryWorld) -> None:
    assert drain(world, Executor()).run(stop_after_s=60.0) == 0


def test_no_more_is_claimed_than_the_executor_has_room_for(world: MemoryWorld) -> None:
    world.defer(*names(5))
    executor = Executor(room=2)

    drain(world, executor).run(stop_after_s=60.0)

    assert max(executor.together) == 2
    assert max(map(len, executor.begun)) == 2


def test_an_executor_without_room_ends_the_drain_and_nothing_is_claimed(
    world: MemoryWorld,
) -> None:
    world.defer("a")

    assert drain(world, Executor(room=0)).run(stop_after_s=60.0) == 0

    assert is_free(world)


def test_rows_are_read_with_the_columns_that_the_executor_names(world: MemoryWorld) -> None:
    class Narrow(Executor):
        columns = staticmethod(lambda _scorer: frozenset({"output"}))

        def begin(self, claims: Sequence[RunnableClaim]) -> None:
            views.extend(claim.assignment.subject.view for claim in claims)
            super().begin(claims)

    views: list[object] = []
    world.defer("a")

    drain(world, Narrow()).run(stop_after_s=60.0)

    (view,) = views
    assert "output" in view
    assert "expected" not in view


def test_a_claim_with_nothing_to_run_is_superseded_counted_and_never_begun(
    world: MemoryWorld,
) -> None:
    world.defer("old", "new")
    world.write(ended("old", output="changed", _skip_async_scoring=True))
    executor = Executor()

    assert drain(world, executor).run(stop_after_s=60.0) == 2

    assert states(world) == {"old": "superseded", "new": "completed"}
    assert executor.begun == [["new"]]


def test_a_queue_in_which_all_is_stale_is_closed_to_its_end(world: MemoryWorld) -> None:
    world.defer(*names(3))
    for row_id in names(3):
        world.write(ended(row_id, output="changed", _skip_async_scoring=True))
    executor = Executor(room=1)

    assert drain(world, executor).run(stop_after_s=60.0) == 3

    assert set(states(world).values()) == {"superseded"}
    assert executor.begun == []


def test_an_empty_queue_is_not_looked_at_at_every_turn(world: MemoryWorld) -> None:
    class Counting(MemoryLedger):
        claims = 0

        def claim(
            self, queue: str, limit: int, columns: ColumnsOf | None = None
        ) -> list[Claim]:
            self.claims += 1
            return super().claim(queue, limit, columns)

    world.defer(*names(20))
    ledger = Counting(world.scoring, world.worker.owner)
    begin = time.monotonic()

    drain(world, Executor(room=40), ledger=ledger).run(stop_after_s=60.0)

    # One that finds all, one that finds nothing, and then one after each pause.
    assert ledger.claims <= 2 + (time.monotonic() - begin) / POLL_S


def test_what_dead_processes_held_is_run_and_what_killed_three_is_poisoned(
    world: MemoryWorld,
) -> None:
    world.defer("a")
    for _ in range(DEATHS_MAX):
        doomed = world.process()
        world.claim(worker=doomed)
        world.die(doomed)
        world.worker.leases.release_abandoned()
    world.defer("b")
    executor = Executor()
    one = drain(world, executor)

    while one.run(stop_after_s=60.0):
        pass
    one.run(stop_after_s=60.0)   # a claim that only poisons is empty: the next ring goes on

    assert states(world) == {"a": "errored", "b": "completed"}
    assert executor.begun == [["b"]]


def test_a_claim_that_may_kill_its_worker_for_the_last_time_runs_alone(
    world: MemoryWorld,
) -> None:
    world.defer("suspect")
    doomed = [world.process() for _ in range(DEATHS_MAX - 1)]
    for process in doomed:
        world.worker.leases.release_abandoned()
        world.claim(worker=process)
        world.die(process)
    world.defer("a", "b")

    class Executing(Executor):
        def begin(self, claims: Sequence[RunnableClaim]) -> None:
            super().begin(claims)
            world.worker.leases.release_abandoned()   # the suspect is free from now on
            if any(map(is_last_try, claims)):
                world.defer("c")

    executor = Executing()

    drain(world, executor).run(stop_after_s=60.0)

    assert [sorted(batch) for batch in executor.begun] == [["a", "b"], ["suspect"], ["c"]]
    assert executor.together == [2, 1, 1]
    assert set(states(world).values()) == {"completed"}


# --- how runs end


def test_a_transient_error_is_tried_again_after_its_wait_until_its_time_is_over(
    world: MemoryWorld,
) -> None:
    world.defer("a")
    executor = Executor(lambda _: RateLimited("429", retry_after_s=7.0))
    one = drain(world, executor)

    for attempt in (1, 2):
        one.run(stop_after_s=60.0)
        (outcome,) = world.outcomes()
        assert (outcome.state, outcome.error_class, outcome.attempts) == (
            "pending", "rate_limited", attempt
        )
        assert one.run(stop_after_s=60.0) == 0   # it waits
        world.let_pass(8)
    one.run(stop_after_s=60.0)

    (outcome,) = world.outcomes()
    assert (outcome.state, outcome.error_class, outcome.attempts) == (
        "errored", "rate_limited", 3
    )
    assert len(executor.begun) == 3


@pytest.mark.parametrize("recorders", [0, 2])
def test_verdicts_and_errors_that_end_together_are_each_put_where_they_belong(
    world: MemoryWorld, recorders: int
) -> None:
    ends: dict[str, End] = {
        "scored": SCORED, "failed": verdict(None), "busy": JudgeUnavailable("503"),
    }
    world.defer(*ends)

    drain(world, Executor(ends.__getitem__), gather_s=60.0, recorders=recorders).run(
        stop_after_s=60.0
    )

    assert {one.row: (one.state, one.error_class) for one in world.outcomes()} == {
        "scored": ("completed", None), "failed": ("errored", "timeout"),
        "busy": ("pending", "judge_unavailable"),
    }


def test_the_time_of_a_run_that_failed_for_the_last_time_is_kept(world: MemoryWorld) -> None:
    class Failing(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            return [
                one._replace(started_at=5.5, run_ms=20.0) for one in super().wait(timeout_s)
            ]

    world.defer("a")
    one = drain(world, Failing(lambda _: RateLimited("429")))

    for _ in range(3):
        one.run(stop_after_s=60.0)
        world.let_pass(60)

    (outcome,) = world.scoring.outcomes.values()
    assert isinstance(outcome.verdict, Errored)
    assert (outcome.verdict.started_at, outcome.verdict.run_ms) == (5.5, 20.0)


def test_a_bug_ends_in_an_error_that_names_where_its_traceback_is(
    world: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            return [
                bug_end(one.claim, KeyError("boom"), HEAVY) for one in super().wait(timeout_s)
            ]

    world.defer("a")

    drain(world, Buggy()).run(stop_after_s=60.0)

    (outcome,) = world.scoring.outcomes.values()
    assert outcome.failure is not None
    assert outcome.failure.error_class == BUG
    assert outcome.failure.message.startswith("KeyError; the heavy worker's log")
    assert str(outcome.key.id) in outcome.failure.message
    assert "boom" in caplog.text


def test_an_execution_counts_the_attempt_that_it_was(world: MemoryWorld) -> None:
    world.defer("a")
    world.worker.ledger.give_back(world.claim())
    (claim,) = world.claim()

    done = execution_of(claim, SCORED, HEAVY)

    assert (done.attempts, done.queue, done.verdict) == (2, HEAVY, SCORED)


# --- how ends are gathered and recorded


def test_ends_are_recorded_together_once_enough_are_gathered(world: MemoryWorld) -> None:
    world.defer(*names(5))

    drain(world, Executor(), gather=2, gather_s=60.0).run(stop_after_s=60.0)

    assert recorded_together(world) == [1, 2, 2]


def test_ends_are_recorded_together_when_no_run_is_under_way(world: MemoryWorld) -> None:
    world.defer(*names(5))

    drain(world, Executor(), gather=100, gather_s=60.0).run(stop_after_s=60.0)

    assert recorded_together(world) == [5]


def test_ends_wait_for_others_no_longer_than_was_said(world: MemoryWorld) -> None:
    class Endless(Executor):
        """One claim ends; the other runs until the first is recorded."""

        def wait(self, timeout_s: float) -> list[RunEnd]:
            if len(self._waiting) > 1 or "completed" in states(world).values():
                return super().wait(timeout_s)
            return []

    world.defer("a", "b")

    drain(world, Endless(), gather=100, gather_s=0.01).run(stop_after_s=60.0)

    assert recorded_together(world) == [1, 1]


def test_places_that_become_free_while_ends_are_gathered_are_filled_by_one_claim(
    world: MemoryWorld,
) -> None:
    class Roomy(Executor):
        """Ends that wait to be recorded take none of its places."""

        def room(self, unrecorded: int) -> int:
            return super().room(0)

    world.defer(*names(6))
    executor = Roomy(room=4)

    drain(world, executor, gather=4, gather_s=60.0).run(stop_after_s=60.0)

    assert list(map(len, executor.begun)) == [4, 2]
    assert recorded_together(world) == [2, 4]


def test_a_drain_that_waits_for_its_recorders_does_not_spin(world: MemoryWorld) -> None:
    class Slow(MemoryLedger):
        def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
            assert not threading.Event().wait(0.3)
            super().record(executions)

    class Counting(Executor):
        waits = 0

        def wait(self, timeout_s: float) -> list[RunEnd]:
            self.waits += 1
            return super().wait(timeout_s)

    world.defer("a")
    executor = Counting()

    drain(
        world, executor, ledger=Slow(world.scoring, world.worker.owner), recorders=1
    ).run(stop_after_s=60.0)

    assert states(world) == {"a": "completed"}
    assert executor.waits == 1


def test_runs_go_on_while_recorders_write_and_no_more_write_at_once_than_was_said(
    world: MemoryWorld,
) -> None:
    class Gated(MemoryLedger):
        """Holds each transaction up until all runs have ended."""

        at_once = most = 0
        lock = threading.Lock()

        def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
            with self.lock:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            assert all_ended.wait(30)
            super().record(executions)
            with self.lock:
                self.at_once -= 1

    class Ending(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            ended_now = super().wait(timeout_s)
            if not self._waiting:
                all_ended.set()
            return ended_now

    all_ended = threading.Event()
    world.defer(*names(6))
    ledger = Gated(world.scoring, world.worker.owner)

    drain(world, Ending(), ledger=ledger, gather=1, recorders=2).run(stop_after_s=60.0)

    assert ledger.most == 2
    assert recorded_together(world) == [1, 1, 4]   # what ended meanwhile was gathered


# --- what others do meanwhile


@pytest.mark.parametrize("recorders", [0, 2])
def test_a_verdict_whose_claim_was_lost_is_dropped_and_the_others_are_kept(
    world: MemoryWorld, recorders: int
) -> None:
    other = world.process()

    class Losing(Executor):
        """While it runs, another process takes one of the claims over."""

        def wait(self, timeout_s: float) -> list[RunEnd]:
            if not taken:
                lost = next(c for c in self._waiting if c.lead.subject_id == "lost")
                world.worker.ledger.give_back([lost])
                taken.extend(world.claim(worker=other))
            return super().wait(timeout_s)

    taken: list[RunnableClaim] = []
    world.defer("lost", "kept")

    count = drain(world, Losing(), gather_s=60.0, recorders=recorders).run(stop_after_s=60.0)

    assert count == 2
    assert states(world) == {"lost": "pending", "kept": "completed"}
    other.ledger.record([(claim, execution_of(claim, verdict(0.25), HEAVY)) for claim in taken])
    assert world.scores("lost") == {"Levenshtein": 0.25}


def test_leases_are_renewed_while_runs_take_long(world: MemoryWorld) -> None:
    class Slow(Executor):
        """Each run takes most of a lease, by the store's time."""

        def wait(self, timeout_s: float) -> list[RunEnd]:
            ended_now = super().wait(timeout_s)
            world.let_pass(LEASE_S * 0.75)
            assert other.leases.release_abandoned() == 0
            return ended_now

    other = world.process()
    world.defer(*names(3))

    drain(world, Slow(), gather_s=60.0, renew_s=0.0).run(stop_after_s=60.0)

    assert set(states(world).values()) == {"completed"}


# --- a store that is away


def test_results_wait_for_a_store_that_is_away(world: MemoryWorld) -> None:
    world.defer("a")
    world.scoring.fail("record", StoreUnavailable("away"), Contended("met"))
    executor = Executor()

    drain(world, executor).run(stop_after_s=60.0)

    assert states(world) == {"a": "completed"}
    assert executor.begun == [["a"]]


@pytest.mark.parametrize("recorders", [0, 2])
def test_retries_wait_for_a_store_that_is_away(world: MemoryWorld, recorders: int) -> None:
    world.defer("a")
    world.scoring.fail("postpone", Contended("met"), Contended("met"))

    drain(world, Executor(lambda _: RateLimited("429")), recorders=recorders).run(
        stop_after_s=60.0
    )

    assert [(one.state, one.error_class) for one in world.outcomes()] == [
        ("pending", "rate_limited")
    ]


def test_a_store_that_is_away_when_leases_are_renewed_ends_no_run(world: MemoryWorld) -> None:
    world.defer("a", "b")
    world.scoring.fail("renew", Contended("met"), Contended("met"))

    drain(world, Executor(), renew_s=0.0).run(stop_after_s=60.0)

    assert set(states(world).values()) == {"completed"}


def test_a_store_that_is_away_at_a_claim_ends_the_drain_until_the_next_ring(
    world: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.defer("a")
    world.scoring.fail("claim", StoreUnavailable("away"))
    one = drain(world, Executor())

    assert one.run(stop_after_s=60.0) == 0
    assert "it claims nothing until that is over" in caplog.text
    assert one.run(stop_after_s=60.0) == 1

    assert states(world) == {"a": "completed"}


def test_a_store_that_is_away_at_a_claim_ends_no_run_under_way(world: MemoryWorld) -> None:
    class Unlucky(Executor):
        def begin(self, claims: Sequence[RunnableClaim]) -> None:
            super().begin(claims)
            world.scoring.fail("claim", StoreUnavailable("away"))   # for what is claimed next

    world.defer("a", "b")

    assert drain(world, Unlucky()).run(stop_after_s=60.0) == 2

    assert set(states(world).values()) == {"completed"}


def test_claims_beside_a_stale_one_stay_leased_if_the_store_goes_away_before_it_is_closed(
    world: MemoryWorld,
) -> None:
    world.defer("old", "new")
    world.write(ended("old", output="changed", _skip_async_scoring=True))
    world.scoring.fail("supersede", StoreUnavailable("away"))
    executor = Executor()
    one = drain(world, executor)

    assert one.run(stop_after_s=60.0) == 0
    assert executor.begun == []
    assert not is_free(world)

    world.worker.leases.release_own(HEAVY)   # as the caller does
    assert one.run(stop_after_s=60.0) == 2
    assert states(world) == {"old": "superseded", "new": "completed"}


def test_a_drain_that_is_told_to_stop_waits_for_no_store(world: MemoryWorld) -> None:
    class Stopping(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            running.stopping.set()
            return super().wait(timeout_s)

    world.defer("a")
    world.scoring.fail("record", StoreUnavailable("away"))
    running = drain(world, Stopping())

    with pytest.raises(StoreUnavailable):
        running.run(stop_after_s=60.0)

    assert states(world) == {"a": "pending"}


@pytest.mark.parametrize("recorders", [0, 2])
def test_a_run_that_failed_leaves_nothing_for_the_next_one(
    world: MemoryWorld, recorders: int
) -> None:
    world.defer("lost")
    world.scoring.fail("record", RuntimeError("a bug"))
    executor = Executor()
    running = drain(world, executor, recorders=recorders)

    with pytest.raises(RuntimeError, match="a bug"):
        running.run(stop_after_s=60.0)
    world.defer("next")

    assert running.run(stop_after_s=60.0) == 1
    assert states(world) == {"lost": "pending", "next": "completed"}
    assert executor.begun == [["lost"], ["next"]]


# --- when a drain ends


def test_when_the_time_is_over_what_is_not_begun_goes_back(world: MemoryWorld) -> None:
    world.defer("a", "b")
    executor = Executor()
    executor.begin(world.claim())
    world.scoring.fail("give_back", Contended("met"))

    assert drain(world, executor).run(stop_after_s=0.0) == 0

    assert set(states(world).values()) == {"pending"}
    assert {claim.deaths for claim in world.claim(worker=world.process())} == {0}


def test_what_ended_in_time_is_recorded_though_the_rest_goes_back(world: MemoryWorld) -> None:
    stop_after_s = 0.05

    class Slow(Executor):
        """Its first run ends when the drain's time is over."""

        def wait(self, timeout_s: float) -> list[RunEnd]:
            threading.Event().wait(stop_after_s)
            return super().wait(timeout_s)

    world.defer("a", "b", "c")
    executor = Slow()

    drain(world, executor, gather_s=60.0).run(stop_after_s=stop_after_s)

    assert sorted(states(world).values()) == ["completed", "pending", "pending"]
    assert len(world.claim(worker=world.process())) == 2


def test_when_the_time_is_over_nothing_is_claimed(world: MemoryWorld) -> None:
    world.defer("a")

    assert drain(world, Executor()).run(stop_after_s=0.0) == 0

    assert [one.attempts for one in world.outcomes()] == [0]


def test_a_drain_that_is_told_to_stop_leaves_its_claims_to_be_given_back(
    world: MemoryWorld,
) -> None:
    class Stopping(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            running.stopping.set()
            return []

    world.defer("a", "b")
    executor = Stopping()
    running = drain(world, executor)

    running.run(stop_after_s=60.0)

    assert set(states(world).values()) == {"pending"}
    assert executor.under_way() == 0
    assert not is_free(world)
    world.worker.leases.release_own(HEAVY)
    assert is_free(world)


def test_a_drain_that_was_told_to_stop_before_it_began_does_nothing(
    world: MemoryWorld,
) -> None:
    world.defer("a")
    running = drain(world, Executor())
    running.stopping.set()

    assert running.run(stop_after_s=60.0) == 0
    assert is_free(world)


def test_a_last_try_does_not_hold_up_a_drain_that_is_told_to_stop(world: MemoryWorld) -> None:
    class Endless(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            running.stopping.set()
            return []

    world.defer("suspect")
    for _ in range(DEATHS_MAX - 1):
        doomed: MemoryWorker = world.process()
        world.claim(worker=doomed)
        world.die(doomed)
        world.worker.leases.release_abandoned()
    running = drain(world, Endless())

    assert running.run(stop_after_s=60.0) == 1

    assert states(world) == {"suspect": "pending"}


# --- invocations


def test_calls_answered_meanwhile_are_counted_and_keep_the_drain_looking(
    world: MemoryWorld,
) -> None:
    calls: Iterator[int] = iter([3, 0])
    running = drain(world, Executor())
    running.meanwhile = lambda: next(calls, 0)

    assert running.run(stop_after_s=60.0) == 3


def test_more_invocations_than_one_look_serves_are_served_before_the_drain_ends(
    world: MemoryWorld,
) -> None:
    calls: Iterator[int] = iter([8, 8, 4, 0])
    running = drain(world, Executor())
    running.meanwhile = lambda: next(calls, 0)

    assert running.run(stop_after_s=60.0) == 20


def test_a_store_that_is_away_for_invocations_ends_no_run_under_way(
    world: MemoryWorld,
) -> None:
    def away() -> int:
        raise StoreUnavailable("away")

    world.defer("a", "b")
    running = drain(world, Executor())
    running.meanwhile = away

    assert running.run(stop_after_s=60.0) == 2
    assert set(states(world).values()) == {"completed"}


# --- the executor of slow scorers, which runs on the drain's own thread


def kept(world: MemoryWorld) -> KeptFunctions:
    """The world's functions, each of which stands for Levenshtein."""

    def version_of(function_id: FunctionId, version: Xact) -> FunctionVersion | None:
        return next(
            (
                FunctionVersion(
                    id=one.id, project_id=world.where.project_id, version=one.version,
                    name=one.name, slug=one.name, kind=FunctionKind.GLOBAL,
                    global_name="Levenshtein",
                )
                for versions in world.functions.values() for one in versions
                if (one.id, one.version) == (function_id, version)
            ),
            None,
        )

    return KeptFunctions(version_of)


def test_slow_scorers_and_functions_that_stand_for_them_are_run(world: MemoryWorld) -> None:
    function_id, _ = world.push("mine")
    world.follow("function", function_id)
    world.write(ended(output="kitten"))
    world.match(NOTHING_IS_CHEAP)

    drain(world, InlineExecutor(kept(world))).run(stop_after_s=60.0)

    assert world.scores() == {"Levenshtein": 1.0, "mine": 1.0}


def test_a_function_that_is_gone_is_an_error_of_its_outcome(world: MemoryWorld) -> None:
    function_id, _ = world.push("mine")
    world.follow("close", function_id)
    world.defer("a")
    world.functions.clear()

    drain(world, InlineExecutor(kept(world))).run(stop_after_s=60.0)

    assert [(one.state, one.error_class) for one in world.outcomes()] == [
        ("errored", "bad_input")
    ]


def test_a_function_that_cannot_be_read_now_is_tried_again(world: MemoryWorld) -> None:
    def away(_id: FunctionId, _version: Xact) -> FunctionVersion | None:
        raise StoreUnavailable("away")

    function_id, _ = world.push("mine")
    world.follow("close", function_id)
    world.defer("a")

    drain(world, InlineExecutor(KeptFunctions(away))).run(stop_after_s=60.0)

    assert [(one.state, one.error_class) for one in world.outcomes()] == [
        ("pending", "store_unavailable")
    ]


def test_a_slow_scorer_leaves_to_others_what_it_has_not_begun(world: MemoryWorld) -> None:
    world.defer(*names(BATCH))
    executor = InlineExecutor(kept(world))
    executor.begin(world.claim(BATCH))
    assert (executor.under_way(), executor.room(unrecorded=0)) == (BATCH, 0)

    assert len(executor.wait(0.0)) == 1

    assert len(executor.take_back()) == BATCH - 1
    assert (executor.room(unrecorded=1), executor.room(unrecorded=0)) == (0, BATCH)
    assert executor.wait(0.0) == []
