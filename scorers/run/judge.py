"""Runs the scorers that ask a judge: autoevals' own, and users' classifiers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from scorers.catalog import at_version, resolve
from scorers.functions.source import KeptFunctions
from scorers.functions.version import FUNCTION, FunctionKind, FunctionVersion
from scorers.judge.ask import AnswerCache, score_classified
from scorers.judge.client import Judge, score_judged
from scorers.judge.prompt import FIELDS
from scorers.run.heuristic import arguments_of, fields_of, scoring_fields
from scorers.run.trace import TRACE, SpansOf, trace_argument
from spans.errors import BadInput
from spans.json import JsonObject
from spans.scoring import ScorerRef, ScoringResult
from spans.work import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedScorers:
    """Runs judged scorers on an event loop. Without a `cache`, every call goes to the judge."""

    judge: Judge
    functions: KeptFunctions
    spans_of: SpansOf
    cache: AnswerCache | None = None

    async def endpoint_of(self, assignment: Assignment) -> str:
        """The name of the endpoint that the assignment's scorer asks."""
        scorer = assignment.scorer
        if scorer.kind != FUNCTION:
            return self.judge.endpoint_of(at_version(scorer)).name
        function = await self._function(scorer)
        if function.global_name is not None:
            return self.judge.endpoint_of(resolve(function.global_name)).name
        model = function.classifier.model if function.classifier else None
        return self.judge.endpoints.of(model or self.judge.model).name

    async def score(self, assignment: Assignment) -> ScoringResult:
        """Run the assignment's scorer on its span and return the result.

        Raises what `score_judged` and `score_classified` raise, BadInput for a scorer that no
        longer exists or that no judge can run, and TraceTooLarge.
        """
        scorer, subject = assignment.scorer, assignment.subject
        if scorer.kind != FUNCTION:
            spec = at_version(scorer)
            return await score_judged(self.judge, spec, scoring_fields(subject))
        function = await self._function(scorer)
        read = partial(
            arguments_of, subject, trace_of=partial(trace_argument, self.spans_of)
        )
        if wants_trace(function):
            record = await asyncio.to_thread(read, (*FIELDS, TRACE))
        else:
            record = read(FIELDS)
        return await self.run(function, record)

    async def _function(self, scorer: ScorerRef) -> FunctionVersion:
        """The function, from the store on another thread if it is not cached."""
        known = self.functions.kept(scorer)
        if known is not None:
            return known
        return await asyncio.to_thread(self.functions.function, scorer)

    async def run(self, function: FunctionVersion, record: JsonObject) -> ScoringResult:
        """Run the function on `record` and return the result.

        `record` holds the span's fields by name, and its `trace` if `wants_trace` is true for
        the function. Raises what `score` raises.
        """
        if function.problem is not None:
            raise BadInput(f"{function.name} cannot run: {function.problem}")
        match function.kind:
            case FunctionKind.CLASSIFIER if function.classifier is not None:
                return await score_classified(
                    self.judge, function.classifier, record, name=function.name,
                    version=f"{function.id} {function.version}", cache=self.cache,
                )
            case FunctionKind.GLOBAL if function.global_name is not None:
                spec = resolve(function.global_name)
                given = await score_judged(self.judge, spec, fields_of(record))
                scores = tuple(replace(score, name=function.name) for score in given.scores)
                return replace(given, scores=scores)
            case _:
                raise BadInput(f"{function.name} is of kind {function.kind}: no judge runs it")


def wants_trace(function: FunctionVersion) -> bool:
    """Whether the function is a classifier whose prompt uses the trace's conversation."""
    return function.classifier is not None and function.classifier.needs_thread
