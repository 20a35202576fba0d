"""The drain of a queue: it claims, runs and records outcomes until none is due.

Every queue of pending outcomes has a drain. The queues differ in the executor, which runs the
claims, and in the pace.

    drain = Drain(store=ledger, queue=JUDGE, executor=JudgeExecutor(...), policy=..., pace=...)
    count = drain.run(stop_after_s=20.0)

The drain claims as many assignments as the executor has room for, closes those that have
nothing to run, and passes the others on. Runs that end within a moment of each other are
recorded in one transaction. The retry policy postpones claims that ended in a transient error.
Leases are renewed meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, Protocol

from flows.patience import POLL_S, patiently
from flows.scoring.circuit import Full, Held
from flows.scoring.claims import ClaimStore, execution_of, is_last_try
from flows.scoring.retry import RetryIn, RetryPolicy
from spans.errors import BudgetSpent, TransientError
from spans.outcome import BUG, Errored, Failure, Verdict
from spans.work import (
    BudgetHold,
    ColumnsOf,
    Execution,
    Hold,
    PutOff,
    Retry,
    RunnableClaim,
    StaleClaim,
)

logger = logging.getLogger(__name__)

LISTEN_S = 0.1
"""How often a busy drain looks for invocations that a client waits for, which takes 1 ms."""

PATIENCE_S = 30.0
"""How long a drain keeps results while the store is away, before it gives them up."""


class RunEnd(NamedTuple):
    """How the run of one claim ended: with a verdict, or with an error that time may heal (such
    as a budget that is spent), or not begun since its endpoint is down or has no place for it.

    `started_at` (unix seconds) and `run_ms` count for an error; a verdict has its own.
    """

    claim: RunnableClaim
    end: Verdict | TransientError | Held | Full
    started_at: float = 0.0
    run_ms: float = 0.0


class Executor(Protocol):
    """Runs claims for a drain. Only the drain's thread calls its methods."""

    @property
    def columns(self) -> ColumnsOf | None:
        """The columns of a row that a scorer reads; None for all that any scorer may read."""
        ...

    def room(self, unrecorded: int) -> int:
        """How many more claims it accepts now, while `unrecorded` runs wait to be recorded."""
        ...

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Accepts claims, and runs each as soon as it has a free place."""
        ...

    def wait(self, timeout_s: float) -> list[RunEnd]:
        """The runs that ended since the last call. Waits up to `timeout_s` for the first.

        A run that raised an unexpected exception ends with an errored verdict. It is not tried
        again, since it would most likely raise the same. An executor on the drain's
        own thread may let the exception through: the worker then counts a death of its claims.
        """
        ...

    def under_way(self) -> int:
        """How many claims were accepted whose end `wait` has not returned yet."""
        ...

    def take_back(self) -> list[RunnableClaim]:
        """Removes and returns the claims whose run has not begun."""
        ...

    def cancel(self) -> None:
        """Gives up every run under way. Their ends are not returned any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a drain gathers and records runs that ended.

    Runs are recorded together as soon as `gather` of them have ended, or `gather_s` seconds
    after the first. Up to `recorders` transactions run at once, on threads of their own; with 0
    the drain's own thread records, and does nothing else meanwhile. Leases are renewed every
    `renew_s` seconds.
    """

    gather: int
    gather_s: float
    renew_s: float
    recorders: int = 0


@dataclass(slots=True, kw_only=True)
class _Hand:
    """What one run of a drain has in hand, beside the claims that its executor runs.

    `gathered` are ends that wait for others to be recorded with, since `gathered_at` (by
    time.monotonic, as every `_at` here); `recording` are transactions under way on other
    threads, with the number of ends in each.
    """

    recorders: ThreadPoolExecutor | None
    gathered: list[RunEnd] = field(default_factory=list)
    gathered_at: float = 0.0
    recording: dict[Future[None], int] = field(default_factory=dict)

    def unrecorded(self) -> int:
        """Ends that are not in the store yet."""
        return len(self.gathered) + sum(self.recording.values())

    def gather(self, ended: list[RunEnd]) -> None:
        """Take ends, to be recorded soon."""
        if ended and not self.gathered:
            self.gathered_at = time.monotonic()
        self.gathered += ended

    def check_recorders(self) -> None:
        """Forget the transactions that are through. Raises what made one of them fail."""
        for record in [one for one in self.recording if one.done()]:
            del self.recording[record]
            record.result()


@dataclass(slots=True, kw_only=True)
class Drain:
    """Empties one queue of pending outcomes.

    `meanwhile` is called every LISTEN_S seconds, for work that cannot wait for the end of a
    long backlog; it returns how many invocations it answered. Any thread may set `stopping`:
    the drain then returns soon, and leaves its claims to be released by its caller.
    """

    store: ClaimStore
    queue: str
    executor: Executor
    policy: RetryPolicy
    pace: Pace
    meanwhile: Callable[[], int] = lambda: 0
    stopping: threading.Event = field(default_factory=threading.Event)
    _renewed_at: float = 0.0

    def run(self, *, stop_after_s: float) -> int:
        """Runs due outcomes until none is left, or claims no more after `stop_after_s` seconds.

        Returns the number of claims and invocations. Safe to repeat: a verdict is recorded only
        under the fence of its claim. Raises TransientError if the store stays away.
        """
        until = time.monotonic() + stop_after_s
        with ExitStack() as stack:
            recorders = None
            if self.pace.recorders:
                recorders = stack.enter_context(
                    ThreadPoolExecutor(self.pace.recorders, thread_name_prefix="record")
                )
            stack.callback(self.executor.cancel)
            return self._run(_Hand(recorders=recorders), until)

    def _run(self, hand: _Hand, until: float) -> int:
        count = 0
        is_empty = False
        looked_at = listened_at = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            answered = 0
            if now - listened_at > LISTEN_S:
                listened_at = now
                answered = self._listen()
                count += answered
            room = self._room(hand) if now < until else 0
            if room and (not is_empty or now - looked_at > POLL_S):
                claims, found = self._claim(room)
                looked_at, is_empty = now, not found
                count += found
                if claims:
                    self._begin(claims, hand)
                    if self._room(hand):
                        continue   # there is room, and more may be due
            if now >= until and (claims := self.executor.take_back()):
                self._patiently(partial(self.store.give_back, claims))
            if self._in_hand(hand):
                self._go_on(hand)
            elif answered and now < until:
                listened_at = 0.0   # more invocations may wait than one look serves
            elif is_empty or not room:
                return count
        return count

    def _listen(self) -> int:
        """Answers what cannot wait. A store that is away must not end the runs under way."""
        try:
            return self.meanwhile()
        except TransientError as error:
            logger.warning("%s: %s; no invocation is served meanwhile", self.queue, error)
            return 0

    def _room(self, hand: _Hand) -> int:
        """How many claims to take now.

        Where this thread records, it claims once for each transaction and not once for each
        end: the places that become free while ends are gathered are filled together.
        """
        if hand.gathered and not self.pace.recorders:
            return 0
        return self.executor.room(hand.unrecorded())

    def _claim(self, room: int) -> tuple[list[RunnableClaim], int]:
        """The claims to run, and how many claims there were with the stale ones.

        If the store goes away after the claim, its leases stay until the caller releases them.
        """
        try:
            claims = self.store.claim(self.queue, room, self.executor.columns)
            stale = [claim for claim in claims if isinstance(claim, StaleClaim)]
            self.store.supersede(stale)
        except TransientError as error:
            logger.warning("%s: %s; it claims nothing until that is over", self.queue, error)
            return [], 0
        runnable = [claim for claim in claims if isinstance(claim, RunnableClaim)]
        return runnable, len(claims)

    def _begin(self, claims: list[RunnableClaim], hand: _Hand) -> None:
        if not any(map(is_last_try, claims)):
            self.executor.begin(claims)
            return
        self._finish(hand)   # if the worker dies now, no other claim pays for it
        self.executor.begin(claims)
        self._finish(hand)

    def _finish(self, hand: _Hand) -> None:
        while self._in_hand(hand) and not self.stopping.is_set():
            self._go_on(hand)

    def _in_hand(self, hand: _Hand) -> int:
        return self.executor.under_way() + hand.unrecorded()

    def _go_on(self, hand: _Hand) -> None:
        """Waits a moment for runs to end, records those that are due, and renews the leases."""
        timeout_s = self.pace.gather_s if hand.unrecorded() else POLL_S
        if self.executor.under_way():
            hand.gather(self.executor.wait(timeout_s))
        elif hand.recording:
            wait(hand.recording, timeout=POLL_S, return_when=FIRST_COMPLETED)
        hand.check_recorders()
        if self._is_gathered(hand):
            self._submit(hand)
        if time.monotonic() - self._renewed_at > self.pace.renew_s:
            self._renewed_at = time.monotonic()
            self._patiently(partial(self.store.renew, self.queue))

    def _is_gathered(self, hand: _Hand) -> bool:
        """Whether to record the runs that ended now, rather than wait for more."""
        if not hand.gathered or len(hand.recording) >= max(1, self.pace.recorders):
            return False
        return (
            len(hand.gathered) >= self.pace.gather
            or not self.executor.under_way()
            or time.monotonic() - hand.gathered_at > self.pace.gather_s
        )

    def _submit(self, hand: _Hand) -> None:
        """Records what is gathered: here, or on one of the recorders' threads."""
        gathered, hand.gathered = hand.gathered, []
        if hand.recorders is None:
            self._record(gathered)
        else:
            hand.recording[hand.recorders.submit(self._record, gathered)] = len(gathered)

    def _record(self, ended: list[RunEnd]) -> None:
        executions: list[tuple[RunnableClaim, Execution]] = []
        others: list[Retry | Hold | BudgetHold | PutOff] = []
        for run_end in ended:
            match self._what_to_record(run_end):
                case Execution() as execution:
                    executions.append((run_end.claim, execution))
                case other:
                    others.append(other)
        if executions:
            self._patiently(partial(self.store.record, executions))
        if retries := [one for one in others if isinstance(one, Retry)]:
            self._patiently(partial(self.store.postpone, retries))
        if holds := [one for one in others if isinstance(one, Hold)]:
            self._patiently(partial(self.store.hold, holds))
        if unpaid := [one for one in others if isinstance(one, BudgetHold)]:
            self._patiently(partial(self.store.hold_for_budget, unpaid))
        if later := [one for one in others if isinstance(one, PutOff)]:
            self._patiently(partial(self.store.put_off, later))

    def _what_to_record(
        self, ended: RunEnd
    ) -> Execution | Retry | Hold | BudgetHold | PutOff:
        """The execution, or what becomes of a claim that is tried again later."""
        claim, end = ended.claim, ended.end
        match end:
            case BudgetSpent(budget_no=budget_no):
                return BudgetHold(claim=claim, budget_no=budget_no, reason=str(end))
            case TransientError():
                decision = self.policy.decide(
                    end, attempt=claim.attempts, failing_s=claim.failing_s
                )
                if isinstance(decision, RetryIn):
                    return Retry(
                        claim=claim, error_class=end.error_class(), message=str(end),
                        wait_s=decision.wait_s,
                    )
            case Full(wait_s):
                return PutOff(claim=claim, wait_s=wait_s)
            case Held(circuit):
                if left_s := self.policy.left_s(claim.failing_s):
                    return Hold(claim=claim, endpoint=circuit.endpoint, wait_s=left_s)
                decision = claim.last_failure or Failure(
                    error_class=circuit.error_class, message=circuit.reason
                )
                claim = replace(claim, attempts=claim.attempts - 1)   # no call was made
            case _:
                return execution_of(claim, end, self.queue)
        verdict = Errored(
            failure=decision, started_at=ended.started_at or time.time(), run_ms=ended.run_ms
        )
        return execution_of(claim, verdict, self.queue)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Does `work`, and repeats it while the store is away, so that no scorer runs twice."""
        patiently(work, patience_s=PATIENCE_S, stopping=self.stopping)


def bug_end(claim: RunnableClaim, error: BaseException, queue: str) -> RunEnd:
    """The end of a claim whose run raised an unexpected exception, which is logged here."""
    logger.error("%s: running %s", queue, claim.lead.id, exc_info=error)
    failure = Failure(
        error_class=BUG,
        message=f"{type(error).__name__}; the {queue} worker's log has its traceback under "
        f"{claim.lead.id}",
    )
    return RunEnd(claim, Errored(failure=failure, started_at=time.time(), run_ms=0.0))
