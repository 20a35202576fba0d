"""Runs claims whose scorer is users' code, in batches, and tells how each claim ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby

import orjson

from flows.scoring.drain import RunEnd
from scorers.functions.source import KeptFunctions
from scorers.functions.version import FunctionVersion
from scorers.judge.purse import Purse
from scorers.run.code import CodeScorers, arguments_taken
from scorers.run.heuristic import arguments_of, failed_verdict
from scorers.run.trace import TRACE, SpansOf, trace_argument
from spans.errors import TallyardError, TransientError
from spans.json import JsonObject
from spans.outcome import Verdict
from spans.scoring import ScorerRef
from spans.work import RunnableClaim

BATCH = 100
"""Records that one child of a sandbox runs. A child costs about 5 ms, a record 0.05 ms."""

TRACED_BATCH = 8
"""Records in a batch of code that takes the trace, of which each may have 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBatches:
    """Runs batches of claims. It may be called from several threads at once."""

    functions: KeptFunctions
    spans_of: SpansOf
    scorers: CodeScorers
    purse_of: Callable[[RunnableClaim], Purse | None] = lambda _: None

    def columns(self, scorer: ScorerRef) -> frozenset[str]:
        """The columns of a row that the scorer's handler takes."""
        try:
            program = self.functions.function(scorer).program
        except TallyardError:
            return frozenset()   # `run` meets the same error, and returns it
        if program is None:
            return frozenset()
        return frozenset(arguments_taken(program)) - {TRACE}

    def run(self, batch: Sequence[RunnableClaim]) -> list[RunEnd]:
        """Runs claims of one scorer. A TallyardError becomes the end of its claim."""
        begin = time.perf_counter()
        try:
            function = self.functions.function(batch[0].assignment.scorer)
            names = arguments_taken(self.scorers.ready(function))
        except TallyardError as error:
            return [RunEnd(claim, _as_end(error, begin)) for claim in batch]
        done: list[RunEnd] = []
        size = TRACED_BATCH if TRACE in names else BATCH
        for start in range(0, len(batch), size):
            done += self._run_some(function, names, batch[start : start + size])
        return done

    def _run_some(
        self, function: FunctionVersion, names: Sequence[str],
        claims: Sequence[RunnableClaim],
    ) -> list[RunEnd]:
        begin = time.perf_counter()
        records: list[JsonObject] = []
        readable: list[RunnableClaim] = []
        done: list[RunEnd] = []
        trace_of = cache(partial(trace_argument, self.spans_of))   # spans of one trace share it
        for claim in claims:
            try:
                records.append(arguments_of(claim.assignment.subject, names, trace_of))
                readable.append(claim)
            except TallyardError as error:
                done.append(RunEnd(claim, _as_end(error, begin)))
        ends: Sequence[Verdict | TransientError] = ()
        if records:
            ends = self.scorers.run(function, records, purse=self.purse_of(claims[0]))
        done += [RunEnd(claim, end) for claim, end in zip(readable, ends, strict=True)]
        return done


def batches(claims: Iterable[RunnableClaim]) -> Iterator[list[RunnableClaim]]:
    """The claims in batches of one project, scorer and origin, with at most BATCH in each.

    The origin matters since it may have a budget, from which the calls of a batch are paid.
    """
    def owner(claim: RunnableClaim) -> tuple[str, str, str, str]:
        lead = claim.lead
        scorer = lead.scorer
        project, origin = str(lead.object.project_id), str(lead.origin.id)
        return project, scorer.name, scorer.version, origin

    for _, group in groupby(sorted(claims, key=owner), key=owner):
        of_one = list(group)
        for start in range(0, len(of_one), BATCH):
            yield of_one[start : start + BATCH]


def size_of(claims: Iterable[RunnableClaim]) -> int:
    """About how many bytes of JSON the rows of the claims have."""
    return sum(
        len(orjson.dumps(claim.assignment.subject.view, default=str))
        for claim in claims
    )


def _as_end(error: TallyardError, begin: float) -> Verdict | TransientError:
    return error if isinstance(error, TransientError) else failed_verdict(error, begin=begin)
