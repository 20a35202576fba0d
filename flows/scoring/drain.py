"""The drain of a queue: claim, run, record, until nothing is due.

One drain serves every queue of pending outcomes; what differs between queues is the executor
that runs the claims, and the pace.

    drain = Drain(store=ledger, queue=JUDGE, executor=JudgeExecutor(...), policy=..., pace=...)
    count = drain.run(stop_after_s=20.0)

It claims as many assignments as the executor has room for, closes those that have nothing to
run, and hands the others over. What ends is gathered for a moment and recorded in one
transaction; a transient error is postponed by the retry policy. Leases are renewed on the way.
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
"""How often a busy drain looks for interactive calls: 1 ms each time."""

PATIENCE_S = 30.0
"""How long results in hand wait for a store that is away, before they are given up."""


class RunEnd(NamedTuple):
    """How the run of one claim ended: with a verdict, or an error that time may heal.

    `started_at` (unix seconds) and `run_ms` are of the run; a verdict has its own.
    """

    claim: RunnableClaim
    end: Verdict | TransientError
    started_at: float = 0.0
    run_ms: float = 0.0


class Executor(Protocol):
    """Runs claims for a drain. Its methods are called from the drain's thread alone."""

    @property
    def columns(self) -> ColumnsOf | None:
        """The columns of a row that a scorer reads; None: all that any scorer may take."""
        ...

    def room(self, unrecorded: int) -> int:
        """How many more claims it takes now, while `unrecorded` ends wait to be recorded."""
        ...

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Take claims over, to be run as soon as there is a place for each."""
        ...

    def wait(self, timeout_s: float) -> list[RunEnd]:
        """What ended since the last call; waits up to `timeout_s` for the first to end.

        A claim whose run raised something unforeseen ends with a verdict that says so: tried
        again, it would only meet it again.
        """
        ...

    def under_way(self) -> int:
        """Claims that were taken over and have not been given out by `wait`."""
        ...

    def take_back(self) -> list[RunnableClaim]:
        """Claims that were not begun, and now will not be."""
        ...

    def cancel(self) -> None:
        """Give up what is under way: nobody waits for it any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a drain gathers and records what ended.

    One transaction records up to `gather` ends, and the first of them waits `gather_s` seconds
    for others. `recorders` transactions run at once on threads of their own; with 0 the drain's
    own thread records, and runs nothing meanwhile. Leases are renewed every `renew_s` seconds.
    """

    gather: int
    gather_s: float
    renew_s: float
    recorders: int = 0


@dataclass(slots=True, kw_only=True)
class Drain:
    """Empties one queue of pending outcomes.

    `meanwhile` is called every LISTEN_S, for what must not wait for the end of a long backlog;
    it returns how many calls it answered itself. `stopping` is set, from any thread, when the
    worker is to stop: claims under way are then left to be given back.
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
    _gathered_at: float = 0.0    # since when the first of them waits
    _recording: dict[Future[None], int] = field(default_factory=dict)

    def run(self, *, stop_after_s: float) -> int:
        """Run what is due until nothing is; claim nothing more after `stop_after_s` seconds.

        Returns how many claims and calls there were. Safe to repeat: a verdict is recorded
        only under its claim's own fence. Raises TransientError if the store stays away.
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
                    continue   # there may be more, and there is room for it
            if now >= until and (claims := self.executor.take_back()):
                self.store.give_back(claims)
            if self._in_hand():
                self._go_on(submit)
            elif is_empty or not room:
                return count
        return count

    def _claim(self, room: int) -> tuple[list[RunnableClaim], int]:
        """Claims to be run, and how many were found with those that have nothing to run."""
        try:
            claims = self.store.claim(self.queue, room, self.executor.columns)
            stale = [claim for claim in claims if isinstance(claim, StaleClaim)]
            self.store.supersede(stale)
        except TransientError as error:
            logger.warning("%s: %s; nothing new is begun meanwhile", self.queue, error)
            return [], 0
        runnable = [claim for claim in claims if isinstance(claim, RunnableClaim)]
        return runnable, len(claims)

    def _begin(
        self, claims: list[RunnableClaim], submit: Callable[[list[RunEnd]], None]
    ) -> None:
        if not any(map(is_last_try, claims)):
            self.executor.begin(claims)
            return
        self._finish(submit)   # nothing else is to die of it
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
        """Wait a moment for an end; record what is gathered; renew what is held."""
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
        """Whether to record what has ended now, or to wait for more to come with it."""
        if not self._gathered or len(self._recording) > max(0, self.pace.recorders - 1):
            return False
        return (
            len(self._gathered) >= self.pace.gather
            or not self.executor.under_way()
            or time.monotonic() - self._gathered_at > self.pace.gather_s
        )

    @contextmanager
    def _recorder(self) -> Iterator[Callable[[list[RunEnd]], None]]:
        """What records a batch of ends: at once, or on one of the recorders' threads."""
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
        for one in ended:
            what = self._became(one)
            if isinstance(what, Retry):
                retries.append(what)
            else:
                executions.append((one.claim, what))
        if executions:
            self._patiently(partial(self.store.record, executions))
        if retries:
            self._patiently(partial(self.store.postpone, retries))

    def _became(self, ended: RunEnd) -> Execution | Retry:
        """What becomes of a claim: recorded, or tried again."""
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
        """Do it, and again while the store is away: what ran need not run twice."""
        patiently(work, patience_s=PATIENCE_S, stopping=self.stopping)


def bug_end(claim: RunnableClaim, error: BaseException, queue: str) -> RunEnd:
    """The end of a claim whose run raised what nobody foresaw, logged with its traceback."""
    logger.error("%s: running %s", queue, claim.lead.id, exc_info=error)
    failure = Failure(
        error_class=BUG,
        message=f"{type(error).__name__}; the {queue} worker's log has it under "
        f"{claim.lead.id}",
    )
    return RunEnd(claim, Errored(failure=failure, started_at=time.time(), run_ms=0.0))
