"""Reads how much work waits in each queue, and since when."""

from __future__ import annotations

from collections.abc import Iterable

from flows.health.measurements import QueueDepth
from spans.queues import QUEUES, Holds, Queue
from store.postgres.database import Database


def read_queue_depths(
    database: Database, queues: tuple[Queue, ...] = QUEUES
) -> list[QueueDepth]:
    """The depth of each queue: rows that wait for matching, or outcomes that wait to run."""
    of_entries = next((queue.name for queue in queues if queue.holds is Holds.ENTRIES), "")
    with database.cursor() as cursor:
        cursor.execute(
            """select %s::text, coalesce(sum(cardinality(row_seqs)), 0),
                      coalesce(extract(epoch from now() - min(created)), 0)
                 from outbox
               union all
               select queue, count(*), extract(epoch from now() - min(created))
                 from outcome where state = 'pending' and is_lead group by queue""",
            (of_entries,),
        )
        waiting = [
            QueueDepth(queue=queue, depth=int(depth), oldest_s=round(float(age), 3))
            for queue, depth, age in cursor
        ]
    return depths_of_all(waiting, queues)


def depths_of_all(waiting: Iterable[QueueDepth], queues: tuple[Queue, ...]) -> list[QueueDepth]:
    """`waiting`, with a depth of 0 added for each queue that can hold work and has none."""
    found = {depth.queue: depth for depth in waiting}
    return [
        found.get(queue.name, QueueDepth(queue=queue.name, depth=0, oldest_s=0.0))
        for queue in queues
        if queue.holds is not Holds.NOTHING
    ]
