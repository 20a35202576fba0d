"""Claims outcomes in turn: live ones before bulk, and those of all objects that wait alike.

A million outcomes that wait cost a claim nothing. It looks which objects wait, one index entry
for each, and then reads as many outcomes as it takes.

    turns = OutcomeTurns()                                    one for each process
    turns.claim(cursor, "judge", 32, owner=..., lease_s=...)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from spans.work import DEATHS_MAX, Priority, batch_size, claim_order
from store.postgres.database import Cursor
from store.postgres.leases import CLAIMED, OUTCOMES

OBJECTS_PER_CLAIM = 8
"""A claim is shared by as many objects as wait, but not by more than this, unless they have
fewer outcomes than their shares. Each object costs a claim a few statements, and a sandbox runs
the claims of one project together."""

OBJECT_NO_MAX = 2**31 - 1
"""The largest number that an object can have."""

KEY = """outcome.object_no, outcome.subject_seq, outcome.subject_version, outcome.use_no,
         outcome.rules_revision, outcome.skip_logging, outcome.label, outcome.fence,
         outcome.attempts, outcome.deaths,
         coalesce(extract(epoch from now() - outcome.failing_since), 0)::float8,
         outcome.error_class, outcome.error_message"""
FREE = f"queue = %(queue)s and {OUTCOMES.waiting} and is_lead and {OUTCOMES.free}"

# The first of each object's outcomes, where it is due: of either priority those of the objects
# behind the one that was served last, then those of the others. A process that died of an
# outcome makes it a suspect: then a row with the most deaths comes first.
LOOK = f"""
    (select deaths, null::smallint as priority, null::integer as object_no,
            null::timestamptz as next_attempt_at
       from outcome
      where {FREE} and deaths > 0 and next_attempt_at <= now()
      order by deaths desc limit 1)
    union all
    (select 0, part.priority, line.object_no, line.next_attempt_at
       from (values
              (%(first)s::smallint, %(after_first)s::integer, {OBJECT_NO_MAX}),
              (%(first)s, 0, %(after_first)s),
              (%(second)s::smallint, %(after_second)s::integer, {OBJECT_NO_MAX}),
              (%(second)s, 0, %(after_second)s)) as part(priority, after, up_to)
      cross join lateral (
        with recursive line as (
          (select object_no, next_attempt_at from outcome
            where {FREE} and deaths = 0 and priority = part.priority
              and object_no > part.after and object_no <= part.up_to
            order by object_no, next_attempt_at limit 1)
          union all
          select next.* from line cross join lateral (
            select object_no, next_attempt_at from outcome
             where {FREE} and deaths = 0 and priority = part.priority
               and object_no > line.object_no and object_no <= part.up_to
             order by object_no, next_attempt_at limit 1) next)
        select * from line where next_attempt_at <= now()) line
      limit %(room)s)
"""
_CLAIM = f"""
    update outcome set {CLAIMED}, started_at = now()
      from due
     where outcome.subject_seq = due.subject_seq and outcome.use_no = due.use_no
       and outcome.subject_version = due.subject_version
    returning {KEY}
"""
CLAIM = f"""
    with due as (
      select one.* from unnest(%(objects)s::integer[], %(since)s::timestamptz[])
                          as line(object_no, since)
       cross join lateral (
         select subject_seq, subject_version, use_no from outcome
          where {FREE} and deaths = 0 and priority = %(priority)s
            and outcome.object_no = line.object_no
            and next_attempt_at >= line.since and next_attempt_at <= now()
          order by next_attempt_at limit %(share)s for update skip locked) one
       limit %(room)s)
    {_CLAIM}
"""
CLAIM_SUSPECTS = f"""
    with due as (
      select subject_seq, subject_version, use_no from outcome
       where {FREE} and deaths > 0 and deaths = %(deaths)s and next_attempt_at <= now()
       order by next_attempt_at limit %(room)s for update skip locked)
    {_CLAIM}
"""


class _Found(NamedTuple):
    """A row of LOOK: a suspect's deaths, or an object that waits and since when."""

    deaths: int
    priority: int
    object_no: int
    since: datetime


@dataclass(slots=True)
class _Turn:
    """Whose turn it is in a queue: the objects behind `after`, which was served last."""

    claims: int = 0
    after: dict[int, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))

    def serve(
        self, got: Sequence[tuple[int, int]], priority: int, share: int, *, is_full: bool
    ) -> None:
        """Pass the turn on to the object behind the last that got something.

        If the batch is full, that one may have got less than its share: then it stays its turn.
        """
        served = [(object_no, count) for object_no, count in got if count]
        if is_full and served[-1][1] < share:
            del served[-1]
        if served:
            self.after[priority] = served[-1][0]


class OutcomeTurns:
    """Claims outcomes for one process, which remembers whom it served last in each queue.

    Processes do not share their turns: where each is fair, all of them together are. One queue
    is claimed by one thread at a time.
    """

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def claim(
        self, cursor: Cursor, queue: str, limit: int, *, owner: str, lease_s: float
    ) -> list[tuple[Any, ...]]:
        """Claim due outcomes of the queue, at most `limit`; gives their `KEY` columns.

        Suspects, whose worker died, are claimed before all others, most deaths first. They are
        never claimed together with outcomes of another number of deaths, and the more deaths,
        the fewer at once.
        """
        turn = self._turns.setdefault(queue, _Turn())
        turn.claims += 1
        values = {"queue": queue, "owner": owner, "lease": lease_s}
        found = _look(cursor, queue, turn, limit)
        if found and (deaths := found[0].deaths):
            room = batch_size(limit, min(deaths, DEATHS_MAX - 1))
            cursor.execute(CLAIM_SUSPECTS, {**values, "deaths": deaths, "room": room})
            return cursor.fetchall()
        claimed: list[tuple[Any, ...]] = []
        least = -(-limit // OBJECTS_PER_CLAIM)
        for priority, waiting in groupby(found, key=lambda one: one.priority):
            lines = list(waiting)
            while lines and (room := limit - len(claimed)):
                share = max(least, -(-room // len(lines)))
                cursor.execute(CLAIM, {
                    **values, "priority": priority, "share": share, "room": room,
                    "objects": [line.object_no for line in lines],
                    "since": [line.since for line in lines],
                })
                rows = cursor.fetchall()
                claimed += rows
                got = Counter(row[0] for row in rows)
                turn.serve([(line.object_no, got[line.object_no]) for line in lines],
                           priority, share, is_full=len(rows) == room)
                lines = [line for line in lines if got[line.object_no] == share]
        return claimed

    def is_waiting(self, cursor: Cursor, queue: str) -> bool:
        """Whether an outcome of the queue is due and no process holds it."""
        return bool(_look(cursor, queue, _Turn(), 1))


def _look(cursor: Cursor, queue: str, turn: _Turn, room: int) -> list[_Found]:
    first, second = claim_order(turn.claims)
    cursor.execute(LOOK, {
        "queue": queue, "room": room, "first": int(first), "after_first": turn.after[first],
        "second": int(second), "after_second": turn.after[second],
    })
    return [_Found(*row) for row in cursor.fetchall()]
