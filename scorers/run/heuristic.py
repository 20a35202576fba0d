"""Runs in-process scorers, times them, and takes their arguments from rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from scorers.arguments import ScoringFields
from scorers.catalog import ScorerSpec, at_version, resolve
from scorers.functions.version import FunctionVersion
from scorers.heuristics.in_process import score_in_process
from scorers.run.trace import TRACE, TraceRef
from spans.errors import TallyardError
from spans.json import JsonObject
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.work import Assignment, Subject


def run_assignment(assignment: Assignment) -> Verdict:
    """Run the assignment's scorer in this process and return its verdict.

    It is an `Errored` verdict if the scorer is no longer installed at the assignment's version.
    """
    try:
        spec = at_version(assignment.scorer)
    except TallyardError as error:
        return failed_verdict(error)
    return run_scorer(spec, scoring_fields(assignment.subject))


def run_scorer(spec: ScorerSpec, fields: ScoringFields) -> Verdict:
    """Run the scorer and return its verdict. An error of the scorer is an `Errored` verdict."""
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
    """Run the in-process scorer that a function of kind GLOBAL stands for.

    The scores of the verdict bear the function's name.
    """
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
    """The verdict of a run that ended in `error`.

    `started_at` is in seconds since 1970 (default: now). `begin` is the run's start by
    `time.perf_counter`; without it the run time is 0.
    """
    return Errored(
        failure=Failure(error_class=error.error_class(), message=str(error)),
        started_at=time.time() if started_at is None else started_at,
        run_ms=0.0 if begin is None else (time.perf_counter() - begin) * 1000,
    )


def scoring_fields(subject: Subject) -> ScoringFields:
    """The fields of a row that an autoevals scorer may ask for."""
    view = subject.view.get
    return ScoringFields(
        input=view("input"), output=view("output"), expected=view("expected"),
        metadata=view("metadata"), tags=view("tags"), id=subject.key.id,
    )


def arguments_of(
    subject: Subject, names: Collection[str], trace_of: Callable[[TraceRef], JsonObject]
) -> JsonObject:
    """A function's arguments by name, taken from a row. `names` are of FIELDS and TRACE.

    If `names` holds TRACE, `trace_of` is called to read the row's trace. Raises TraceTooLarge.
    """
    given: JsonObject = {name: subject.view.get(name) for name in names if name != TRACE}
    if TRACE in names:
        given[TRACE] = trace_of(
            TraceRef(where=subject.key.object, root_span_id=subject.root_span_id)
        )
    return given


def fields_of(record: JsonObject) -> ScoringFields:
    """A function's arguments (by name) as the fields that an autoevals scorer asks for."""
    row_id, trace = record.get("id"), record.get(TRACE)
    return ScoringFields(
        input=record.get("input"), output=record.get("output"),
        expected=record.get("expected"), metadata=record.get("metadata"),
        tags=record.get("tags"), id=row_id if isinstance(row_id, str) else None,
        trace=trace if isinstance(trace, dict) else None,
    )
