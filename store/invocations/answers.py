"""Waiting for answers: one listening connection a process wakes everybody who waits.

A notification may be missed while the connection is made anew, so what is waited for is
also looked up, every POLL_S. A call that no worker has taken goes with who waited for it.
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
"""The longest that a missed notification delays an answer, or a deadline its caller."""

STOP_S = 5.0


@dataclass(slots=True)
class _Waiting:
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


# Of what a worker has, the answer is kept, as of every call.
WITHDRAW = f"""
    delete from invocation
     where id = any(%s) and {INVOCATIONS.free} and {INVOCATIONS.waiting}
"""


class AnswerListener:
    """Implements flows.invocations.client.Answers. Starts its thread with the first call."""

    def __init__(self, database: Database, *, patience_s: float) -> None:
        self._database = database
        self._patience_s = patience_s
        self._waiting: dict[InvocationId, _Waiting] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()

    def expect(self, invocation_id: InvocationId) -> Future[Answer]:
        """See flows.invocations.client.Answers."""
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
        """Stop listening. Who still waits is told that it is over, and what no worker has
        taken of it is taken back."""
        self._is_closing.set()
        if self._thread is not None:
            with suppress(StoreUnavailable), self._database.cursor() as cursor:
                cursor.execute("select pg_notify(%s, '')", (CHANNEL,))   # wakes it
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
                with self._database.listening(CHANNEL) as connection:
                    while not self._is_closing.is_set():
                        self._look(connection)
                        for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                            pass
            except (StoreUnavailable, psycopg.Error) as error:
                logger.warning("answers: %s; listening again as soon as it is there", error)
                self._give_up_late(None)
                self._is_closing.wait(POLL_S)

    def _look(self, connection: Connection) -> None:
        """Hand out the answers that are there; give up what was waited for long enough."""
        with self._lock:
            ids = [
                each for each, waiting in self._waiting.items() if not waiting.future.done()
            ]
            gone = [*(self._waiting.keys() - set(ids))]   # who waited has stopped
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
        """`attempts`: how often workers have taken each; None where nobody can tell."""
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
            return StoreUnavailable(f"PostgreSQL was away for some of the {waited}")
        if attempts.get(invocation_id):
            return NotAnswered(
                f"a worker is still at it after {waited}: give it less to do at once, or "
                "raise TALLYARD_INVOKE_TIMEOUT_S"
            )
        return NoWorker(
            f"no worker took this within {waited}: see that the sandbox, judge and heavy "
            "workers run, and what their logs say"
        )

    def _end(self, invocation_id: InvocationId, end: Answer | Exception) -> None:
        with self._lock:
            waiting = self._waiting.pop(invocation_id, None)
        if waiting is None:
            return
        with suppress(InvalidStateError):   # cancelled: nobody waits
            if isinstance(end, Exception):
                waiting.future.set_exception(end)
            else:
                waiting.future.set_result(end)
