"""Group commit: writes requests that arrive together in one transaction.

While one group commits, the requests that arrive form the next group. A request that comes
alone is written at once. Where requests come together, the fixed cost of a transaction is more
than that of a small request, so the next group gathers for a moment.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.logs.ingest import IngestRequest, IngestStore
from spans.errors import StoreUnavailable
from spans.resends import IngestAnswer

REQUESTS_MAX = 64
ROWS_MAX = 2000
"""Most requests and rows of one transaction. Larger ones save little, and the first request of
the group would wait longer."""

GATHER_S = 0.02
"""The least time between the beginnings of two transactions, seconds, unless a group is full or
the group before had only one request. A client waits this much longer for its answer. A
transaction of one row takes about 4 ms of processor, and each further row 0.3 ms (measured), so
a few hundred requests a second take a third of the time that they would take one by one."""

WAITING_MAX = 1000
"""Requests that may wait to be written. Further ones are refused (503), which bounds memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    request: IngestRequest
    answer: asyncio.Future[IngestAnswer]
    loop: asyncio.AbstractEventLoop


class GroupCommit:
    """Writes requests on one thread, which the first request starts.

    `after` is called each time that a group has committed.
    """

    def __init__(self, store: IngestStore, after: Callable[[], None]) -> None:
        self._store = store
        self._after = after
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(WAITING_MAX)
        self._must_hurry = threading.Event()   # a group is full, or this is to be closed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    async def write(self, request: IngestRequest) -> IngestAnswer:
        """Stores the request, and returns when it is committed.

        Raises the error of the request's write, and StoreUnavailable if too many wait.
        """
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
        if self._waiting.qsize() >= REQUESTS_MAX - 1:   # the thread holds one
            self._must_hurry.set()
        return await answer

    def close(self) -> None:
        """Writes the requests that wait, then stops the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._must_hurry.set()
            self._thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="group-writer", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        began_s, size = 0.0, 0   # of the transaction before
        while (first := self._waiting.get()) is not None:
            if size > 1 and self._waiting.qsize() < REQUESTS_MAX - 1:
                self._must_hurry.wait(began_s + GATHER_S - time.monotonic())
            self._must_hurry.clear()
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
            began_s, size = time.monotonic(), len(group)
            self._write(group)
            if is_last:
                return

    def _write(self, group: list[_Waiting]) -> None:
        answers: list[IngestAnswer | Exception]
        try:
            answers = self._store.write([waiting.request for waiting in group])
        # Every error goes to the requests of the group, or they would wait for ever.
        except Exception as error:  # noqa: BLE001
            answers = [error for _ in group]
        else:
            self._after()
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, object]]] = {}
        for waiting, answer in zip(group, answers, strict=True):
            by_loop.setdefault(waiting.loop, []).append((waiting, answer))
        for loop, answered in by_loop.items():
            loop.call_soon_threadsafe(_settle, answered)


def _settle(answered: list[tuple[_Waiting, object]]) -> None:
    for waiting, answer in answered:
        if waiting.answer.done():
            continue   # cancelled, since its client has disconnected
        if isinstance(answer, BaseException):
            waiting.answer.set_exception(answer)
        elif isinstance(answer, IngestAnswer):
            waiting.answer.set_result(answer)
