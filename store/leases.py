"""Who holds what: leases that end with their time, or with their owner.

A lease lasts `lease_s` by PostgreSQL's clock. A process that is killed leaves no open
connection behind, and then its leases end at once: nobody waits for them to run out.
"""

from __future__ import annotations

from store.database import APPLICATION, Cursor, Database

ALIVE = f"""
    select split_part(application_name, ' ', 2) from pg_stat_activity
     where application_name like '{APPLICATION} %%'
"""


def release_abandoned(database: Database) -> int:
    """End the leases of processes that are gone. Returns how many there were.

    Safe to repeat and to run anywhere: a process that still lives keeps its leases. Where a
    pooler hides the connections' names, leases simply run out.
    """
    with database.cursor() as cursor:
        return _release_entries(cursor) + _release_outcomes(cursor)


def _release_entries(cursor: Cursor) -> int:
    cursor.execute(
        f"""update outbox set lease_until = null, owner = null
             where matched_at is null and owner is not null and owner not in ({ALIVE})"""
    )
    return cursor.rowcount


def _release_outcomes(cursor: Cursor) -> int:
    cursor.execute(
        f"""update outcome set lease_until = null, owner = null, deaths = deaths + 1
             where state = 'pending' and is_lead and owner is not null
               and (owner not in ({ALIVE}) or lease_until < now())"""
    )
    return cursor.rowcount
