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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from flows.patience import POLL_S, patiently
from flows.scoring.claims import ClaimStore, execution_of, is_last_try
from flows.scoring.retry import RetryIn, RetryPolicy
from spans.errors import TransientError
from spans.outcome import BUG, Errored, Failure, Verdict
from spans.work import ColumnsOf, Execution, Retry, RunnableClaim, StaleClaim

logger = logging.getLogger(__name__)

LISTEN_S = 0.1
"""How often a busy drain looks for invocations that a client waits for, which takes 1 ms."""

PATIENCE_S = 30.0
"""How long a drain keeps results while the store is away, before it gives them up."""


class RunEnd(NamedTuple):
    """How the run of one claim ended: with a verdict, or with an error that time may heal.

    `started_at` (unix seconds) and `run_ms` count for an error; a verdict has its own.
    """

    claim: RunnableClaim
    end: Verdict | TransientError
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
        again, since it would most likely raise the same.
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
    _renewed_at: float = 0.0     # by time.monotonic, as every `_at` here
    _gathered: list[RunEnd] = field(default_factory=list)
    _gathered_at: float = 0.0    # when the first of them ended
    _recording: dict[Future[None], int] = field(default_factory=dict)

    def run(self, *, stop_after_s: float) -> int:
        """Runs due outcomes until none is left, or claims no more after `stop_after_s` seconds.

        Returns the number of claims and invocations. Safe to repeat: a verdict is recorded only
        under the fence of its claim. Raises TransientError if the store stays away.
        """
        with self._recorder() as submit:
            try:
                return self._run(submit, time.monotonic() + stop_after_s)
            finally:
                self.executor.cancel()
                self._gathered = []

    def _run(self, submit: Callable[[list[RunEnd]], None], until: float) -> int:
        count = 0
        is_empty = False
        looked_at = listened_at = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now - listened_at > LISTEN_S:
                listened_at = now
                if answered := self.meanwhile():
                    count += answered
                    is_empty = False
            room = self.executor.room(self._unrecorded()) if now < until else 0
            if room and (not is_empty or now - looked_at > POLL_S):
                claims, found = self._claim(room)
                looked_at, is_empty = now, not found
                count += found
                if claims:
                    self._begin(claims, submit)
                if claims and self.executor.room(self._unrecorded()):
                    continue   # there is room, and more may be due
            if now >= until and (claims := self.executor.take_back()):
                self.store.give_back(claims)
            if self._in_hand():
                self._go_on(submit)
            elif is_empty or not room:
                return count
        return count

    def _claim(self, room: int) -> tuple[list[RunnableClaim], int]:
        """The claims to run, and how many claims there were with the stale ones."""
        try:
            claims = self.store.claim(self.queue, room, self.executor.columns)
            stale = [claim for claim in claims if isinstance(claim, StaleClaim)]
            self.store.supersede(stale)
        except TransientError as error:
            logger.warning("%s: %s; it claims nothing until that is over", self.queue, error)
            return [], 0
        runnable = [claim for claim in claims if isinstance(claim, RunnableClaim)]
        return runnable, len(claims)

    def _begin(
        self, claims: list[RunnableClaim], submit: Callable[[list[RunEnd]], None]
    ) -> None:
        if not any(map(is_last_try, claims)):
            self.executor.begin(claims)
            return
        self._finish(submit)   # if the worker dies now, no other claim pays for it
        self.executor.begin(claims)
        self._finish(submit)

    def _finish(self, submit: Callable[[list[RunEnd]], None]) -> None:
        while self._in_hand() and not self.stopping.is_set():
            self._go_on(submit)

    def _in_hand(self) -> int:
        return self.executor.under_way() + self._unrecorded()

    def _unrecorded(self) -> int:
        return len(self._gathered) + sum(self._recording.values())

    def _go_on(self, submit: Callable[[list[RunEnd]], None]) -> None:
        """Waits a moment for runs to end, records those that are due, and renews the leases."""
        ended = self.executor.wait(self.pace.gather_s if self._gathered else POLL_S)
        if ended and not self._gathered:
            self._gathered_at = time.monotonic()
        self._gathered += ended
        for record in [one for one in self._recording if one.done()]:
            del self._recording[record]
            record.result()
        if self._is_gathered():
            gathered, self._gathered = self._gathered, []
            submit(gathered)
        if time.monotonic() - self._renewed_at > self.pace.renew_s:
            self._renewed_at = time.monotonic()
            self._patiently(partial(self.store.renew, self.queue))

    def _is_gathered(self) -> bool:
        """Whether to record the runs that ended now, rather than wait for more."""
        if not self._gathered or len(self._recording) > max(0, self.pace.recorders - 1):
            return False
        return (
            len(self._gathered) >= self.pace.gather
            or not self.executor.under_way()
            or time.monotonic() - self._gathered_at > self.pace.gather_s
        )

    @contextmanager
    def _recorder(self) -> Iterator[Callable[[list[RunEnd]], None]]:
        """The function that records runs: on this thread, or on one of the recorders'."""
        if not self.pace.recorders:
            yield self._record
            return
        with ThreadPoolExecutor(self.pace.recorders, thread_name_prefix="record") as pool:

            def submit(ended: list[RunEnd]) -> None:
                self._recording[pool.submit(self._record, ended)] = len(ended)

            yield submit
        self._recording.clear()

    def _record(self, ended: list[RunEnd]) -> None:
        executions: list[tuple[RunnableClaim, Execution]] = []
        retries: list[Retry] = []
        for run_end in ended:
            result = self._execution_or_retry(run_end)
            if isinstance(result, Retry):
                retries.append(result)
            else:
                executions.append((run_end.claim, result))
        if executions:
            self._patiently(partial(self.store.record, executions))
        if retries:
            self._patiently(partial(self.store.postpone, retries))

    def _execution_or_retry(self, ended: RunEnd) -> Execution | Retry:
        """The execution to record, or the retry if the error is transient."""
        claim, end = ended.claim, ended.end
        if not isinstance(end, TransientError):
            return execution_of(claim, end, self.queue)
        decision = self.policy.decide(end, attempt=claim.attempts)
        if isinstance(decision, RetryIn):
            return Retry(
                claim=claim, error_class=end.error_class(), message=str(end),
                wait_s=decision.wait_s,
            )
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
