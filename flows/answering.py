"""Answering calls that wait: what a worker does between its batches, since somebody waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from flows.judged import wants_trace as is_judged_by_trace
from flows.run import failed
from flows.trace import TraceRef, TraceStore, trace_argument
from flows.work import Subject
from scorers.frame import FIELDS
from scorers.function import FunctionVersion
from scorers.sandbox.model import Checked
from spans.errors import BadInput, NotFound, StoreUnavailable, TallyardError, TransientError
from spans.json import JsonObject
from spans.outcome import BUG, POISONED, Failure, Verdict

logger = logging.getLogger(__name__)


TRACE = "trace"
"""The argument that stands beside FIELDS where a scorer takes it."""

CALLS_PER_LOOK = 8
"""Calls answered one after another before a worker goes on with its bulk."""

PATIENCE_S = 60.0
"""How long an answer waits for a store that is away, before it is given up."""

POLL_S = 0.5

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


@dataclass(slots=True, kw_only=True)
class Answering:
    """Answers the calls of one queue, at most `at_once` of them together. Without a `builder`
    it is asked for runs alone."""

    queue: str
    store: InvocationStore
    traces: TraceStore
    runner: Runner
    builder: Builder | None = None
    at_once: int = 1
    room: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.room = threading.Semaphore(self.at_once)

    def look(self) -> None:
        """Begin to answer what waits, as far as there is room; returns at once.

        Each call has a thread of its own that ends with the process: a call that is lost in
        this way is taken by another worker. Safe to repeat, and to call from any thread.
        """
        while self.room.acquire(blocking=False):
            try:
                invocation = self.store.claim(self.queue)
                if invocation is not None:
                    threading.Thread(
                        target=self._answer_aside, args=(invocation,), daemon=True,
                        name=f"call {invocation.id}",
                    ).start()
                    continue
            except BaseException:
                self.room.release()
                raise
            self.room.release()
            return

    def answer_some(self) -> int:
        """Answer what waits, one call after another, at most CALLS_PER_LOOK; gives how many
        that were. Safe to repeat: an answer counts only under its claim's own fence."""
        for count in range(CALLS_PER_LOOK):
            invocation = self.store.claim(self.queue)
            if invocation is None:
                return count
            self._answer(invocation)
        return CALLS_PER_LOOK

    def _answer_aside(self, invocation: Invocation) -> None:
        try:
            self._answer(invocation)
        finally:
            self.room.release()
        try:
            self.look()     # nobody rings again for what waited for room
        except TransientError as error:
            logger.warning("%s: %s; the next ring looks again", self.queue, error)

    def _answer(self, invocation: Invocation) -> None:
        """Answer a call; patiently while the store is away, for as long as who asked waits."""
        until = time.monotonic() + PATIENCE_S
        answer: Answer | None = None
        pause = threading.Event()
        while True:
            try:
                answer = answer or self._answer_to(invocation)
                self.store.answer(invocation, answer)
            except TransientError as error:
                if time.monotonic() > until:
                    logger.warning("call %s: %s; its answer is given up", invocation.id, error)
                    return
                pause.wait(POLL_S)
            else:
                return

    def _answer_to(self, invocation: Invocation) -> Answer:
        """Raises TransientError where the store is away, and nothing else."""
        if invocation.attempts > ATTEMPTS_MAX:
            return Answer(failure=POISON)
        request = invocation.request
        try:
            if isinstance(request, Run):
                return Answer(verdicts=self._run(request))
            return Answer(checked=self._build(request))
        except StoreUnavailable:
            raise
        except TallyardError as error:
            return Answer(failure=failure_of(error))
        # Whatever else rises must reach who waits, and would only rise again.
        except Exception as error:
            logger.exception("call %s", invocation.id)
            message = f"{type(error).__name__}; the worker's log has it: call {invocation.id}"
            return Answer(failure=Failure(error_class=BUG, message=message))

    def _build(self, request: Check | Unpack) -> Checked:
        if self.builder is None:
            raise BadInput(f"workers of the queue {self.queue} build no scorers")
        return self.builder.build(request)

    def _run(self, request: Run) -> tuple[Verdict, ...]:
        read = records_of(self.store, self.traces, request)
        records = [each for each in read if not isinstance(each, TallyardError)]
        ends = iter(self.runner.run(request.function, records) if records else ())
        return tuple(
            told(each if isinstance(each, TallyardError) else next(ends)) for each in read
        )


def records_of(
    store: InvocationStore, traces: TraceStore, request: Run
) -> list[JsonObject | TallyardError]:
    """The arguments of each run, by name; an error where they cannot be read."""
    found = store.subjects(request.rows) if request.rows else []
    with_trace = wants_trace(request.function)
    read: list[JsonObject | TallyardError] = [
        {name: record.get(name) for name in FIELDS} | record for record in request.records
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


def wants_trace(function: FunctionVersion) -> bool:
    """Whether the function takes the trace of its span."""
    program = function.program
    if program is not None:
        return program.parameters is None or TRACE in program.parameters
    return is_judged_by_trace(function)


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


def _record(subject: Subject, traces: TraceStore | None) -> JsonObject:
    record: JsonObject = {name: subject.view.get(name) for name in FIELDS}
    if traces is not None:
        trace = TraceRef(where=subject.key.object, root_span_id=subject.root_span_id)
        record[TRACE] = trace_argument(traces, trace)
    return record
