"""Reads how much work waits in each queue, and what waits to be tried again, and why."""

from __future__ import annotations

from collections.abc import Iterable

from flows.health.measurements import DownEndpoint, QueueDepth, Retrying, Waiting
from spans.queues import QUEUES, Holds, Queue, held_queue, queues_of_outcomes
from store.postgres.database import Database
from store.scoring.circuits import open_circuits

COUNTED_MAX = 10_000
"""The most entries or outcomes that are counted in a queue, so that a depth is read in a few
milliseconds however deep the queue is. A deeper one is told as deep as that."""

# Outcomes that run, or wait for another try, are counted too: the age is that of the first.
OUTCOMES_DEPTH = """
    select queue.name, waiting.depth, extract(epoch from now() - first.created)
      from unnest(%s::text[]) as queue(name)
     cross join lateral (
       select count(*) as depth from (
         select from outcome
          where outcome.queue = queue.name and state = 'pending' and is_lead
          limit %s) counted) waiting
     cross join lateral (
       select created from outcome
        where outcome.queue = queue.name and state = 'pending' and is_lead
        order by created limit 1) first
"""
ENTRIES_DEPTH = """
    select sum(cardinality(row_seqs)), extract(epoch from now() - min(created))
      from (select row_seqs, created from outbox order by seq limit %s) counted
    having count(*) > 0
"""
# Of each queue the oldest outcomes are looked at.
RETRYING = """
    select queue.name, error_class, count(*), min(next_attempt_at),
           (array_agg(error_message order by next_attempt_at))[1]
      from unnest(%s::text[]) as queue(name)
     cross join lateral (
       select error_class, error_message, next_attempt_at from outcome
        where outcome.queue = queue.name and state = 'pending' and is_lead
        order by created limit %s) waiting
     where error_class is not null
     group by queue.name, error_class
     order by count(*) desc
"""
HELD = """
    select queue.name, count(*)
      from unnest(%s::text[]) as queue(name)
     cross join lateral (
       select from outcome
        where outcome.queue = queue.name and state = 'pending' and is_lead
        limit %s) waiting
     group by queue.name
"""


def read_queue_depths(
    database: Database, queues: tuple[Queue, ...] = QUEUES
) -> list[QueueDepth]:
    """The depth of each queue: rows that wait for matching, or outcomes that wait to run.

    The rows of the first COUNTED_MAX entries are counted, and as many outcomes of a queue.
    """
    names = {held: [queue.name for queue in queues if queue.holds is held] for held in Holds}
    with database.cursor() as cursor:
        cursor.execute(OUTCOMES_DEPTH, (names[Holds.OUTCOMES], COUNTED_MAX))
        found = cursor.fetchall()
        cursor.execute(ENTRIES_DEPTH, (COUNTED_MAX,))
        found += [(name, *depth) for depth in cursor for name in names[Holds.ENTRIES]]
    waiting = [
        QueueDepth(queue=queue, depth=int(depth), oldest_s=round(float(age), 3))
        for queue, depth, age in found
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


def read_waiting(database: Database) -> Waiting:
    """What waits to be tried again, of at most the first COUNTED_MAX outcomes of each queue."""
    with database.cursor() as cursor:
        cursor.execute(RETRYING, (list(queues_of_outcomes()), COUNTED_MAX))
        retrying = [
            Retrying(
                queue=queue, error_class=error_class, count=count, next_at=next_at,
                reason=reason or "",
            )
            for queue, error_class, count, next_at, reason in cursor
        ]
        circuits = open_circuits(cursor)
        cursor.execute(HELD, ([held_queue(one.endpoint) for one in circuits], COUNTED_MAX))
        held = dict(cursor.fetchall())
    return Waiting(
        retrying=tuple(retrying),
        down=tuple(
            DownEndpoint(
                endpoint=one.endpoint, opened_at=one.opened_at, probe_at=one.probe_at,
                error_class=one.error_class, reason=one.reason,
                held=held.get(held_queue(one.endpoint), 0),
            )
            for one in circuits
        ),
    )
