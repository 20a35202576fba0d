"""Asking workers, and waiting for what they answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from flows.invocations import Answer, InvocationStore, Request, read_answer
from spans.errors import CallFailed
from spans.ids import InvocationId, OrgId
from spans.json import JsonObject


class Answers(Protocol):
    """Where answers arrive."""

    def expect(self, invocation_id: InvocationId) -> Future[JsonObject]:
        """The call's answer, once it is there. To be called before the call is left.

        Holds NoWorker or NotAnswered if there is none in time.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Leaves calls and waits for them. `ring` has a queue's workers look."""

    store: InvocationStore
    answers: Answers
    ring: Callable[[str], None]

    def begin(self, org_id: OrgId, queue: str, request: Request) -> Future[JsonObject]:
        """Leave a call; its answer is for `finished`. Raises StoreUnavailable."""
        invocation_id = InvocationId(uuid.uuid4())
        future = self.answers.expect(invocation_id)
        try:
            self.store.ask(invocation_id, org_id, queue, request)
        except BaseException:
            future.cancel()
            raise
        self.ring(queue)
        return future

    def ask(self, org_id: OrgId, queue: str, request: Request) -> Answer:
        """Leave a call and wait for the answer, on this thread.

        Raises NoWorker, NotAnswered, CallFailed, StoreUnavailable.
        """
        return finished(self.begin(org_id, queue, request).result())


def finished(kept: JsonObject) -> Answer:
    """The answer that came. Raises CallFailed if it says that there is none."""
    answer = read_answer(kept)
    if answer.failure is not None:
        raise CallFailed(f"{answer.failure.error_class}: {answer.failure.message}")
    return answer
