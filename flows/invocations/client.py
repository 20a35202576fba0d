"""Asking workers, and waiting for what they answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from flows.invocations.messages import (
    Answer,
    CheckAnswer,
    CheckRequest,
    FailureAnswer,
    InvocationStore,
    Request,
    RunAnswer,
    RunRequest,
    UnpackRequest,
)
from scorers.functions.body import BundledCode, InlineCode
from scorers.functions.queue import queue_of_version
from scorers.functions.version import FunctionVersion
from scorers.sandbox.model import CodeCheck
from spans.errors import CallFailed, NoWorker
from spans.ids import InvocationId, OrgId
from spans.json import JsonObject
from spans.outcome import Verdict
from spans.queues import SANDBOX
from spans.row import RowKey

ROWS_PER_CALL = 50
"""Rows of one call: little enough to be done long before its deadline."""

CALLS_AT_ONCE = 4
"""Calls that one caller has under way; each has its deadline from when it is left."""


class AnswerStore(Protocol):
    """Where answers arrive."""

    def expect(self, invocation_id: InvocationId) -> Future[Answer]:
        """The call's answer, once it is there. To be called before the call is left.

        Holds NoWorker or NotAnswered if there is none in time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Leaves calls and waits for them. `ring` has a queue's workers look; `refusal` says why
    none of them could answer, where that is known."""

    store: InvocationStore
    answers: AnswerStore
    ring: Callable[[str], None]
    refusal: Callable[[str], str | None] = lambda _: None

    def begin(self, org_id: OrgId, queue: str, request: Request) -> Future[Answer]:
        """Leave a call; its answer is for `finished`. Raises NoWorker, StoreUnavailable."""
        if (sentence := self.refusal(queue)) is not None:
            raise NoWorker(sentence)
        invocation_id = InvocationId(uuid.uuid4())
        future = self.answers.expect(invocation_id)
        try:
            self.store.ask(invocation_id, org_id, queue, request)
        except BaseException:
            future.cancel()
            raise
        self.ring(queue)
        return future

    async def ask(
        self, org_id: OrgId, queue: str, request: Request
    ) -> CheckAnswer | RunAnswer:
        """Leave a call and wait for the answer; no thread waits with it. Who stops waiting
        cancels the answer, and with it what no worker has taken.

        Raises NoWorker, NotAnswered, CallFailed, StoreUnavailable.
        """
        begun = asyncio.create_task(asyncio.to_thread(self.begin, org_id, queue, request))
        try:
            future = await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(_cancel_answer)    # the thread goes on, and leaves a call
            raise
        return finished(await asyncio.wrap_future(future))

    async def check(self, org_id: OrgId, code: InlineCode | BundledCode) -> CodeCheck:
        """What the jail says of a scorer's code. Raises as `ask` does."""
        request = (
            CheckRequest(runtime=code.runtime, code=code.code) if isinstance(code, InlineCode)
            else UnpackRequest(
                bundle=code.bundle, runtime=code.runtime,
                runtime_version=code.runtime_version, index=code.index,
            )
        )
        answer = await self.ask(org_id, SANDBOX, request)
        if isinstance(answer, RunAnswer):
            raise CallFailed("a worker ran what it was to check; its log says more")
        return answer.checked

    async def run(
        self, org_id: OrgId, function: FunctionVersion, *,
        records: Sequence[JsonObject] = (), rows: Sequence[RowKey] = (),
    ) -> list[Verdict]:
        """What the function says of each record, then of each stored row, in order.

        Many rows are several calls, which any number of workers answer. Nothing is saved.
        Raises as `ask` does, and BadInput for a function that cannot run.
        """
        queue = queue_of_version(function)
        requests = [
            RunRequest(function=function, rows=tuple(rows[start : start + ROWS_PER_CALL]))
            for start in range(0, len(rows), ROWS_PER_CALL)
        ]
        if records:
            requests.insert(0, RunRequest(function=function, records=tuple(records)))
        room = asyncio.Semaphore(CALLS_AT_ONCE)

        async def verdicts_of(request: Request) -> tuple[Verdict, ...]:
            async with room:
                answer = await self.ask(org_id, queue, request)
            if isinstance(answer, CheckAnswer):
                raise CallFailed("a worker checked what it was to run; its log says more")
            return answer.verdicts

        asked = [asyncio.create_task(verdicts_of(request)) for request in requests]
        try:
            answers = await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()    # after an error nobody needs the others
        return [verdict for verdicts in answers for verdict in verdicts]


def _cancel_answer(begun: asyncio.Task[Future[Answer]]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().cancel()


def finished(answer: Answer) -> CheckAnswer | RunAnswer:
    """The answer that came. Raises CallFailed if it says that there is none."""
    if isinstance(answer, FailureAnswer):
        raise CallFailed(f"{answer.failure.error_class}: {answer.failure.message}")
    return answer
