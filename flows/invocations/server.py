"""Answering calls that wait: what a worker does between its batches, since somebody waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Protocol, TypeVar

from flows.invocations.messages import (
    ATTEMPTS_MAX,
    Answer,
    CheckAnswer,
    CheckRequest,
    FailureAnswer,
    Invocation,
    InvocationStore,
    RunAnswer,
    RunRequest,
    UnpackRequest,
)
from flows.patience import POLL_S, patiently
from scorers.functions.body import BundledCode, InlineCode
from scorers.functions.version import FunctionVersion
from scorers.judge.prompt import FIELDS
from scorers.running.in_process import arguments_of, failed_verdict
from scorers.running.judged import wants_trace as is_judged_by_trace
from scorers.running.trace import TRACE, TraceStore, trace_argument
from scorers.sandbox.model import CodeCheck
from spans.errors import (
    BadInput,
    InfraError,
    NotFound,
    SandboxLost,
    StoreUnavailable,
    TallyardError,
    TransientError,
)
from spans.json import JsonObject
from spans.outcome import BUG, POISONED, Errored, Failure, Verdict

T = TypeVar("T")
logger = logging.getLogger(__name__)

CALLS_PER_LOOK = 8
"""Calls answered one after another before a worker goes on with its bulk."""

PATIENCE_S = 60.0
"""How long an answer waits for a store that is away, before it is given up."""

OURS = (SandboxLost, InfraError)
"""What says nothing of the function: another worker may have better luck."""

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

    def build(self, code: InlineCode | BundledCode) -> CodeCheck:
        """A program, or the problem that its author must solve."""
        ...


@dataclass(slots=True, kw_only=True)
class InvocationServer:
    """Answers the calls of one queue, at most `at_once` of them together. Without a `builder`
    it is asked for runs alone.

    `ring` has the queue's workers look. `stopping` is set, from any thread, when the worker is
    to stop: it takes no call any more, and gives those back that lose their sandbox.
    """

    queue: str
    store: InvocationStore
    traces: TraceStore
    runner: Runner
    builder: Builder | None = None
    at_once: int = 1
    ring: Callable[[str], None] = lambda _: None
    stopping: threading.Event = field(default_factory=threading.Event)
    room: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.room = threading.Semaphore(self.at_once)

    def serve_aside(self) -> int:
        """Begin to serve waiting calls, as far as there is room; returns at once.

        Gives the number of calls begun. Each has a thread of its own that ends with the
        process: a call that is lost in this way is taken by another worker. Safe to repeat,
        and to call from any thread.
        """
        begun = 0
        while not self.stopping.is_set() and self.room.acquire(blocking=False):
            try:
                invocation = self.store.claim(self.queue)
                if invocation is not None:
                    threading.Thread(
                        target=self._answer_aside, args=(invocation,), daemon=True,
                        name=f"call {invocation.id}",
                    ).start()
                    begun += 1
                    continue
            except BaseException:
                self.room.release()
                raise
            self.room.release()
            break
        return begun

    def finish(self, *, within_s: float) -> None:
        """Wait for the calls under way, at most so long. To be called once, where the worker
        ends and has taken away what they wait for: each is then given back."""
        until = time.monotonic() + within_s
        for _ in range(self.at_once):
            self.room.acquire(timeout=max(0.0, until - time.monotonic()))

    def serve_some(self) -> int:
        """Serve waiting calls, one after another, at most CALLS_PER_LOOK; gives their number.

        Safe to repeat: an answer counts only under its claim's own fence.
        """
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
            self.serve_aside()     # nobody rings again for what waited for room
        except TransientError as error:
            logger.warning("%s: %s; the next ring looks again", self.queue, error)

    def _answer(self, invocation: Invocation) -> None:
        """Answer a call, or give it back; patiently while the store is away."""
        try:
            answer = self._patiently(partial(self._answer_to, invocation))
            self._patiently(partial(self._end, invocation, answer))
        except TransientError as error:
            logger.warning("call %s: %s; its answer is given up", invocation.id, error)
        # Whatever else rises must reach who waits, and would only rise again.
        except Exception as error:
            logger.exception("call %s", invocation.id)
            message = f"{type(error).__name__}; the worker's log has it: call {invocation.id}"
            # A worker that stops takes away what its calls still use: that is no bug.
            is_ours = self.stopping.is_set() and invocation.attempts < ATTEMPTS_MAX
            answer = None if is_ours else FailureAnswer(
                failure=Failure(error_class=BUG, message=message)
            )
            self._patiently(partial(self._end, invocation, answer))

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do what is safe to repeat, again and again while the store is away."""
        # A worker that stops still answers: hence an event of its own, which nobody sets.
        return patiently(work, patience_s=PATIENCE_S, stopping=threading.Event())

    def _end(self, invocation: Invocation, answer: Answer | None) -> None:
        if answer is not None:
            self.store.answer(invocation, answer)
            return
        self.stopping.wait(POLL_S)      # what went wrong here may pass
        self.store.give_back(invocation)
        self.ring(self.queue)

    def _answer_to(self, invocation: Invocation) -> Answer | None:
        """None: it is not the function's fault, and another worker may have better luck.
        Raises StoreUnavailable."""
        if invocation.attempts > ATTEMPTS_MAX:
            return FailureAnswer(failure=POISON)
        is_last = invocation.attempts == ATTEMPTS_MAX
        request = invocation.request
        try:
            if not isinstance(request, RunRequest):
                return CheckAnswer(checked=self._build(request))
            ends = self._run(request)
        except StoreUnavailable:
            raise
        except TallyardError as error:
            if isinstance(error, OURS) and not is_last:
                return None
            return FailureAnswer(failure=failure_of(error))
        if not is_last and any(isinstance(each, OURS) for each in ends):
            return None
        return RunAnswer(verdicts=tuple(map(told, ends)))

    def _build(self, request: CheckRequest | UnpackRequest) -> CodeCheck:
        if self.builder is None:
            raise BadInput(f"workers of the queue {self.queue} build no scorers")
        if isinstance(request, CheckRequest):
            return self.builder.build(InlineCode(runtime=request.runtime, code=request.code))
        return self.builder.build(BundledCode(
            runtime=request.runtime, runtime_version=request.runtime_version,
            bundle=request.bundle, index=request.index,
        ))

    def _run(self, request: RunRequest) -> list[Verdict | TallyardError]:
        read = records_of(self.store, self.traces, request)
        records = [each for each in read if not isinstance(each, TallyardError)]
        ends = iter(self.runner.run(request.function, records) if records else ())
        return [each if isinstance(each, TallyardError) else next(ends) for each in read]


def records_of(
    store: InvocationStore, traces: TraceStore, request: RunRequest
) -> list[JsonObject | TallyardError]:
    """The arguments of each run, by name; an error where they cannot be read."""
    found = store.subjects(request.rows) if request.rows else []
    names = (*FIELDS, TRACE) if wants_trace(request.function) else FIELDS
    trace_of = cache(partial(trace_argument, traces))    # rows of one trace share it
    read: list[JsonObject | TallyardError] = [
        {name: record.get(name) for name in FIELDS} | record for record in request.records
    ]
    for key, subject in zip(request.rows, found, strict=True):
        if subject is None:
            read.append(NotFound(f"the span {key.id!r} is gone"))
            continue
        try:
            read.append(arguments_of(subject, names, trace_of))
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
        return failed_verdict(end)
    if isinstance(end, Errored):
        return end
    return replace(end, result=replace(end.result, arguments={}))


def failure_of(error: TallyardError) -> Failure:
    """The error, as it is kept."""
    return Failure(error_class=error.error_class(), message=str(error))
