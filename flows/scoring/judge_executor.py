"""Runs scorers that ask a judge, with many calls in flight on one event loop."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from flows.scoring.circuit import Full, Gates, Held
from flows.scoring.drain import RunEnd, bug_end
from scorers.judge.call_costs import counting_calls, current
from scorers.judge.purse import Purse, paying_from
from scorers.run.heuristic import failed_verdict
from spans.errors import TallyardError, TransientError
from spans.outcome import verdict_of
from spans.queues import JUDGE
from spans.scoring import ScoringResult
from spans.work import Assignment, ColumnsOf, RunnableClaim

PurseOf = Callable[[RunnableClaim], Purse | None]
"""The budgets that cap the calls of a claim's run; None: there are none."""

BATCH = 32
"""Claims taken at once. Many such batches are in flight together."""


class Scorers(Protocol):
    """Scorers that ask a judge."""

    async def endpoint_of(self, assignment: Assignment) -> str:
        """The name of the endpoint that the assignment's scorer asks."""
        ...

    async def score(self, assignment: Assignment) -> ScoringResult:
        """The result of the assignment's scorer. Raises TallyardError.

        Its calls are counted (`scorers.judge.call_costs`).
        """
        ...


class JudgeExecutor:
    """An executor whose claims run as tasks of `loop`, the process's one event loop.

    The loop runs on a thread of its own. The drain's thread passes claims to it and waits for
    their ends. As many claims are under way as the gates to the endpoints have places; how many
    of them are calls, each gate decides. `purse_of` has the budgets that cap them.
    """

    columns: ColumnsOf | None = None

    def __init__(
        self, scorers: Scorers, gates: Gates, *, loop: asyncio.AbstractEventLoop,
        purse_of: PurseOf = lambda _: None,
    ) -> None:
        self._scorers = scorers
        self._gates = gates
        self._loop = loop
        self._purse_of = purse_of
        self._under_way = 0
        self._ended: queue.SimpleQueue[RunEnd] = queue.SimpleQueue()
        # Used by the loop's thread alone.
        self._tasks: dict[asyncio.Task[RunEnd], RunnableClaim] = {}

    def room(self, unrecorded: int) -> int:  # noqa: ARG002 - answers are small
        """How many more claims may be put in flight, at most a batch."""
        return min(BATCH, self._gates.places - self._under_way)

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Starts a task for each claim."""
        self._under_way += len(claims)
        self._loop.call_soon_threadsafe(self._start, claims)

    def wait(self, timeout_s: float) -> list[RunEnd]:
        """The runs that ended: at least one, or none once the time is up."""
        try:
            ended = [self._ended.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get_nowait())
        self._under_way -= len(ended)
        return ended

    def under_way(self) -> int:
        """How many claims are in flight, or have an end that `wait` has not returned."""
        return self._under_way

    def take_back(self) -> list[RunnableClaim]:
        """Nothing, since every claim is begun at once."""
        return []

    def cancel(self) -> None:
        """Cancels every call in flight, and forgets the ends that `wait` has not returned."""
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
        """Asks the judge about one claim, unless its endpoint is down or has no place."""
        begin = time.perf_counter()
        try:
            gate = self._gates.to(await self._scorers.endpoint_of(claim.assignment))
            entry = await gate.enter()
        except TransientError as error:
            return RunEnd(claim, error)
        except TallyardError as error:
            return RunEnd(claim, failed_verdict(error, started_at=time.time(), begin=begin))
        if isinstance(entry, Held | Full):
            return RunEnd(claim, entry)
        with counting_calls() as execution, paying_from(self._purse_of(claim)):
            try:
                ended = await self._ask(claim)
            except BaseException:
                gate.abandon()
                raise
        await gate.leave(
            entry, ended.end if isinstance(ended.end, TransientError) else None,
            has_called=execution.calls > 0,
        )
        return ended

    async def _ask(self, claim: RunnableClaim) -> RunEnd:
        """Asks the judge about one claim. A TallyardError becomes the claim's end."""
        started_at, begin = time.time(), time.perf_counter()
        try:
            result = await self._scorers.score(claim.assignment)
        except TransientError as error:
            run_ms = (time.perf_counter() - begin) * 1000
            return RunEnd(claim, error, started_at=started_at, run_ms=run_ms)
        except TallyardError as error:
            failed = failed_verdict(error, started_at=started_at, begin=begin)
            return RunEnd(claim, replace(failed, usage=current.get().usage()))
        run_ms = (time.perf_counter() - begin) * 1000
        return RunEnd(claim, verdict_of(result, started_at=started_at, run_ms=run_ms))
