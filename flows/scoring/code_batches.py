"""Batches of claims that are code: what goes in, and what becomes of each claim."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import Protocol

import orjson

from flows.scoring.retry import RetryIn, decide
from flows.scoring.score import RetryPolicy, executed
from scorers.functions.source import FunctionSource
from scorers.functions.version import FunctionVersion
from scorers.running.code import wanted
from scorers.running.in_process import arguments_of, failed
from scorers.running.trace import TRACE, TraceStore, trace_argument
from scorers.sandbox.model import Program
from spans.errors import TallyardError, TransientError
from spans.json import JsonObject
from spans.outcome import Errored, Verdict
from spans.queues import SANDBOX
from spans.scoring import ScorerRef
from spans.work import Execution, Retry, RunnableClaim

BATCH = 100
"""Records that one child of a sandbox runs: a child costs some 5 ms, a record 0.05."""

TRACED_BATCH = 8
"""The same of code that takes the trace: each may be 16 MiB."""

Done = tuple[RunnableClaim, Execution | Retry]


class Scorers(Protocol):
    """What runs code (`scorers.running.code.CodeScorers`)."""

    def ready(self, function: FunctionVersion) -> Program:
        """What runs it here, now. Raises a TallyardError if nothing can."""
        ...

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        """One for each record, in order; a TransientError where the scorer is not at fault."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBatches:
    """Runs batches of claims. Thread-safe."""

    functions: FunctionSource
    traces: TraceStore
    scorers: Scorers
    policy: RetryPolicy

    def columns(self, scorer: ScorerRef) -> frozenset[str]:
        """The columns of a row that the scorer's handler takes."""
        try:
            program = self.functions.function(scorer).program
        except TallyardError:
            return frozenset()   # `run` says so
        return frozenset(wanted(program)) - {TRACE} if program is not None else frozenset()

    def run(self, batch: Sequence[RunnableClaim]) -> list[Done]:
        """Run claims of one scorer. Never raises a TallyardError:
        it is part of what becomes of the claims."""
        begin = time.perf_counter()
        try:
            function = self.functions.function(batch[0].assignment.scorer)
            names = wanted(self.scorers.ready(function))
        except TallyardError as error:
            return [self._done(claim, _as_end(error, begin)) for claim in batch]
        done: list[Done] = []
        size = TRACED_BATCH if TRACE in names else BATCH
        for start in range(0, len(batch), size):
            done += self._run_some(function, names, batch[start : start + size])
        return done

    def _run_some(
        self, function: FunctionVersion, names: Sequence[str],
        claims: Sequence[RunnableClaim],
    ) -> list[Done]:
        begin = time.perf_counter()
        records: list[JsonObject] = []
        readable: list[RunnableClaim] = []
        done: list[Done] = []
        trace_of = cache(partial(trace_argument, self.traces))   # spans of one trace share it
        for claim in claims:
            try:
                records.append(arguments_of(claim.assignment.subject, names, trace_of))
                readable.append(claim)
            except TallyardError as error:
                done.append(self._done(claim, _as_end(error, begin)))
        ends = self.scorers.run(function, records) if records else []
        done += [self._done(claim, end) for claim, end in zip(readable, ends, strict=True)]
        return done

    def _done(self, claim: RunnableClaim, end: Verdict | TransientError) -> Done:
        """What becomes of a claim: recorded, or tried again."""
        if not isinstance(end, TransientError):
            return claim, executed(claim, end, SANDBOX)
        policy = self.policy
        decision = decide(
            end, attempt=claim.attempts, attempts_max=policy.attempts_max,
            wait_max_s=policy.wait_max_s, jitter=policy.jitter(),
        )
        if isinstance(decision, RetryIn):
            return claim, Retry(
                claim=claim, error_class=end.error_class(), message=str(end),
                wait_s=decision.wait_s,
            )
        verdict = Errored(failure=decision, started_at=time.time(), run_ms=0.0)
        return claim, executed(claim, verdict, SANDBOX)


def batches(claims: Iterable[RunnableClaim]) -> Iterator[list[RunnableClaim]]:
    """The claims by project and scorer, at most BATCH in one."""
    def owner(claim: RunnableClaim) -> tuple[str, str, str]:
        lead = claim.lead
        return str(lead.object.project_id), lead.scorer.name, lead.scorer.version

    for _, group in groupby(sorted(claims, key=owner), key=owner):
        of_one = list(group)
        for start in range(0, len(of_one), BATCH):
            yield of_one[start : start + BATCH]


def size_of(claims: Iterable[RunnableClaim]) -> int:
    """About how many bytes of JSON the claims' rows are."""
    return sum(
        len(orjson.dumps(claim.assignment.subject.view, default=str))
        for claim in claims
    )


def _as_end(error: TallyardError, begin: float) -> Verdict | TransientError:
    return error if isinstance(error, TransientError) else failed(error, begin=begin)
