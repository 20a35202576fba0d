"""Who holds what: leases that end with their time, or with their owner.

A lease lasts `lease_s` by PostgreSQL's clock. A process that is killed leaves no open
connection behind, and then its leases end at once: nobody waits for them to run out.

A restart of PostgreSQL closes everybody's connections, and says nothing about who is alive:
what was claimed before it ends with its time alone.
"""

from __future__ import annotations

import time

from spans.queues import MATCH
from store.postgres.database import APPLICATION, Cursor, Database

ALIVE = f"""
    select split_part(application_name, ' ', 2) from pg_stat_activity
     where application_name like '{APPLICATION} %%'
"""


LOOK_S = 1.0


class Leases:
    """Ends leases. Every method is safe to repeat."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s
        self._look_again_at = 0.0

    def release_abandoned(self) -> int:
        """End the leases of processes that are gone, and those that ran out; how many.

        Looks once in LOOK_S at most: a ring for each request would have it look for each.
        Safe to run anywhere: a process that still lives keeps its own. Where a pooler hides
        the connections' names, ours too is not to be seen, and leases simply run out.
        """
        now = time.monotonic()
        if now < self._look_again_at:
            return 0
        self._look_again_at = now + LOOK_S
        with self._database.cursor() as cursor:
            cursor.execute(f"select %s in ({ALIVE})", (self._database.owner,))
            if cursor.fetchone() != (True,):
                return _expired_outcomes(cursor)
            return (
                _abandoned_entries(cursor, self._lease_s)
                + _abandoned_outcomes(cursor)
                + _abandoned_calls(cursor, self._lease_s)
            )

    def release_own(self, queue: str) -> None:
        """End what this process holds of a queue: called when it has nothing in hand, so
        that work which an error interrupted does not wait for its lease to run out."""
        owner = self._database.owner
        with self._database.cursor() as cursor:
            if queue == MATCH:
                cursor.execute(
                    """update outbox set lease_until = null, owner = null
                        where matched_at is null and owner = %s""",
                    (owner,),
                )
            else:
                cursor.execute(
                    """update outcome set lease_until = null, owner = null
                        where state = 'pending' and owner = %s and queue = %s""",
                    (owner, queue),
                )

    def blame_own(self, queue: str) -> None:
        """End what this process holds of a queue, as if it had died of it: called after an
        error that nobody foresaw, which would otherwise come back for ever."""
        table = "outbox" if queue == MATCH else "outcome"
        waiting = "matched_at is null" if queue == MATCH else "state = 'pending'"
        with self._database.cursor() as cursor:
            cursor.execute(
                f"""update {table} set lease_until = null, owner = null, deaths = deaths + 1
                     where {waiting} and owner = %s""".encode(),
                (self._database.owner,),
            )


def _abandoned_entries(cursor: Cursor, lease_s: float) -> int:
    cursor.execute(
        f"""update outbox set lease_until = null, owner = null, deaths = deaths + 1
             where matched_at is null and owner is not null
               and lease_until > pg_postmaster_start_time() + make_interval(secs => %s)
               and owner not in ({ALIVE})""",
        (lease_s,),
    )
    return cursor.rowcount


def _abandoned_outcomes(cursor: Cursor) -> int:
    """A death is counted where the owner died; a lease that ran out only shows slowness."""
    cursor.execute(
        f"""update outcome set lease_until = null, owner = null, deaths = deaths + 1
             where state = 'pending' and owner is not null
               and started_at > pg_postmaster_start_time() and owner not in ({ALIVE})"""
    )
    return cursor.rowcount + _expired_outcomes(cursor)


def _abandoned_calls(cursor: Cursor, lease_s: float) -> int:
    """Only a death ends them: see `store.invocations.invocations`."""
    cursor.execute(
        f"""update invocation set lease_until = null, owner = null
             where answered_at is null and owner is not null
               and lease_until > pg_postmaster_start_time() + make_interval(secs => %s)
               and owner not in ({ALIVE})""",
        (lease_s,),
    )
    return cursor.rowcount


def _expired_outcomes(cursor: Cursor) -> int:
    """Entries need no such thing: who claims them looks at the lease itself."""
    cursor.execute(
        """update outcome set lease_until = null, owner = null
            where state = 'pending' and owner is not null and lease_until < now()"""
    )
    return cursor.rowcount
