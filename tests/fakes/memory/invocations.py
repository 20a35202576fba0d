"""Invocations in memory: enqueued, claimed, answered and withdrawn."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import orjson
from fakes.memory.logs import MemoryRows

from flows.invocations.messages import Answer, Invocation, Request
from spans.errors import TallyardError
from spans.ids import InvocationId, OrgId
from spans.row import RowKey
from spans.work import Subject
from store.invocations.message_json import (
    answer_text,
    read_answer,
    read_request,
    request_text,
)


@dataclass(kw_only=True)
class _Kept:
    queue: str
    claim: Invocation
    is_held: bool = False
    is_answered: bool = False


@dataclass(kw_only=True)
class MemoryInvocations:
    """Implements flows.invocations.messages.InvocationStore and client.AnswerStore.

    A client waits until it cancels: a test that lets nobody answer has to cancel. While a test
    has set `away`, nothing is enqueued or answered. Thread-safe.
    """

    rows: MemoryRows
    away: TallyardError | None = None
    _kept: dict[InvocationId, _Kept] = field(default_factory=dict)
    _waiting: dict[InvocationId, Future[Answer]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def expect(self, invocation_id: InvocationId) -> Future[Answer]:
        future: Future[Answer] = Future()
        with self._lock:
            self._waiting[invocation_id] = future
        future.add_done_callback(lambda _: self._withdraw(invocation_id, future))
        return future

    def ask(
        self, invocation_id: InvocationId, org_id: OrgId, queue: str, request: Request
    ) -> None:
        self._require_present()
        stored = read_request(orjson.loads(request_text(request)))
        claim = Invocation(id=invocation_id, fence=0, attempts=0, request=stored)
        with self._lock:
            self._kept[invocation_id] = _Kept(queue=queue, claim=claim)

    def claim(self, queue: str) -> Invocation | None:
        with self._lock:
            for kept in self._kept.values():    # in the order in which they were enqueued
                if kept.queue == queue and not kept.is_held and not kept.is_answered:
                    kept.is_held = True
                    kept.claim = replace(
                        kept.claim, fence=kept.claim.fence + 1,
                        attempts=kept.claim.attempts + 1,
                    )
                    return kept.claim
        return None

    def answer(self, invocation: Invocation, answer: Answer) -> None:
        self._require_present()
        stored = read_answer(orjson.loads(answer_text(answer)))
        with self._lock:
            kept = self._kept.get(invocation.id)
            if kept is None or kept.is_answered or kept.claim.fence != invocation.fence:
                return
            kept.is_answered, kept.is_held = True, False
            future = self._waiting.get(invocation.id)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_result(stored)

    def give_back(self, invocation: Invocation) -> None:
        with self._lock:
            kept = self._kept.get(invocation.id)
            if kept is not None and kept.claim.fence == invocation.fence:
                kept.is_held = False

    def subjects(self, rows: Sequence[RowKey]) -> list[Subject | None]:
        return self.rows.subjects(rows)

    def let_go(self, queue: str) -> None:
        """What the death of the queue's workers comes to: their claims end."""
        with self._lock:
            for kept in self._kept.values():
                if kept.queue == queue:
                    kept.is_held = False

    def count(self, queue: str) -> int:
        """How many invocations of the queue are kept."""
        with self._lock:
            return sum(kept.queue == queue for kept in self._kept.values())

    def _withdraw(self, invocation_id: InvocationId, future: Future[Answer]) -> None:
        """Forgets an invocation whose client has stopped waiting, unless a worker has it."""
        with self._lock:
            self._waiting.pop(invocation_id, None)
            kept = self._kept.get(invocation_id)
            if future.cancelled() and kept is not None and not (
                kept.is_held or kept.is_answered
            ):
                del self._kept[invocation_id]

    def _require_present(self) -> None:
        if self.away is not None:
            raise self.away
