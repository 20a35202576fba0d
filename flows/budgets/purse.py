"""Pays for judge calls: reserves for those that wait together in one transaction.

    purses = Purses(store, answer_tokens_max=4096)
    purse = purses.of_claim(claim)                  # or of_project(id), for a client's request
    receipt = await purse.reserve(dearest)          # None: no budget caps the run
    receipt.settle(cost)

Which subjects have budgets is read every two seconds, so that calls which no budget caps cost
nothing. A new budget of a project or a rule holds for calls that begin two seconds after it was
made; that of a re-score job holds for all of its calls.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from rules.budgets.reserve import CallAsk, Refusal, Reservation, Settlement, whole
from spans.errors import BudgetSpent, Contended, NoPrice, TransientError
from spans.ids import ProjectId
from spans.outcome import OriginKind
from spans.work import RunnableClaim

logger = logging.getLogger(__name__)

KNOWN_S = 2.0
"""For how long a process relies on what it knows of who has budgets, seconds."""

GATHER_S = 0.005
"""How long calls gather for one transaction while several come at once, seconds. A transaction
takes some 3 ms; at 500 calls in a second it has two or three of them."""

CALLS_MAX = 64
"""Most reservations and settlements of one transaction: it keeps the budget's row locked."""

TRIES = 5
"""How often a transaction is tried that loses against others."""

JOBS_KEPT = 10_000
"""Re-score jobs of which a process knows that it has looked for their budgets."""

Reserved = Reservation | Refusal | None


class PurseStore(Protocol):
    """Where budgets are, and what is spent of them."""

    def transact(
        self, settlements: Sequence[Settlement], asks: Sequence[CallAsk]
    ) -> list[Reserved]:
        """Settles calls, then reserves for others: what became of each ask, in order.

        All of it is one transaction, which decides by `rules.budgets.reserve`. Settlements of
        budgets that were deleted do nothing.
        """
        ...

    def capped(self) -> Mapping[UUID, bool]:
        """The subjects that have budgets, and whether one of these caps money."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    ask: CallAsk
    answer: Future[Reserved]


class Purses:
    """The purses of one process. Thread-safe; it has a thread from the first reservation on.

    `answer_tokens_max` is the most tokens of one answer while money is capped.
    """

    def __init__(self, store: PurseStore, *, answer_tokens_max: int) -> None:
        self.answer_tokens_max = answer_tokens_max
        self._store = store
        self._capped: Mapping[UUID, bool] = {}
        self._known_at = float("-inf")
        self._jobs: set[UUID] = set()
        self._looking = threading.Lock()
        self._waiting: queue.SimpleQueue[_Ask | Settlement | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def of_claim(self, claim: RunnableClaim) -> RunPurse:
        """The purse of a claim's run: the budgets of the project, and of the rule or job that
        asked for its lead."""
        lead = claim.lead
        job = lead.origin.id if lead.origin.kind is OriginKind.RESCORE else None
        return RunPurse(self, frozenset({lead.object.project_id, lead.origin.id}), job)

    def of_project(self, project_id: ProjectId) -> RunPurse:
        """The purse of calls that a client waits for: the project's budgets."""
        return RunPurse(self, frozenset({project_id}), None)

    def close(self) -> None:
        """Settles what is still to be settled, and ends the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._closing.set()
            self._waiting.put(None)
            thread.join()

    async def capped_among(self, subjects: frozenset[UUID], job: UUID | None) -> list[bool]:
        """For each of the subjects that have budgets, whether one of these caps money."""
        is_new_job = job is not None and job not in self._jobs
        if is_new_job or time.monotonic() - self._known_at > KNOWN_S:
            await asyncio.to_thread(self._look, time.monotonic(), is_urgent=is_new_job)
        if job is not None:
            if len(self._jobs) >= JOBS_KEPT:
                self._jobs.clear()
            self._jobs.add(job)
        return [self._capped[one] for one in subjects if one in self._capped]

    def forget(self) -> None:
        """Look anew who has budgets, before the next call."""
        self._known_at = float("-inf")

    def put(self, item: _Ask | Settlement) -> None:
        """Have the thread do it soon."""
        self._waiting.put(item)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="purses", daemon=True
                    )
                    self._thread.start()

    def _look(self, asked_at: float, *, is_urgent: bool) -> None:
        """Read who has budgets, unless another thread has done so meanwhile."""
        with self._looking:
            if self._known_at < (asked_at if is_urgent else asked_at - KNOWN_S):
                began = time.monotonic()
                self._capped = self._store.capped()
                self._known_at = began

    def _run(self) -> None:
        size = 0
        while (first := self._waiting.get()) is not None:
            if size > 1 and self._waiting.qsize() < CALLS_MAX - 1:
                self._closing.wait(GATHER_S)
            group = [first]
            is_last = False
            while len(group) < CALLS_MAX:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_last = True
                    break
                group.append(following)
            size = len(group)
            self._do(
                [one for one in group if isinstance(one, Settlement)],
                [one for one in group if isinstance(one, _Ask)],
            )
            if is_last:
                return

    def _do(self, settlements: Sequence[Settlement], asks: Sequence[_Ask]) -> None:
        try:
            answers = self._transact(settlements, [one.ask for one in asks])
        # Every error goes to those who wait, or they would wait for ever.
        except Exception as error:
            if settlements:
                # They are not repeated, since they may have been stored: what they reserved
                # then stays reserved, which is safe.
                logger.warning(
                    "%d calls of judges stay reserved in their budgets: %s", len(settlements),
                    error, exc_info=not isinstance(error, TransientError),
                )
            for one in asks:
                one.answer.set_exception(error)
            return
        for one, answer in zip(asks, answers, strict=True):
            one.answer.set_result(answer)

    def _transact(
        self, settlements: Sequence[Settlement], asks: Sequence[CallAsk]
    ) -> list[Reserved]:
        for _ in range(TRIES - 1):
            try:
                return self._store.transact(settlements, asks)
            except Contended:
                continue   # nothing was stored
        return self._store.transact(settlements, asks)


@dataclass(frozen=True, slots=True)
class RunPurse:
    """The budgets of one run, or of a client's request: a scorers.judge.purse.Purse."""

    purses: Purses
    subjects: frozenset[UUID]
    job: UUID | None

    async def answer_tokens_max(self) -> int | None:
        """Most tokens that an answer may have, if a budget caps money; else None."""
        capped = await self.purses.capped_among(self.subjects, self.job)
        return self.purses.answer_tokens_max if any(capped) else None

    async def reserve(self, dearest: int | None) -> CallReceipt | None:
        """Reserve so many billionths for a call. Raises BudgetSpent and NoPrice."""
        if not await self.purses.capped_among(self.subjects, self.job):
            return None
        answer: Future[Reserved] = Future()
        ask = CallAsk(subjects=self.subjects, money=dearest)
        self.purses.put(_Ask(ask=ask, answer=answer))
        try:
            found = await asyncio.wrap_future(_shielded(answer))
        except asyncio.CancelledError:
            answer.add_done_callback(self._give_back)
            raise
        if isinstance(found, Refusal):
            if found.needs_price:
                self.purses.forget()
                raise NoPrice(found.reason)
            raise BudgetSpent(found.reason, budget_no=found.budget_no)
        return None if found is None else CallReceipt(self.purses, found)

    def _give_back(self, answer: Future[Reserved]) -> None:
        """Give back what was reserved for a call that nobody makes any more."""
        if answer.exception() is None and isinstance(found := answer.result(), Reservation):
            CallReceipt(self.purses, found).give_back()


@dataclass(frozen=True, slots=True)
class CallReceipt:
    """What was reserved for one call. Implements scorers.judge.purse.Receipt."""

    purses: Purses
    reservation: Reservation

    def settle(self, money: int | None) -> None:
        """The call cost so many billionths; None: perhaps all that was reserved."""
        done = whole(self.reservation)
        if money is not None:
            done = Settlement(reservation=self.reservation, money=money, calls=1)
        self.purses.put(done)

    def give_back(self) -> None:
        """The endpoint has refused the call before it began to answer."""
        self.purses.put(Settlement(reservation=self.reservation, money=0, calls=0))


def _shielded(answer: Future[Reserved]) -> Future[Reserved]:
    """A future that ends as `answer` does. To cancel it does not cancel `answer`."""
    own: Future[Reserved] = Future()

    def copy(done: Future[Reserved]) -> None:
        if not own.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is None:
            own.set_result(done.result())
        else:
            own.set_exception(error)

    answer.add_done_callback(copy)
    return own
