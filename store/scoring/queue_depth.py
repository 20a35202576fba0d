"""What waits: how much, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from store.postgres.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits in one queue; `oldest_s` is 0 where nothing does."""

    queue: str
    depth: int
    oldest_s: float


def read_backlog(database: Database) -> list[Backlog]:
    """Rows that wait to be matched, and outcomes that wait for their queue."""
    with database.cursor() as cursor:
        cursor.execute(
            """select 'match', coalesce(sum(cardinality(row_ids)), 0),
                      coalesce(extract(epoch from now() - min(created)), 0)
                 from outbox where matched_at is null
               union all
               select queue, count(*), extract(epoch from now() - min(created))
                 from outcome where state = 'pending' and is_lead group by queue"""
        )
        found = {
            queue: Backlog(queue=queue, depth=int(depth), oldest_s=round(float(oldest), 3))
            for queue, depth, oldest in cursor
        }
    return [
        found.get(queue, Backlog(queue=queue, depth=0, oldest_s=0.0))
        for queue in ("match", "heavy", "judge", "sandbox")
    ]
