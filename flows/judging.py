"""Judging: many calls in flight on one event loop, claimed and recorded a few at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from flows.score import JUDGE_BATCH, RetryPolicy, ScoreStore, judge_one
from flows.work import JUDGE, Claim, Execution, Retry
from scorers.judge import Judge

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
        running: set[asyncio.Task[tuple[Claim, Execution | Retry]]] = set()
        try:
            await self._drain(running, stop_after_s)
        finally:
            # After an error of the store nobody waits for these: their claims are given
            # back, and an answer that came later would have been paid for in vain.
            for task in running:
                task.cancel()

    async def _drain(
        self, running: set[asyncio.Task[tuple[Claim, Execution | Retry]]], stop_after_s: float
    ) -> None:
        begin = renewed = time.monotonic()
        is_empty = False
        looked = 0.0
        while True:
            now = time.monotonic()
            if now - begin < stop_after_s and (not is_empty or now - looked > POLL_S):
                claimed = await self._claim(self.in_flight_max - len(running))
                looked, is_empty = now, not claimed
                running |= {asyncio.create_task(self._judge(claim)) for claim in claimed}
                if claimed and len(running) < self.in_flight_max:
                    continue   # there may be more, and there is room for it
            if not running:
                return
            done, _ = await asyncio.wait(
                running, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED
            )
            running -= done
            await self._record([task.result() for task in done])
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

    async def _judge(self, claim: Claim) -> tuple[Claim, Execution | Retry]:
        return claim, await judge_one(claim, self.judge, self.policy)

    async def _record(self, done: list[tuple[Claim, Execution | Retry]]) -> None:
        executions = [(claim, end) for claim, end in done if isinstance(end, Execution)]
        if executions:
            await asyncio.to_thread(self.store.record, executions)
        await asyncio.to_thread(
            self.store.postpone, [end for _, end in done if isinstance(end, Retry)]
        )
