"""Runs scorers that ask a judge: many calls in flight on one event loop."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Sequence

from flows.scoring.drain import RunEnd, bug_end
from scorers.running.in_process import failed_verdict
from scorers.running.judged import JudgedScorers
from spans.errors import TallyardError, TransientError
from spans.outcome import verdict_of
from spans.queues import JUDGE
from spans.work import ColumnsOf, RunnableClaim

BATCH = 32
"""Claims at once; many such batches are in flight together."""


class JudgeExecutor:
    """An executor whose claims run as tasks of `loop`, the process's one event loop.

    The loop runs on a thread of its own; the drain's thread hands claims over to it and waits
    for ends. At most `in_flight_max` claims are under way.
    """

    columns: ColumnsOf | None = None

    def __init__(
        self, scorers: JudgedScorers, *, loop: asyncio.AbstractEventLoop, in_flight_max: int
    ) -> None:
        self._scorers = scorers
        self._loop = loop
        self._in_flight_max = in_flight_max
        self._under_way = 0
        self._ended: queue.SimpleQueue[RunEnd] = queue.SimpleQueue()
        self._tasks: dict[asyncio.Task[RunEnd], RunnableClaim] = {}   # the loop's thread's

    def room(self, unrecorded: int) -> int:  # noqa: ARG002 answers are small
        """What may still be put in flight, a batch at most."""
        return min(BATCH, self._in_flight_max - self._under_way)

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Start a task for each claim."""
        self._under_way += len(claims)
        self._loop.call_soon_threadsafe(self._start, claims)

    def wait(self, timeout_s: float) -> list[RunEnd]:
        """The claims that ended, at least one unless the time runs out."""
        try:
            ended = [self._ended.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get_nowait())
        self._under_way -= len(ended)
        return ended

    def under_way(self) -> int:
        """Claims in flight, and ends that `wait` has not given out."""
        return self._under_way

    def take_back(self) -> list[RunnableClaim]:
        """None: every claim is begun at once."""
        return []

    def cancel(self) -> None:
        """Cancel every call in flight, and forget the ends that nobody waits for."""
        if not self._under_way:
            return
        cancelled = asyncio.run_coroutine_threadsafe(self._cancel(), self._loop)
        cancelled.result()
        while not self._ended.empty():
            self._ended.get_nowait()
        self._under_way = 0

    def _start(self, claims: Sequence[RunnableClaim]) -> None:
        for claim in claims:
            task = self._loop.create_task(self._run(claim))
            self._tasks[task] = claim
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[RunEnd]) -> None:
        claim = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        self._ended.put(task.result() if error is None else bug_end(claim, error, JUDGE))

    async def _cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, claim: RunnableClaim) -> RunEnd:
        """Ask the judge about one claim. A TallyardError is part of the answer."""
        started_at, begin = time.time(), time.perf_counter()
        try:
            result = await self._scorers.score(claim.assignment)
        except TransientError as error:
            run_ms = (time.perf_counter() - begin) * 1000
            return RunEnd(claim, error, started_at=started_at, run_ms=run_ms)
        except TallyardError as error:
            return RunEnd(claim, failed_verdict(error, started_at=started_at, begin=begin))
        run_ms = (time.perf_counter() - begin) * 1000
        return RunEnd(claim, verdict_of(result, started_at=started_at, run_ms=run_ms))
