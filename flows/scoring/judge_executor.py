"""Judging: many calls in flight on one event loop, claimed and recorded a few at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from flows.scoring.score import (
    DEATHS_MAX,
    JUDGE_BATCH,
    RetryPolicy,
    ScoreStore,
    executed,
    judge_one,
    runnable,
    stale,
)
from scorers.running.judged import JudgedScorers
from spans.errors import TransientError
from spans.outcome import BUG, Errored, Failure
from spans.queues import JUDGE
from spans.work import Execution, Retry, RunnableClaim

logger = logging.getLogger(__name__)

Running = dict[asyncio.Task[Execution | Retry], RunnableClaim]

POLL_S = 0.5
"""How often an otherwise busy loop looks for more work."""


class JudgeStore(ScoreStore, Protocol):
    """A ScoreStore whose leases can be kept."""

    def renew(self, queue: str) -> None:
        """Keep what this process holds of the queue for another lease."""
        ...


GATHER_S = 0.02
"""How long a first answer waits to be recorded together with others."""

PATIENCE_S = 30.0
"""How long answers wait for a store that is away, before they are given up."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Judging:
    """The collaborators, and how many calls may be under way at once.

    `meanwhile` is called, on another thread, before more is claimed: what must not wait for
    the end of a long backlog. `stopping` is set, from any thread, when the worker is to stop.
    """

    store: JudgeStore
    scorers: JudgedScorers
    policy: RetryPolicy
    in_flight_max: int
    renew_s: float
    meanwhile: Callable[[], object] = lambda: None
    stopping: threading.Event = field(default_factory=threading.Event)
    renewed_at: float = 0.0     # by time.monotonic

    async def drain(self, *, stop_after_s: float) -> int:
        """Judge what is due until nothing is; claims nothing more after `stop_after_s`.
        Gives how many claims there were.

        Safe to repeat: a verdict is recorded only under its claim's own fence.
        """
        running: Running = {}
        try:
            return await self._drain(running, stop_after_s)
        finally:
            # Nobody waits for these any more, after an error of the store or when the worker
            # is to stop: their claims are given back.
            for task in running:
                task.cancel()

    async def _drain(self, running: Running, stop_after_s: float) -> int:
        begin = time.monotonic()
        count = 0
        is_empty = False
        looked = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now - begin < stop_after_s and (not is_empty or now - looked > POLL_S):
                claimed = await self._claim(self.in_flight_max - len(running))
                looked, is_empty = now, not claimed
                count += len(claimed)
                if any(claim.deaths >= DEATHS_MAX - 1 for claim in claimed):
                    # Its last try, and nothing else is to die of it.
                    await self._finish(running)
                    self._begin(running, claimed)
                    await self._finish(running)
                    continue
                self._begin(running, claimed)
                if claimed and len(running) < self.in_flight_max:
                    continue   # there may be more, and there is room for it
            if not running:
                return count
            await self._record_some(running)
        return count

    def _begin(self, running: Running, claims: list[RunnableClaim]) -> None:
        for claim in claims:
            answer = judge_one(claim, self.scorers, self.policy)
            running[asyncio.create_task(answer)] = claim

    async def _finish(self, running: Running) -> None:
        while running and not self.stopping.is_set():
            await self._record_some(running)

    async def _record_some(self, running: Running) -> None:
        """Wait for the first answers, at most POLL_S, and a moment for others to come with
        them; record what there is."""
        first, _ = await asyncio.wait(
            running, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED
        )
        if first and len(running) > len(first):
            await asyncio.sleep(GATHER_S)
        tasks = [task for task in running if task.done()]
        done = [_ended(running.pop(task), task) for task in tasks]
        executions = [(claim, end) for claim, end in done if isinstance(end, Execution)]
        retries = [end for _, end in done if isinstance(end, Retry)]
        if executions:
            await self._patiently(self.store.record, executions)
        if retries:
            await self._patiently(self.store.postpone, retries)
        if time.monotonic() - self.renewed_at > self.renew_s:
            self.renewed_at = time.monotonic()
            await self._patiently(self.store.renew, JUDGE)

    async def _claim(self, room: int) -> list[RunnableClaim]:
        try:
            await asyncio.to_thread(self.meanwhile)
            if room <= 0:
                return []
            claims = await asyncio.to_thread(self.store.claim, JUDGE, min(JUDGE_BATCH, room))
            await asyncio.to_thread(self.store.supersede, stale(claims))
        except TransientError as error:
            logger.warning("judge: %s; nothing new is begun meanwhile", error)
            return []
        return runnable(claims)

    async def _patiently(self, work: Callable[[T], None], argument: T) -> None:
        """Do it, and again while the store is away: the answers in hand are paid for."""
        until = time.monotonic() + PATIENCE_S
        has_told = False
        while True:
            try:
                await asyncio.to_thread(work, argument)
            except TransientError as error:
                if time.monotonic() > until:
                    raise
                if not has_told:
                    logger.warning("judge: %s; answers in hand wait for it", error)
                    has_told = True
                await asyncio.sleep(POLL_S)
            else:
                return


def _ended(
    claim: RunnableClaim, task: asyncio.Task[Execution | Retry]
) -> tuple[RunnableClaim, Execution | Retry]:
    """What came of a claim. An error that nobody foresaw ends it too: tried again, it would
    call the judge again and again."""
    error = task.exception()
    if error is None:
        return claim, task.result()
    logger.error("judging %s", claim.lead.id, exc_info=error)
    failure = Failure(
        error_class=BUG,
        message=f"{type(error).__name__}; the judge worker's log has it under {claim.lead.id}",
    )
    verdict = Errored(failure=failure, started_at=time.time(), run_ms=0.0)
    return claim, executed(claim, verdict, JUDGE)
