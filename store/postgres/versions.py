"""Draws versions (`_xact_id`) for writers, and tells readers up to which one they may read.

A reader that follows the versions must miss none. But a sequence is not transactional: version
10 may still be uncommitted when 11 can be read, and a reader that went on to 11 would never
read 10. The order of transaction ids does not help either, because a writer may get its id
first and draw its version last.

So a writer takes a lock before it draws: a shared advisory lock whose key is the last value of
the sequence. Each version that it then draws is above that key. The lock ends with the
transaction. A reader reads only up to the lowest key that is locked.
"""

from __future__ import annotations

from spans.ids import RowSeq, Xact
from store.postgres.database import Cursor

DRAW = """
    with floor as materialized (
      select pg_advisory_xact_lock_shared(last_value) from xact_seq)
    select array(select nextval('xact_seq') from floor, generate_series(1, %s)),
           array(select nextval('span_seq') from generate_series(1, %s))
"""
# pg_locks shows the 64-bit key of an advisory lock as two halves. All other keys that Tallyard
# locks are below the first version, and are ignored here.
FLOORS = """
    select min((classid::bigint << 32) | objid::bigint) from pg_locks
     where locktype = 'advisory' and objsubid = 1 and mode = 'ShareLock'
       and database = (select oid from pg_database where datname = current_database())
       and (classid::bigint << 32) | objid::bigint >= (
             select seqstart from pg_sequence where seqrelid = 'xact_seq'::regclass)
"""


def draw_versions(
    cursor: Cursor, count: int, *, new_rows: int = 0
) -> tuple[list[Xact], list[RowSeq]]:
    """Draw `count` new versions, and the places of `new_rows` rows, both in increasing order.

    Call this after the transaction has locked its rows. Otherwise another transaction could
    write a higher version to a row first, and the row's version would decrease.
    """
    if not count:
        return [], []
    cursor.execute(DRAW, (count, new_rows))
    versions, places = cursor.fetchone() or ((), ())
    return list(versions), list(places)


def settled_version(cursor: Cursor) -> Xact:
    """The version up to which every write has been committed or rolled back.

    A later statement that reads up to this version misses nothing, and no write will add
    anything there.

    The order of the two statements matters. Every writer of a version up to `last_value` took
    its lock before `last_value` was read. If it does not hold the lock any more when the locks
    are read, its transaction has ended.
    """
    cursor.execute("select last_value from xact_seq")
    (last,) = cursor.fetchone() or (0,)
    cursor.execute(FLOORS)
    (floor,) = cursor.fetchone() or (None,)
    return Xact(last if floor is None else min(last, floor))
