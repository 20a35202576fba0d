"""Group commit: requests that arrive together are written in one transaction.

While one group is being committed the next gathers by itself, so nobody waits for company.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from flows.logs.ingest import IngestAnswer, IngestRequest, IngestStore
from spans.errors import StoreUnavailable, TallyardError

REQUESTS_MAX = 64
ROWS_MAX = 2000
"""Of one transaction: as large as pays, small enough that the first does not wait long."""

WAITING_MAX = 1000
"""Requests that may wait; more are told to come back (503), before memory runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    request: IngestRequest
    answer: asyncio.Future[IngestAnswer]
    loop: asyncio.AbstractEventLoop


class GroupCommit:
    """Writes requests from one thread, which starts with the first of them.

    `after` is called once a group has committed.
    """

    def __init__(self, store: IngestStore, after: Callable[[], None]) -> None:
        self._store = store
        self._after = after
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(WAITING_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    async def write(self, request: IngestRequest) -> IngestAnswer:
        """Store the request; returns once it is committed. Raises what its write raised."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[IngestAnswer] = loop.create_future()
        if self._thread is None:
            self._start()
        try:
            self._waiting.put_nowait(_Waiting(request=request, answer=answer, loop=loop))
        except queue.Full as error:
            raise StoreUnavailable(
                "too many requests wait to be stored; send this one again", retry_after_s=1.0
            ) from error
        return await answer

    def close(self) -> None:
        """Write what waits, then stop."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="group-writer", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            rows = len(first.request.writes)
            is_last = False
            while rows < ROWS_MAX and len(group) < REQUESTS_MAX:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_last = True
                    break
                group.append(following)
                rows += len(following.request.writes)
            self._write(group)
            if is_last:
                return

    def _write(self, group: list[_Waiting]) -> None:
        answers: list[IngestAnswer | TallyardError] | list[Exception]
        try:
            answers = self._store.write([one.request for one in group])
        # Whatever went wrong belongs to the requests that wait for it, or they wait for ever.
        except Exception as error:  # noqa: BLE001
            answers = [error] * len(group)
        else:
            self._after()
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, object]]] = {}
        for one, answer in zip(group, answers, strict=True):
            by_loop.setdefault(one.loop, []).append((one, answer))
        for loop, answered in by_loop.items():
            loop.call_soon_threadsafe(_settle, answered)


def _settle(answered: list[tuple[_Waiting, object]]) -> None:
    for one, answer in answered:
        if one.answer.done():
            continue   # its client has gone
        if isinstance(answer, BaseException):
            one.answer.set_exception(answer)
        elif isinstance(answer, IngestAnswer):
            one.answer.set_result(answer)
