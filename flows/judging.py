"""Judging: many calls in flight on one event loop, claimed and recorded a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol

from flows.score import JUDGE_BATCH, RetryPolicy, ScoreStore, executed, judge_one
from flows.work import JUDGE, Claim, Execution, Retry
from scorers.judge import Judge
from spans.outcome import BUG, Failure, Verdict

logger = logging.getLogger(__name__)

Running = dict[asyncio.Task[Execution | Retry], Claim]

POLL_S = 0.5
"""How often an otherwise busy loop looks for more work."""


class JudgeStore(ScoreStore, Protocol):
    """A ScoreStore whose leases can be kept."""

    def renew(self, queue: str) -> None:
        """Keep what this process holds of the queue for another lease."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """The collaborators, and how many calls may be under way at once."""

    store: JudgeStore
    judge: Judge
    policy: RetryPolicy
    in_flight_max: int
    renew_s: float

    async def drain(self, *, stop_after_s: float) -> None:
        """Judge what is due until nothing is; claims nothing more after `stop_after_s`.

        Safe to repeat: a verdict is recorded only under its claim's own fence.
        """
        running: Running = {}
        try:
            await self._drain(running, stop_after_s)
        finally:
            # After an error of the store nobody waits for these: their claims are given
            # back, and an answer that came later would have been paid for in vain.
            for task in running:
                task.cancel()

    async def _drain(self, running: Running, stop_after_s: float) -> None:
        begin = renewed = time.monotonic()
        is_empty = False
        looked = 0.0
        while True:
            now = time.monotonic()
            if now - begin < stop_after_s and (not is_empty or now - looked > POLL_S):
                claimed = await self._claim(self.in_flight_max - len(running))
                looked, is_empty = now, not claimed
                for claim in claimed:
                    answer = judge_one(claim, self.judge, self.policy)
                    running[asyncio.create_task(answer)] = claim
                if claimed and len(running) < self.in_flight_max:
                    continue   # there may be more, and there is room for it
            if not running:
                return
            done, _ = await asyncio.wait(
                running, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED
            )
            await self._record([_ended(running.pop(task), task) for task in done])
            if time.monotonic() - renewed > self.renew_s:
                renewed = time.monotonic()
                await asyncio.to_thread(self.store.renew, JUDGE)

    async def _claim(self, room: int) -> list[Claim]:
        if room <= 0:
            return []
        claims = await asyncio.to_thread(self.store.claim, JUDGE, min(JUDGE_BATCH, room))
        stale = [claim for claim in claims if claim.assignment is None]
        await asyncio.to_thread(self.store.supersede, stale)
        return [claim for claim in claims if claim.assignment is not None]

    async def _record(self, done: list[tuple[Claim, Execution | Retry]]) -> None:
        executions = [(claim, end) for claim, end in done if isinstance(end, Execution)]
        if executions:
            await asyncio.to_thread(self.store.record, executions)
        await asyncio.to_thread(
            self.store.postpone, [end for _, end in done if isinstance(end, Retry)]
        )


def _ended(
    claim: Claim, task: asyncio.Task[Execution | Retry]
) -> tuple[Claim, Execution | Retry]:
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
    verdict = Verdict(failure=failure, started_at=time.time(), run_ms=0.0)
    return claim, executed(claim, verdict, JUDGE)
