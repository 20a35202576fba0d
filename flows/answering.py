"""Answering calls that wait: what a worker does between its batches, since somebody waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flows.invocations import (
    ATTEMPTS_MAX,
    Answer,
    Check,
    Invocation,
    InvocationStore,
    Run,
    Unpack,
)
from flows.run import failed
from flows.trace import TraceRef, TraceStore, trace_argument
from flows.work import Subject
from scorers.arguments import ScoringFields
from scorers.function import FunctionVersion
from scorers.sandbox.model import Checked
from spans.errors import NotFound, StoreUnavailable, TallyardError, TransientError
from spans.json import JsonObject
from spans.outcome import BUG, POISONED, Failure, Verdict

logger = logging.getLogger(__name__)

ARGUMENTS = ("input", "output", "expected", "metadata", "tags", "id")
"""What a scorer may take of a span; `trace` beside them."""

CALLS_PER_LOOK = 8
"""Calls answered one after another before a worker goes on with its bulk."""

POISON = Failure(
    error_class=POISONED,
    message=f"{ATTEMPTS_MAX} workers died while they ran this; see the workers' logs",
)


class Runner(Protocol):
    """Runs functions of one queue's kinds."""

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> Sequence[Verdict | TransientError]:
        """One for each record, in order; a TransientError where the scorer is not at fault."""
        ...


class Builder(Protocol):
    """Looks at source, and unpacks bundles, where neither can do harm."""

    def build(self, request: Check | Unpack) -> Checked:
        """A program, or the problem that its author must solve."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Answers the calls of one queue. Without a `builder` it is asked for runs alone.

    `wants_trace` says whether a function takes the trace of its span.
    """

    queue: str
    store: InvocationStore
    traces: TraceStore
    runner: Runner
    builder: Builder | None = None
    wants_trace: Callable[[FunctionVersion], bool] = lambda _: False

    def answer_some(self) -> int:
        """Answer what waits, up to CALLS_PER_LOOK calls; gives how many that were.

        Safe to repeat, and to call from several threads: an answer counts only under its
        claim's own fence.
        """
        for count in range(CALLS_PER_LOOK):
            invocation = self.store.claim(self.queue)
            if invocation is None:
                return count
            self.store.answer(invocation, self._answer(invocation))
        return CALLS_PER_LOOK

    def _answer(self, invocation: Invocation) -> Answer:
        """Never raises, but where the store is away: then the call is taken again."""
        if invocation.attempts > ATTEMPTS_MAX:
            return Answer(failure=POISON)
        try:
            request = invocation.request
            if isinstance(request, Run):
                return Answer(verdicts=self._run(request))
            if self.builder is None:
                return Answer(failure=_bug(invocation, "nothing here builds scorers"))
            return Answer(checked=self.builder.build(request))
        except StoreUnavailable:
            raise
        except TallyardError as error:
            return Answer(failure=failure_of(error))
        # Whatever else rises must reach who waits, and would only rise again.
        except Exception as error:
            logger.exception("call %s", invocation.id)
            return Answer(failure=_bug(invocation, type(error).__name__))

    def _run(self, request: Run) -> tuple[Verdict, ...]:
        read = records_of(
            self.store, self.traces, request, with_trace=self.wants_trace(request.function)
        )
        records = [each for each in read if not isinstance(each, TallyardError)]
        ends = iter(self.runner.run(request.function, records) if records else ())
        return tuple(
            told(each if isinstance(each, TallyardError) else next(ends)) for each in read
        )


def records_of(
    store: InvocationStore, traces: TraceStore, request: Run, *, with_trace: bool
) -> list[JsonObject | TallyardError]:
    """The arguments of each run, by name; an error where they cannot be read."""
    found = store.subjects(request.rows) if request.rows else []
    read: list[JsonObject | TallyardError] = [
        {name: record.get(name) for name in ARGUMENTS} | record for record in request.records
    ]
    for key, subject in zip(request.rows, found, strict=True):
        if subject is None:
            read.append(NotFound(f"the span {key.id!r} is gone"))
            continue
        try:
            read.append(_record(subject, traces if with_trace else None))
        except TallyardError as error:
            read.append(error)
    return read


def fields_of(record: JsonObject) -> ScoringFields:
    """A record as the scorers of autoevals and the judged ones take it."""
    row_id, trace = record.get("id"), record.get("trace")
    return ScoringFields(
        input=record.get("input"), output=record.get("output"),
        expected=record.get("expected"), metadata=record.get("metadata"),
        tags=record.get("tags"), id=row_id if isinstance(row_id, str) else None,
        trace=trace if isinstance(trace, dict) else None,
    )


def told(end: Verdict | TallyardError) -> Verdict:
    """What is answered of one run: all but the arguments, which who asks has."""
    if isinstance(end, TallyardError):
        return failed(end)
    if end.result is None:
        return end
    return replace(end, result=replace(end.result, arguments={}))


def failure_of(error: TallyardError) -> Failure:
    """The error, as it is kept."""
    return Failure(error_class=error.error_class(), message=str(error))


def _bug(invocation: Invocation, what: str) -> Failure:
    return Failure(
        error_class=BUG, message=f"{what}; the worker's log has it under call {invocation.id}"
    )


def _record(subject: Subject, traces: TraceStore | None) -> JsonObject:
    record: JsonObject = {name: subject.view.get(name) for name in ARGUMENTS}
    if traces is not None:
        trace = TraceRef(where=subject.key.object, root_span_id=subject.root_span_id)
        record["trace"] = trace_argument(traces, trace)
    return record
