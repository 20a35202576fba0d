"""What a scorer is run on, running it, and timing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from scorers.arguments import ScoringFields
from scorers.catalog import ScorerSpec, at_version, resolve
from scorers.functions.version import FunctionVersion
from scorers.heuristics.in_process import score_in_process
from scorers.running.trace import TRACE, TraceRef
from spans.errors import TallyardError
from spans.json import JsonObject
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.work import Assignment, Subject


def run_assignment(assignment: Assignment) -> Verdict:
    """The verdict of a scorer that runs right here, if it is still there at its version."""
    try:
        spec = at_version(assignment.scorer)
    except TallyardError as error:
        return failed_verdict(error)
    return run_scorer(spec, scoring_fields(assignment.subject))


def run_scorer(spec: ScorerSpec, fields: ScoringFields) -> Verdict:
    """The scorer's verdict; what it raises is part of that."""
    started_at = time.time()
    begin = time.perf_counter()
    try:
        result = score_in_process(spec, fields)
    except TallyardError as error:
        return failed_verdict(error, started_at=started_at, begin=begin)
    return verdict_of(
        result, started_at=started_at, run_ms=(time.perf_counter() - begin) * 1000
    )


def run_global(function: FunctionVersion, fields: ScoringFields) -> Verdict:
    """The verdict of a global scorer that computes, under the function's own name."""
    try:
        spec = resolve(function.global_name or function.name)
    except TallyardError as error:
        return failed_verdict(error)
    verdict = run_scorer(spec, fields)
    if isinstance(verdict, Errored):
        return verdict
    scores = tuple(replace(score, name=function.name) for score in verdict.result.scores)
    return replace(verdict, result=replace(verdict.result, scores=scores))


def failed_verdict(
    error: TallyardError, *, started_at: float | None = None, begin: float | None = None
) -> Errored:
    """The verdict of a run that ended in `error`."""
    return Errored(
        failure=Failure(error_class=error.error_class(), message=str(error)),
        started_at=time.time() if started_at is None else started_at,
        run_ms=0.0 if begin is None else (time.perf_counter() - begin) * 1000,
    )


def scoring_fields(subject: Subject) -> ScoringFields:
    """What a scorer may ask of a row: its columns by name."""
    view = subject.view.get
    return ScoringFields(
        input=view("input"), output=view("output"), expected=view("expected"),
        metadata=view("metadata"), tags=view("tags"), id=subject.key.id,
    )


def arguments_of(
    subject: Subject, names: Collection[str], trace_of: Callable[[TraceRef], JsonObject]
) -> JsonObject:
    """The arguments `names` of a function, of FIELDS and TRACE, taken from a row.

    `trace_of` reads its trace, if that is among them. Raises TraceTooLarge.
    """
    given: JsonObject = {name: subject.view.get(name) for name in names if name != TRACE}
    if TRACE in names:
        given[TRACE] = trace_of(
            TraceRef(where=subject.key.object, root_span_id=subject.root_span_id)
        )
    return given


def fields_of(record: JsonObject) -> ScoringFields:
    """Arguments by name, as the scorers of autoevals take them."""
    row_id, trace = record.get("id"), record.get(TRACE)
    return ScoringFields(
        input=record.get("input"), output=record.get("output"),
        expected=record.get("expected"), metadata=record.get("metadata"),
        tags=record.get("tags"), id=row_id if isinstance(row_id, str) else None,
        trace=trace if isinstance(trace, dict) else None,
    )
