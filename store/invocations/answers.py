"""Waits for the answers to this process's invocations.

One connection per process listens for notifications of answers and completes the futures of
all callers. A notification may be lost while that connection is down, so the listener also
looks for answers every POLL_S. When a caller stops waiting, its invocation is deleted unless a
worker has claimed it.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from flows.invocations.messages import Answer
from spans.errors import NotAnswered, NoWorker, StoreUnavailable, TransientError
from spans.ids import InvocationId
from store.invocations.invocations import CHANNEL
from store.invocations.message_json import read_answer
from store.postgres.database import Connection, Database
from store.postgres.leases import INVOCATIONS

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How often the listener looks for answers, seconds. A lost notification delays an answer by at
most this time, and a caller waits at most this much longer than its deadline."""

STOP_S = 5.0
"""How long `close` waits for the listening thread to end, seconds."""


@dataclass(slots=True)
class _Waiting:
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


# An invocation that a worker has claimed stays: its answer is stored like any other.
WITHDRAW = f"""
    delete from invocation
     where id = any(%s) and {INVOCATIONS.free} and {INVOCATIONS.waiting}
"""


class AnswerListener:
    """Implements flows.invocations.client.AnswerStore.

    The first `expect` starts the listening thread. A caller that has waited for `patience_s`
    seconds gets an error: NoWorker if no worker has claimed the invocation, NotAnswered if
    one has, StoreUnavailable if the database cannot be asked. Thread-safe.
    """

    def __init__(self, database: Database, *, patience_s: float) -> None:
        self._database = database
        self._patience_s = patience_s
        self._waiting: dict[InvocationId, _Waiting] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()

    def expect(self, invocation_id: InvocationId) -> Future[Answer]:
        waiting = _Waiting()
        with self._lock:
            self._waiting[invocation_id] = waiting
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen_for_ever, name="answers", daemon=True
                )
                self._thread.start()
        return waiting.future

    def close(self) -> None:
        """Stop listening. Callers that still wait get StoreUnavailable, and their invocations
        are deleted unless a worker has claimed them."""
        self._is_closing.set()
        if self._thread is not None:
            with suppress(StoreUnavailable), self._database.cursor() as cursor:
                cursor.execute("select pg_notify(%s, '')", (CHANNEL,))   # wakes the thread
            self._thread.join(STOP_S)
        left = list(self._waiting)
        if left:
            with suppress(StoreUnavailable), self._database.cursor() as cursor:
                cursor.execute(WITHDRAW, (left,))
        for invocation_id in left:
            self._end(invocation_id, StoreUnavailable("this process is stopping; ask again"))

    def _listen_for_ever(self) -> None:
        while not self._is_closing.is_set():
            try:
                with self._database.listen(CHANNEL) as connection:
                    while not self._is_closing.is_set():
                        self._look(connection)
                        for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                            pass
            except (StoreUnavailable, psycopg.Error) as error:
                logger.warning("cannot listen for answers: %s; trying again", error)
                self._give_up_late(None)
                self._is_closing.wait(POLL_S)

    def _look(self, connection: Connection) -> None:
        """Complete the futures of answered invocations, and of those past their deadline."""
        with self._lock:
            ids = [
                each for each, waiting in self._waiting.items() if not waiting.future.done()
            ]
            gone = [*(self._waiting.keys() - set(ids))]   # their callers stopped waiting
            for invocation_id in gone:
                del self._waiting[invocation_id]
        if gone:
            connection.execute(WITHDRAW, (gone,))
        if not ids:
            return
        found = connection.execute(
            "select id, answered_at is not null, answer, attempts from invocation"
            " where id = any(%s)",
            (ids,),
        ).fetchall()
        attempts: dict[InvocationId, int] = {}
        for invocation_id, is_answered, answer, count in found:
            if is_answered:
                self._end(invocation_id, read_answer(answer))
            else:
                attempts[invocation_id] = count
        self._give_up_late(attempts)

    def _give_up_late(self, attempts: dict[InvocationId, int] | None) -> None:
        """End the waits that are past their deadline.

        `attempts` says how often each invocation was claimed; it is None if the database
        could not be asked.
        """
        limit = time.monotonic() - self._patience_s
        with self._lock:
            late = [each for each, waiting in self._waiting.items() if waiting.since < limit]
        for invocation_id in late:
            self._end(invocation_id, self._why_late(invocation_id, attempts))

    def _why_late(
        self, invocation_id: InvocationId, attempts: dict[InvocationId, int] | None
    ) -> TransientError:
        waited = f"{self._patience_s:g} s"
        if attempts is None:
            return StoreUnavailable(f"PostgreSQL could not be reached for some of the {waited}")
        if attempts.get(invocation_id):
            return NotAnswered(
                f"a worker is still running this after {waited}: send less at once, or raise "
                "TALLYARD_INVOKE_TIMEOUT_S"
            )
        return NoWorker(
            f"no worker took this within {waited}: check that the sandbox, judge and heavy "
            "workers run, and read their logs"
        )

    def _end(self, invocation_id: InvocationId, end: Answer | Exception) -> None:
        with self._lock:
            waiting = self._waiting.pop(invocation_id, None)
        if waiting is None:
            return
        with suppress(InvalidStateError):   # the caller cancelled it
            if isinstance(end, Exception):
                waiting.future.set_exception(end)
            else:
                waiting.future.set_result(end)
