"""The drain over a store and an executor in memory: what is run, recorded, tried again."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence

import pytest

from flows.scoring.drain import Drain, Pace, RunEnd
from flows.scoring.retry import RetryIn, RetryPolicy
from spans.errors import JudgeRefused, RateLimited, StoreUnavailable, TransientError
from spans.ids import ObjectId, ProjectId, RuleId, Xact
from spans.outcome import OutcomeKey, RuleOrigin, Verdict, verdict_of
from spans.row import ObjectRef, ObjectType, RowKey
from spans.scoring import Role, Score, ScorerRef, ScoringResult
from spans.work import (
    DEATHS_MAX,
    Assignment,
    Claim,
    ColumnsOf,
    Execution,
    Retry,
    RunnableClaim,
    StaleClaim,
    Subject,
)

PROJECT = uuid.UUID(int=1)
WHERE = ObjectRef(ProjectId(PROJECT), ObjectType.PROJECT_LOGS, ObjectId(PROJECT))
SCORER = ScorerRef(kind="global", name="Levenshtein", version="1")
POLICY = RetryPolicy(attempts_max=3, wait_max_s=60.0, jitter=lambda: 1.0)
SCORED = verdict_of(
    ScoringResult(scores=(Score(name="Levenshtein", value=1.0),), arguments={}),
    started_at=0.0, run_ms=1.0,
)


def key_of(row_id: str) -> OutcomeKey:
    return OutcomeKey(
        object=WHERE, subject_id=row_id, subject_version=Xact(1),
        origin=RuleOrigin(RuleId(uuid.UUID(int=2))), role=Role.LIVE, scorer=SCORER,
    )


def claim_of(row_id: str, *, attempts: int = 1, deaths: int = 0) -> RunnableClaim:
    subject = Subject(
        key=RowKey(WHERE, row_id), span_id=row_id, root_span_id=row_id, content_xact=Xact(1),
        trigger_xact=Xact(1), ended_at=1.0, view={},
    )
    return RunnableClaim(
        lead=key_of(row_id), fence=1, attempts=attempts, deaths=deaths,
        assignment=Assignment(subject=subject, scorer=SCORER, asked=()),
    )


class Store:
    """A ClaimStore in memory. `away` counts the calls that it fails before it answers."""

    def __init__(self, *batches: Sequence[Claim], away: int = 0) -> None:
        self._batches = list(batches)
        self._away = away
        self.limits: list[int] = []
        self.recorded: list[list[str]] = []
        self.verdicts: dict[str, Verdict] = {}
        self.retries: list[Retry] = []
        self.returned: list[str] = []
        self.superseded: list[str] = []

    def claim(self, queue: str, limit: int, columns: ColumnsOf | None = None) -> list[Claim]:
        assert queue == "heavy"
        assert columns is None
        self.limits.append(limit)
        return list(self._batches.pop(0)) if self._batches else []

    def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        if self._away:
            self._away -= 1
            raise StoreUnavailable("away")
        self.recorded.append([claim.lead.subject_id for claim, _ in executions])
        self.verdicts |= {
            claim.lead.subject_id: execution.verdict for claim, execution in executions
        }

    def postpone(self, retries: Sequence[Retry]) -> None:
        self.retries += retries

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        self.returned += [claim.lead.subject_id for claim in claims]

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        self.superseded += [claim.lead.subject_id for claim in claims]

    def renew(self, queue: str) -> None: ...


class Executor:
    """Runs one claim at each wait; `ends` says how a row's run ends, else it scores."""

    columns = None

    def __init__(self, ends: dict[str, TransientError] | None = None, room: int = 8) -> None:
        self._ends = ends or {}
        self._room = room
        self._waiting: list[RunnableClaim] = []
        self.together: list[int] = []

    def room(self, unrecorded: int) -> int:
        return self._room - len(self._waiting) - unrecorded

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        self._waiting += claims
        self.together.append(len(self._waiting))

    def wait(self, timeout_s: float) -> list[RunEnd]:
        if not self._waiting:
            return []
        claim = self._waiting.pop(0)
        return [RunEnd(claim, self._ends.get(claim.lead.subject_id, SCORED))]

    def under_way(self) -> int:
        return len(self._waiting)

    def take_back(self) -> list[RunnableClaim]:
        taken, self._waiting = self._waiting, []
        return taken

    def cancel(self) -> None:
        self._waiting = []


def drain(store: Store, executor: Executor, *, recorders: int = 0) -> Drain:
    return Drain(
        store=store, queue="heavy", executor=executor, policy=POLICY,
        pace=Pace(gather=100, gather_s=0.0, renew_s=60.0, recorders=recorders),
    )


@pytest.mark.parametrize("recorders", [0, 2])
def test_all_that_is_due_is_run_and_recorded_once(recorders: int) -> None:
    store = Store([claim_of(f"a{n}") for n in range(5)], [claim_of(f"b{n}") for n in range(3)])

    count = drain(store, Executor(), recorders=recorders).run(stop_after_s=60.0)

    assert count == 8
    rows = [row for batch in store.recorded for row in batch]
    assert sorted(rows) == sorted([*(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(3))])


def test_no_more_is_claimed_than_the_executor_has_room_for() -> None:
    store = Store([claim_of("a"), claim_of("b")], [claim_of("c")])

    drain(store, Executor(room=2)).run(stop_after_s=60.0)

    assert store.limits[0] == 2
    assert max(store.limits) == 2


def test_a_claim_with_nothing_to_run_is_superseded_and_never_begun() -> None:
    store, executor = Store([StaleClaim(lead=key_of("old")), claim_of("new")]), Executor()

    assert drain(store, executor).run(stop_after_s=60.0) == 2

    assert store.superseded == ["old"]
    assert store.recorded == [["new"]]


def test_a_transient_error_is_tried_again_and_the_last_attempt_is_final() -> None:
    busy = RateLimited("429", retry_after_s=7.0)
    store = Store([claim_of("again"), claim_of("final", attempts=3)])

    drain(store, Executor({"again": busy, "final": busy})).run(stop_after_s=60.0)

    (retry,) = store.retries
    assert (retry.claim.lead.subject_id, retry.wait_s) == ("again", 7.0)
    assert store.verdicts["final"].state == "errored"


def test_a_claim_that_may_kill_its_worker_for_the_last_time_runs_alone() -> None:
    suspect = claim_of("suspect", deaths=DEATHS_MAX - 1)
    store = Store([claim_of("a"), claim_of("b")], [suspect], [claim_of("c")])
    executor = Executor()

    drain(store, executor).run(stop_after_s=60.0)

    assert executor.together == [2, 1, 1]
    assert {row for batch in store.recorded for row in batch} == {"a", "b", "c", "suspect"}


def test_results_wait_for_a_store_that_is_away() -> None:
    store = Store([claim_of("a")], away=2)

    drain(store, Executor()).run(stop_after_s=60.0)

    assert store.recorded == [["a"]]


def test_when_the_time_is_over_what_is_not_begun_goes_back() -> None:
    store, executor = Store([claim_of("a"), claim_of("b")]), Executor()
    executor.begin([claim_of("left")])

    assert drain(store, executor).run(stop_after_s=0.0) == 0

    assert store.limits == []
    assert store.returned == ["left"]


def test_a_drain_that_is_told_to_stop_leaves_its_claims_to_be_given_back() -> None:
    class Stopping(Executor):
        def wait(self, timeout_s: float) -> list[RunEnd]:
            running.stopping.set()
            return []

    store, executor = Store([claim_of("a"), claim_of("b")]), Stopping()
    running = drain(store, executor)

    running.run(stop_after_s=60.0)

    assert store.recorded == []
    assert executor.under_way() == 0


def test_calls_answered_meanwhile_are_counted_and_keep_the_drain_looking() -> None:
    calls: Iterator[int] = iter([3, 0])
    running = drain(Store(), Executor())
    running.meanwhile = lambda: next(calls, 0)

    assert running.run(stop_after_s=60.0) == 3


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 2.0), (2, 4.0), (3, 8.0), (50, 600.0)])
def test_the_pause_doubles_up_to_the_longest(attempt: int, wait_s: float) -> None:
    policy = RetryPolicy(attempts_max=100, wait_max_s=600.0, jitter=lambda: 1.0)

    assert policy.decide(RateLimited("429"), attempt=attempt) == RetryIn(wait_s=wait_s)


def test_an_error_that_time_does_not_heal_is_final_at_once() -> None:
    failure = POLICY.decide(JudgeRefused("401"), attempt=1)

    assert not isinstance(failure, RetryIn)
    assert (failure.error_class, failure.message) == ("judge_refused", "401")


def test_a_store_that_is_away_for_invocations_ends_no_run_under_way() -> None:
    def away() -> int:
        raise StoreUnavailable("away")

    store = Store([claim_of("a"), claim_of("b")])
    running = drain(store, Executor())
    running.meanwhile = away

    assert running.run(stop_after_s=60.0) == 2
    assert {row for batch in store.recorded for row in batch} == {"a", "b"}


def test_more_invocations_than_one_look_serves_are_served_before_the_drain_ends() -> None:
    calls: Iterator[int] = iter([8, 8, 4, 0])
    running = drain(Store(), Executor())
    running.meanwhile = lambda: next(calls, 0)

    assert running.run(stop_after_s=60.0) == 20


@pytest.mark.parametrize("recorders", [0, 2])
def test_a_run_that_failed_leaves_nothing_for_the_next_one(recorders: int) -> None:
    class Broken(Store):
        is_broken = True

        def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
            if self.is_broken:
                raise RuntimeError("a bug")
            super().record(executions)

    store = Broken([claim_of("lost")], [])
    running = drain(store, Executor(), recorders=recorders)
    with pytest.raises(RuntimeError, match="a bug"):
        running.run(stop_after_s=60.0)

    store.is_broken = False
    store._batches = [[claim_of("next")]]

    assert running.run(stop_after_s=60.0) == 1
    assert store.recorded == [["next"]]


def test_a_drain_that_waits_for_its_recorders_does_not_spin() -> None:
    class Slow(Store):
        def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
            assert not threading.Event().wait(0.3)
            super().record(executions)

    class Counting(Executor):
        waits = 0

        def wait(self, timeout_s: float) -> list[RunEnd]:
            self.waits += 1
            return super().wait(timeout_s)

    store, executor = Slow([claim_of("a")]), Counting()

    drain(store, executor, recorders=1).run(stop_after_s=60.0)

    assert store.recorded == [["a"]]
    assert executor.waits == 1


def test_places_that_become_free_while_ends_are_gathered_are_filled_by_one_claim() -> None:
    store = Store([claim_of(f"a{n}") for n in range(4)], [claim_of("b")])
    running = drain(store, Executor(room=4))
    running.pace = Pace(gather=4, gather_s=60.0, renew_s=60.0)

    running.run(stop_after_s=60.0)

    assert store.recorded == [["a0", "a1", "a2", "a3"], ["b"]]
    assert store.limits[:2] == [4, 4]
