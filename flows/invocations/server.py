"""Serves invocations between a worker's bulk batches, because a client waits for each."""

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
from scorers.run.heuristic import arguments_of, failed_verdict
from scorers.run.judge import wants_trace as is_judged_by_trace
from scorers.run.trace import TRACE, SpansOf, trace_argument
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

INVOCATIONS_PER_LOOK = 8
"""Invocations served one after another before a worker goes back to its bulk work."""

PATIENCE_S = 60.0
"""How long a worker keeps an answer while the store is away, before it gives the answer up."""

OURS = (SandboxLost, InfraError)
"""Errors that the function did not cause: another worker may succeed."""

POISON = Failure(
    error_class=POISONED,
    message=f"{ATTEMPTS_MAX} workers died while they ran this; see the workers' logs",
)


class Runner(Protocol):
    """Runs functions of the kinds that one queue serves."""

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> Sequence[Verdict | TransientError]:
        """One end for each record, in order: a TransientError if the scorer is not at fault."""
        ...


CheckCode = Callable[[InlineCode | BundledCode], CodeCheck]
"""Checks source, or unpacks a bundle, inside a sandbox: the program, or the problem that the
code's author must solve."""


@dataclass(slots=True, kw_only=True)
class InvocationServer:
    """Serves the invocations of one queue, at most `at_once` of them at a time.

    Without `check_code` it refuses to check code. `ring` tells the queue's workers to look for
    work. Any thread sets `stopping` when the worker is to stop: the server then claims nothing
    more, and gives back invocations that lose their sandbox.
    """

    queue: str
    store: InvocationStore
    spans_of: SpansOf
    runner: Runner
    check_code: CheckCode | None = None
    at_once: int = 1
    ring: Callable[[str], None] = lambda _: None
    stopping: threading.Event = field(default_factory=threading.Event)
    room: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.room = threading.Semaphore(self.at_once)

    def serve_aside(self) -> int:
        """Starts to serve waiting invocations, as far as there is room, and returns at once.

        Returns how many it started. Each runs in a daemon thread; if the process ends first,
        another worker claims the invocation. Safe to repeat, and to call from any thread.
        """
        begun = 0
        while not self.stopping.is_set() and self.room.acquire(blocking=False):
            try:
                invocation = self.store.claim(self.queue)
                if invocation is not None:
                    threading.Thread(
                        target=self._answer_aside, args=(invocation,), daemon=True,
                        name=f"invocation {invocation.id}",
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
        """Waits for the invocations under way, at most `within_s` seconds.

        To be called once, at the end of the worker, when it has closed the sandboxes that they
        use: each of them is then given back.
        """
        until = time.monotonic() + within_s
        for _ in range(self.at_once):
            self.room.acquire(timeout=max(0.0, until - time.monotonic()))

    def serve_some(self) -> int:
        """Serves waiting invocations one after another, at most INVOCATIONS_PER_LOOK.

        Returns how many it served. Safe to repeat: an answer counts only under its claim's own
        fence.
        """
        for count in range(INVOCATIONS_PER_LOOK):
            invocation = self.store.claim(self.queue)
            if invocation is None:
                return count
            self._answer(invocation)
        return INVOCATIONS_PER_LOOK

    def _answer_aside(self, invocation: Invocation) -> None:
        try:
            self._answer(invocation)
        finally:
            self.room.release()
        try:
            self.serve_aside()     # no bell rings again for invocations that waited for room
        except TransientError as error:
            logger.warning("%s: %s; the next ring will look again", self.queue, error)

    def _answer(self, invocation: Invocation) -> None:
        """Answers an invocation, or gives it back. Repeats both while the store is away."""
        try:
            answer = self._patiently(partial(self._answer_to, invocation))
            self._patiently(partial(self._end, invocation, answer))
        except TransientError as error:
            logger.warning("invocation %s: %s; the answer is dropped", invocation.id, error)
        # Any other exception would be raised again at the next try, so the client is told.
        except Exception as error:
            logger.exception("invocation %s", invocation.id)
            message = (
                f"{type(error).__name__}; the worker's log has it: invocation {invocation.id}"
            )
            # A worker that stops closes the sandboxes that invocations still use: not a bug.
            is_ours = self.stopping.is_set() and invocation.attempts < ATTEMPTS_MAX
            answer = None if is_ours else FailureAnswer(
                failure=Failure(error_class=BUG, message=message)
            )
            self._patiently(partial(self._end, invocation, answer))

    def _patiently(self, work: Callable[[], T]) -> T:
        """Does `work`, which must be safe to repeat, again while the store is away."""
        # A worker that stops still answers, so this event is a new one that nobody sets.
        return patiently(work, patience_s=PATIENCE_S, stopping=threading.Event())

    def _end(self, invocation: Invocation, answer: Answer | None) -> None:
        if answer is not None:
            self.store.answer(invocation, answer)
            return
        self.stopping.wait(POLL_S)      # the trouble of this worker may be over by then
        self.store.give_back(invocation)
        self.ring(self.queue)

    def _answer_to(self, invocation: Invocation) -> Answer | None:
        """The answer; None if the function is not at fault and another worker may succeed.

        Raises StoreUnavailable.
        """
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
        if not is_last and any(isinstance(end, OURS) for end in ends):
            return None
        return RunAnswer(verdicts=tuple(map(answered_verdict, ends)))

    def _build(self, request: CheckRequest | UnpackRequest) -> CodeCheck:
        if self.check_code is None:
            raise BadInput(f"workers of the queue {self.queue} cannot check code")
        if isinstance(request, CheckRequest):
            return self.check_code(InlineCode(runtime=request.runtime, code=request.code))
        return self.check_code(BundledCode(
            runtime=request.runtime, runtime_version=request.runtime_version,
            bundle=request.bundle, index=request.index,
        ))

    def _run(self, request: RunRequest) -> list[Verdict | TallyardError]:
        read = records_of(self.store, self.spans_of, request)
        records = [record for record in read if not isinstance(record, TallyardError)]
        ends = iter(self.runner.run(request.function, records) if records else ())
        return [
            record if isinstance(record, TallyardError) else next(ends) for record in read
        ]


def records_of(
    store: InvocationStore, spans_of: SpansOf, request: RunRequest
) -> list[JsonObject | TallyardError]:
    """The arguments of each run by name, or the error of reading them."""
    found = store.subjects(request.rows) if request.rows else []
    names = (*FIELDS, TRACE) if wants_trace(request.function) else FIELDS
    trace_of = cache(partial(trace_argument, spans_of))    # rows of one trace share it
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


def answered_verdict(end: Verdict | TallyardError) -> Verdict:
    """The verdict to answer: an error as a verdict, and without the run's arguments.

    The client sent the arguments, or can fetch the row.
    """
    if isinstance(end, TallyardError):
        return failed_verdict(end)
    if isinstance(end, Errored):
        return end
    return replace(end, result=replace(end.result, arguments={}))


def failure_of(error: TallyardError) -> Failure:
    """The error as a failure that can be stored."""
    return Failure(error_class=error.error_class(), message=str(error))
