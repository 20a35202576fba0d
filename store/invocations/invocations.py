"""Adds, claims and answers invocations."""

from __future__ import annotations

from collections.abc import Sequence

from flows.invocations.messages import (
    Answer,
    Invocation,
    Request,
)
from spans.columns import SCORER_ARGUMENTS
from spans.ids import InvocationId, OrgId
from spans.row import ObjectRef, RowKey
from spans.work import Subject
from store.invocations.message_json import answer_text, read_request, request_text
from store.postgres.database import Database
from store.postgres.leases import CLAIMED, INVOCATIONS, RELEASED
from store.postgres.row_views import find_rows, read_subjects

CHANNEL = "invocation"
"""The NOTIFY channel on which answers are announced. The payload is the invocation's id."""

# Clients have stopped waiting for invocations that are older than `patience` seconds.
CLAIM = f"""
    with next as (
      select id from invocation
       where queue = %(queue)s and {INVOCATIONS.waiting} and {INVOCATIONS.free}
         and created > now() - make_interval(secs => %(patience)s)
       order by created limit 1
         for update skip locked)
    update invocation set {CLAIMED}
      from next where invocation.id = next.id
    returning invocation.id, fence, attempts, request
"""


class Invocations:
    """Implements flows.invocations.messages.InvocationStore.

    `patience_s` is how long a client waits for its answer, seconds.

    A lease ends only when its owner dies (see `store.postgres.leases`), not after a time. If it
    did, a long run would be made a second time, for an answer that comes too late.
    """

    def __init__(self, database: Database, *, lease_s: float, patience_s: float) -> None:
        self._database = database
        self._lease_s = lease_s
        self._patience_s = patience_s

    def ask(
        self, invocation_id: InvocationId, org_id: OrgId, queue: str, request: Request
    ) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                "insert into invocation (id, org_id, queue, request) values (%s, %s, %s, %s)",
                (invocation_id, org_id, queue, request_text(request)),
            )

    def claim(self, queue: str) -> Invocation | None:
        """Claim the queue's oldest invocation that a client still waits for. On return the
        attempt is committed."""
        with self._database.cursor() as cursor:
            cursor.execute(
                CLAIM,
                {
                    "queue": queue, "owner": self._database.owner, "lease": self._lease_s,
                    "patience": self._patience_s,
                },
            )
            row = cursor.fetchone()
        if row is None:
            return None
        invocation_id, fence, attempts, request = row
        return Invocation(
            id=InvocationId(invocation_id), fence=fence, attempts=attempts,
            request=read_request(request),
        )

    def answer(self, invocation: Invocation, answer: Answer) -> None:
        """Store the answer and notify the waiting process.

        Safe to repeat: nothing happens if the invocation has an answer, or was claimed by
        another worker meanwhile.
        """
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""with answered as (
                     update invocation set answer = %s, answered_at = now(), {RELEASED}
                      where id = %s and fence = %s and {INVOCATIONS.waiting}
                     returning id)
                   select pg_notify(%s, id::text) from answered""",
                (answer_text(answer), invocation.id, invocation.fence, CHANNEL),
            )

    def give_back(self, invocation: Invocation) -> None:
        """Release the claim. Nothing happens if another worker has claimed it meanwhile."""
        with self._database.cursor() as cursor:
            INVOCATIONS.release(cursor, {(invocation.id,): invocation.fence})

    def subjects(self, rows: Sequence[RowKey]) -> list[Subject | None]:
        by_object: dict[ObjectRef, list[str]] = {}
        for key in rows:
            by_object.setdefault(key.object, []).append(key.id)
        found: dict[RowKey, Subject] = {}
        columns = frozenset(SCORER_ARGUMENTS)
        with self._database.cursor() as cursor:
            for where, ids in by_object.items():
                object_no = self._database.numbers.find_object(where)
                if object_no is None:
                    continue
                seqs = list(find_rows(cursor, object_no, ids).values())
                subjects = read_subjects(
                    cursor, where, object_no, seqs, columns, view="shown_span"
                )
                found |= {subject.key: subject for subject in subjects.values()}
        return [found.get(key) for key in rows]
