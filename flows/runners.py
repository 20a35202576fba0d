"""What runs functions for those who wait, where no sandbox is needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.judged import JudgedScorers
from flows.run import failed, run_scorer
from scorers.arguments import ScoringFields
from scorers.catalog import resolve
from scorers.function import FunctionVersion
from spans.errors import TallyardError, TransientError
from spans.json import JsonObject
from spans.outcome import Verdict


class InProcess:
    """Runs global scorers that compute, one record after another."""

    def run(self, function: FunctionVersion, records: Sequence[JsonObject]) -> list[Verdict]:
        """See flows.answering.Runner."""
        return [run_global(function, fields_of(record)) for record in records]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Asks judges on the event loop of their process, from any other thread; all records at
    once, as far as the judge's own limit allows."""

    scorers: JudgedScorers
    loop: asyncio.AbstractEventLoop

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        """See flows.answering.Runner."""
        answers = self._all(function, records)
        return asyncio.run_coroutine_threadsafe(answers, self.loop).result()

    async def _all(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        return await asyncio.gather(*(self._one(function, record) for record in records))

    async def _one(
        self, function: FunctionVersion, record: JsonObject
    ) -> Verdict | TransientError:
        started_at, begin = time.time(), time.perf_counter()
        try:
            result = await self.scorers.run(function, record)
        except TransientError as error:
            return error
        except TallyardError as error:
            return failed(error, started_at=started_at, begin=begin)
        return Verdict(
            result=result, started_at=started_at, run_ms=(time.perf_counter() - begin) * 1000
        )


def run_global(function: FunctionVersion, fields: ScoringFields) -> Verdict:
    """The verdict of a global scorer that computes, under the function's own name."""
    try:
        spec = resolve(function.global_name or function.name)
    except TallyardError as error:
        return failed(error)
    verdict = run_scorer(spec, fields)
    if verdict.result is None:
        return verdict
    scores = tuple(replace(score, name=function.name) for score in verdict.result.scores)
    return replace(verdict, result=replace(verdict.result, scores=scores))


def fields_of(record: JsonObject) -> ScoringFields:
    """A record as the scorers of autoevals take it."""
    row_id, trace = record.get("id"), record.get("trace")
    return ScoringFields(
        input=record.get("input"), output=record.get("output"),
        expected=record.get("expected"), metadata=record.get("metadata"),
        tags=record.get("tags"), id=row_id if isinstance(row_id, str) else None,
        trace=trace if isinstance(trace, dict) else None,
    )
