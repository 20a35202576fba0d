"""Runners of invocations that need no sandbox. They implement flows.invocations.server.Runner.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.scoring.retry import RetryIn, RetryPolicy
from scorers.functions.version import FunctionVersion
from scorers.judge.purse import Purse, paying_from
from scorers.run.heuristic import failed_verdict, fields_of, run_global
from scorers.run.judge import JudgedScorers
from spans.errors import BudgetSpent, TallyardError, TransientError
from spans.ids import ProjectId
from spans.json import JsonObject
from spans.outcome import Verdict, verdict_of


class InProcess:
    """Runs global scorers that compute, one record after another."""

    def run(self, function: FunctionVersion, records: Sequence[JsonObject]) -> list[Verdict]:
        """The verdict on each record, in order."""
        return [run_global(function, fields_of(record)) for record in records]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Runs scorers that ask a judge, on `loop`; `run` is called from another thread.

    All records run at once, as far as the judge's own limit allows. Because a client waits, a
    transient error is retried at once, by `policy`, and does not go back to the queue. The
    calls count against the budgets of the function's project.
    """

    scorers: JudgedScorers
    loop: asyncio.AbstractEventLoop
    policy: RetryPolicy
    purse_of: Callable[[ProjectId], Purse | None] = lambda _: None

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        """The verdict on each record, in order; the last TransientError if retries failed."""
        answers = self._all(function, records)
        return asyncio.run_coroutine_threadsafe(answers, self.loop).result()

    async def _all(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        return await asyncio.gather(*(self._one(function, record) for record in records))

    async def _one(
        self, function: FunctionVersion, record: JsonObject
    ) -> Verdict | TransientError:
        attempt = 0
        failing_since: float | None = None
        while True:
            attempt += 1
            started_at, begin = time.time(), time.perf_counter()
            try:
                with paying_from(self.purse_of(function.project_id)):
                    result = await self.scorers.run(function, record)
            except BudgetSpent as error:
                return error   # there is no budget in a moment either
            except TransientError as error:
                now = time.perf_counter()
                failing_since = failing_since or now
                decision = self.policy.decide(
                    error, attempt=attempt, failing_s=now - failing_since
                )
                if not isinstance(decision, RetryIn):
                    return error
                await asyncio.sleep(decision.wait_s)
            except TallyardError as error:
                return failed_verdict(error, started_at=started_at, begin=begin)
            else:
                run_ms = (time.perf_counter() - begin) * 1000
                return verdict_of(result, started_at=started_at, run_ms=run_ms)
