"""Versions (`_xact_id`): drawn by writers, followed by readers who must miss none.

A sequence is not transactional: version 10 may still be uncommitted while 11 can be read
already, and who has gone on to 11 would never come back for 10. Nor does the order of
transaction ids help: a writer may get its id first and draw its version last. So a writer,
before it draws, locks the sequence's last value (a shared advisory lock, gone with its
transaction): whatever it draws lies above. A reader stays at or below the lowest such lock.
"""

from __future__ import annotations

from spans.ids import Xact
from store.postgres.database import Cursor

DRAW = """
    with floor as materialized (
      select pg_advisory_xact_lock_shared(last_value) from xact_seq)
    select nextval('xact_seq') from floor, generate_series(1, %s)
"""
# The two halves of a 64-bit key, as pg_locks shows them. Versions are far above every other
# key that we lock, so what lies below the sequence's beginning is somebody else's.
FLOORS = """
    select min((classid::bigint << 32) | objid::bigint) from pg_locks
     where locktype = 'advisory' and objsubid = 1 and mode = 'ShareLock'
       and database = (select oid from pg_database where datname = current_database())
       and (classid::bigint << 32) | objid::bigint >= (
             select seqstart from pg_sequence where seqrelid = 'xact_seq'::regclass)
"""


def draw_versions(cursor: Cursor, count: int) -> list[Xact]:
    """New versions, increasing. To be called once the transaction holds its row locks, so
    that no row's version ever steps back."""
    if not count:
        return []
    cursor.execute(DRAW, (count,))
    return [Xact(number) for (number,) in cursor.fetchall()]


def settled_version(cursor: Cursor) -> Xact:
    """The version up to which every write is committed or was given up.

    What a later statement reads at or below it is complete, for ever. The last value must
    be read first: who draws a version up to it has taken its lock before, and holds it
    still or has ended.
    """
    cursor.execute("select last_value from xact_seq")
    (last,) = cursor.fetchone() or (0,)
    cursor.execute(FLOORS)
    (floor,) = cursor.fetchone() or (None,)
    return Xact(last if floor is None else min(last, floor))
