"""Leases: which process works on which row, and how that ends.

A lease lasts `lease_s` by PostgreSQL's clock. A process that is killed leaves no open
connection behind, and then its leases end at once: nobody waits for them to run out.

A restart of PostgreSQL closes everybody's connections, and says nothing about who is alive:
what was claimed before it ends with its time alone.

`Leased` says for each table what differs there. Whoever writes a statement of its own over
such a table takes its parts from here: `CLAIMED`, `RENEWED` and `RELEASED` are what it sets,
`Leased.waiting`, `Leased.free` and `Leased.held` are its conditions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from spans.queues import Holds, queue_named
from store.postgres.database import APPLICATION, Cursor, Database

Key = tuple[object, ...]
"""The values of a leased row's key, in the order of `Leased.key`."""

RENEWED = "lease_until = now() + make_interval(secs => %(lease)s)"
CLAIMED = f"attempts = attempts + 1, fence = fence + 1, owner = %(owner)s, {RENEWED}"
"""A claim counts its attempt before the work starts, and raises the fence: a result of who
held the row before is refused from then on."""

RELEASED = "owner = null, lease_until = null"
"""Nobody works on the row. The fence stays: the next claim raises it."""

SET_BACK = "lease_until = lease_until - %(by)s"
"""The clock was set back by so much: without this the lease would last that much longer."""

ALIVE = f"""
    select split_part(application_name, ' ', 2) from pg_stat_activity
     where application_name like '{APPLICATION} %%'
"""
LOOK_S = 1.0
"""The shortest time between two searches of a process for leases that ended, seconds."""


def by_key(condition: str) -> str:
    """The condition, for a statement that finds its rows by their key.

    A partial index with this condition would be open to the planner too. It would read all of
    the index, for instance a million waiting outcomes, if it believed that few are there. It
    does not see through the function.
    """
    return f"coalesce({condition}, false)"


class Expiry(Enum):
    """What happens to a lease whose time is over, while its owner still lives."""

    NEXT_CLAIM = auto()
    """Nothing; but whoever claims next looks at the time, and may take the row."""

    SWEEP = auto()
    """It is released by `Leased.expire`: an index of what is free then holds all of it."""

    NEVER = auto()
    """It stays: a run that takes long would be made twice, for an answer that comes late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A table whose rows are leased.

    `key` are the columns of its key, with their types. `waiting` is the condition that there
    is still work to do on a row, `claimed_at` is when it was claimed. Where `counts_deaths`, a
    row counts the workers that died while they held it; where `has_queue`, the table holds the
    rows of several queues.
    """

    table: str
    key: Mapping[str, str]
    waiting: str
    claimed_at: str
    expiry: Expiry
    counts_deaths: bool
    has_queue: bool

    @property
    def free(self) -> str:
        """The condition that a waiting row can be claimed."""
        if self.expiry is Expiry.NEXT_CLAIM:
            return "(lease_until is null or lease_until < now())"
        return "owner is null"

    def held(self, claims: str) -> str:
        """The condition that a row is still as one of `claims` left it: a joined table of
        keys and fences. Whoever claimed the row later has raised its fence."""
        return (
            f"{self._same(claims)} and {self.table}.fence = {claims}.fence"
            f" and {by_key(self.waiting)}"
        )

    def claims(self, *more: str) -> str:
        """The claims as a table, of arrays that are given as parameters: one for each column
        of the key, then the fences, then those of `more` (each a name and its type)."""
        columns = {**self.key, "fence": "bigint", **dict(one.split(" ") for one in more)}
        arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
        return f"unnest({arrays}) as held({', '.join(columns)})"

    def release(self, cursor: Cursor, claims: Mapping[Key, int]) -> None:
        """Release what is still held under these fences, which stand by their rows' keys."""
        cursor.execute(
            f"""update {self.table} set {RELEASED}
                  from {self.claims()} where {self.held("held")}""",
            (*self.arrays(claims), list(claims.values())),
        )

    def arrays(self, keys: Iterable[Key]) -> list[list[object]]:
        """The keys as one array for each column, as `claims` takes them."""
        rows = list(keys)
        return [[key[place] for key in rows] for place in range(len(self.key))]

    def renew(self, cursor: Cursor, *, owner: str, queue: str, lease_s: float) -> None:
        """Lease what the owner holds of the queue anew, from now on."""
        cursor.execute(
            # In one order with whoever records, and not waiting for them.
            f"""with own as (
                  select {", ".join(self.key)} from {self.table} where {self._own}
                   order by {", ".join(self.key)} for update skip locked)
                update {self.table} set {RENEWED} from own where {self._same("own")}""",
            {"owner": owner, "queue": queue, "lease": lease_s},
        )

    def release_own(self, cursor: Cursor, *, owner: str, queue: str) -> None:
        """Release what the owner holds of the queue."""
        cursor.execute(
            f"update {self.table} set {RELEASED} where {self._own}",
            {"owner": owner, "queue": queue},
        )

    def blame(self, cursor: Cursor, *, owner: str, queue: str) -> None:
        """Release what the owner holds of the queue, as if it had died of it."""
        cursor.execute(
            f"update {self.table} set {self._died} where {self._own}",
            {"owner": owner, "queue": queue},
        )

    def abandon(self, cursor: Cursor, *, lease_s: float) -> int:
        """Release what processes hold that are gone; gives how much that was.

        A death is counted here, where the owner died: a lease that ran out only shows
        slowness.
        """
        cursor.execute(
            f"""update {self.table} set {self._died}
                 where {self.waiting} and owner is not null
                   and {self.claimed_at} > pg_postmaster_start_time()
                   and owner not in ({ALIVE})""",
            {"lease": lease_s},
        )
        return cursor.rowcount

    def expire(self, cursor: Cursor) -> int:
        """Release what ran out and is to be swept; gives how much that was."""
        if self.expiry is not Expiry.SWEEP:
            return 0
        cursor.execute(
            f"""update {self.table} set {RELEASED}
                 where {self.waiting} and owner is not null and lease_until < now()"""
        )
        return cursor.rowcount

    def _same(self, other: str) -> str:
        return " and ".join(f"{self.table}.{name} = {other}.{name}" for name in self.key)

    @property
    def _own(self) -> str:
        of_queue = " and queue = %(queue)s" if self.has_queue else ""
        return f"{self.waiting} and owner = %(owner)s{of_queue}"

    @property
    def _died(self) -> str:
        return f"{RELEASED}, deaths = deaths + 1" if self.counts_deaths else RELEASED


OUTBOX = Leased(
    table="outbox", key={"seq": "bigint"}, waiting="true",
    claimed_at="lease_until - make_interval(secs => %(lease)s)",
    expiry=Expiry.NEXT_CLAIM, counts_deaths=True, has_queue=False,
)
# A heavy scorer's lease lasts longer, and others are renewed: neither tells the claim's time.
OUTCOMES = Leased(
    table="outcome",
    key={"subject_seq": "bigint", "subject_version": "bigint", "use_no": "integer"},
    waiting="state = 'pending'", claimed_at="started_at",
    expiry=Expiry.SWEEP, counts_deaths=True, has_queue=True,
)
# How often an invocation was tried is its attempts; it needs no deaths.
INVOCATIONS = Leased(
    table="invocation", key={"id": "uuid"}, waiting="answered_at is null",
    claimed_at="lease_until - make_interval(secs => %(lease)s)",
    expiry=Expiry.NEVER, counts_deaths=False, has_queue=True,
)
# How often a delivery was tried is its attempts, and what became of each is a row.
DELIVERIES = Leased(
    table="delivery", key={"id": "uuid"}, waiting="state = 'pending'",
    claimed_at="lease_until - make_interval(secs => %(lease)s)",
    expiry=Expiry.SWEEP, counts_deaths=False, has_queue=False,
)
LEASED: Sequence[Leased] = (OUTBOX, OUTCOMES, INVOCATIONS, DELIVERIES)

HELD_BY_QUEUE: Mapping[Holds, Sequence[Leased]] = {
    Holds.ENTRIES: (OUTBOX,), Holds.OUTCOMES: (OUTCOMES,), Holds.NOTHING: (),
}


class Leases:
    """Ends the leases of workers. Every method is safe to repeat."""

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
        ended = 0
        with self._database.cursor() as cursor:
            cursor.execute(f"select %s in ({ALIVE})", (self._database.owner,))
            if cursor.fetchone() == (True,):
                ended += sum(leased.abandon(cursor, lease_s=self._lease_s) for leased in LEASED)
            return ended + sum(leased.expire(cursor) for leased in LEASED)

    def release_own(self, queue: str) -> None:
        """End what this process holds of a queue: called when it has nothing in hand, so
        that work which an error interrupted does not wait for its lease to run out."""
        with self._database.cursor() as cursor:
            for leased in HELD_BY_QUEUE[queue_named(queue).holds]:
                leased.release_own(cursor, owner=self._database.owner, queue=queue)

    def blame_own(self, queue: str) -> None:
        """End what this process holds of a queue, as if it had died of it: called after an
        error that nobody foresaw, which would otherwise come back for ever."""
        with self._database.cursor() as cursor:
            for leased in HELD_BY_QUEUE[queue_named(queue).holds]:
                leased.blame(cursor, owner=self._database.owner, queue=queue)
