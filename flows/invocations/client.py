"""The client side of invocations: enqueues one and waits for the worker's answer."""

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

ROWS_PER_INVOCATION = 50
"""Rows of one invocation: few enough that it ends long before its deadline."""

INVOCATIONS_AT_ONCE = 4
"""Invocations that one caller has under way. The deadline of each runs from its enqueuing, so
they must not wait for one another in the queue."""


class AnswerStore(Protocol):
    """Where the answers to invocations arrive."""

    def expect(self, invocation_id: InvocationId) -> Future[Answer]:
        """A future of the invocation's answer. To be called before the invocation is enqueued.

        If no answer comes in time, the future ends with NoWorker or NotAnswered.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationClient:
    """Enqueues invocations and waits for their answers.

    `ring` tells a queue's workers to look for work. `refusal` says why no worker of a queue can
    answer, if that is known; None if one may.
    """

    store: InvocationStore
    answers: AnswerStore
    ring: Callable[[str], None]
    refusal: Callable[[str], str | None] = lambda _: None

    def begin(self, org_id: OrgId, queue: str, request: Request) -> Future[Answer]:
        """Enqueues an invocation and returns a future of its answer, for `finished` to read.

        Raises NoWorker, StoreUnavailable.
        """
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
        """Enqueues an invocation and awaits its answer without blocking a thread.

        Cancelling withdraws the invocation unless a worker has claimed it. Raises NoWorker,
        NotAnswered, CallFailed, StoreUnavailable.
        """
        begun = asyncio.create_task(asyncio.to_thread(self.begin, org_id, queue, request))
        try:
            future = await asyncio.shield(begun)
        except asyncio.CancelledError:
            # The thread cannot be interrupted and enqueues the invocation: withdraw it then.
            begun.add_done_callback(_cancel_answer)
            raise
        return finished(await asyncio.wrap_future(future))

    async def check(self, org_id: OrgId, code: InlineCode | BundledCode) -> CodeCheck:
        """The result of a sandbox worker's check of a scorer's code. Raises as `ask` does."""
        request = (
            CheckRequest(runtime=code.runtime, code=code.code) if isinstance(code, InlineCode)
            else UnpackRequest(
                bundle=code.bundle, runtime=code.runtime,
                runtime_version=code.runtime_version, index=code.index,
            )
        )
        answer = await self.ask(org_id, SANDBOX, request)
        if isinstance(answer, RunAnswer):
            raise CallFailed("the worker ran the code, but was to check it; see its log")
        return answer.checked

    async def run(
        self, org_id: OrgId, function: FunctionVersion, *,
        records: Sequence[JsonObject] = (), rows: Sequence[RowKey] = (),
    ) -> list[Verdict]:
        """The verdicts of a function on each record, then on each stored row, in order.

        Many rows make several invocations, which several workers may serve. The verdicts are
        not stored. Raises as `ask` does, and BadInput for a function that cannot run.
        """
        queue = queue_of_version(function)
        requests = [
            RunRequest(function=function, rows=tuple(rows[start : start + ROWS_PER_INVOCATION]))
            for start in range(0, len(rows), ROWS_PER_INVOCATION)
        ]
        if records:
            requests.insert(0, RunRequest(function=function, records=tuple(records)))
        room = asyncio.Semaphore(INVOCATIONS_AT_ONCE)

        async def verdicts_of(request: Request) -> tuple[Verdict, ...]:
            async with room:
                answer = await self.ask(org_id, queue, request)
            if isinstance(answer, CheckAnswer):
                raise CallFailed("the worker checked the code, but was to run it; see its log")
            return answer.verdicts

        tasks = [asyncio.create_task(verdicts_of(request)) for request in requests]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()    # after an error the other answers are not needed
        return [verdict for verdicts in answers for verdict in verdicts]


def _cancel_answer(begun: asyncio.Task[Future[Answer]]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().cancel()


def finished(answer: Answer) -> CheckAnswer | RunAnswer:
    """The answer, if the worker could serve the request. Raises CallFailed if it could not."""
    if isinstance(answer, FailureAnswer):
        raise CallFailed(f"{answer.failure.error_class}: {answer.failure.message}")
    return answer
