"""Claims outbox entries in turn: all objects that wait get alike many rows matched.

A project that logs a million rows thereby delays the others by one claim. A claim looks which
objects wait, one index entry for each, and then reads a few entries of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from spans.ids import RowSeq, Xact
from store.postgres.database import Cursor
from store.postgres.leases import CLAIMED, OUTBOX
from store.scoring.outcome_turns import OBJECT_NO_MAX

ENTRIES_MAX = 200
"""The most outbox entries of an object that one claim takes: enough to spread its cost."""

OBJECTS_PER_CLAIM = 8
"""A claim is shared by as many objects as wait, but not by more than this: each costs a
transaction, and a look at its oldest entry."""

# A value, where `exists` would be a join: the planner may then read all projects first.
_IS_LIVE = """
    (select project.deleted_at is null
       from object join project on project.id = object.project_id
      where object.object_no = {}.object_no)"""

# An entry whose worker died (`suspect`) is claimed before all others, and alone. Otherwise the
# objects that wait are `line`: the first ones from the object on whose turn it is. As many of
# their oldest entries are `wanted` as give each twice its share of rows, for what others do not
# need. These are locked (`fresh`), each with the rows that come before it in its object, and
# with those that its object is ahead of the others. Entries with the least before them are
# taken, until they have `rows` rows; the commit unlocks the rest. No more is locked: other
# match processes skip what is, and would not see that there is work for them. The entries are
# matched with the newest revision of the rules.
CLAIM = f"""
    with suspect as materialized (
      select seq from outbox
       where deaths > 0 and {OUTBOX.free} and {_IS_LIVE.format("outbox")}
       order by seq limit 1 for update skip locked),
    line as materialized (
      select waiting.object_no, row_number() over () as place
        from (values (%(after)s::integer, {OBJECT_NO_MAX}), (0, %(after)s::integer))
          as part(after, up_to)
       cross join lateral (
         with recursive object_of_entry as (
           (select object_no from outbox
             where object_no > part.after and object_no <= part.up_to
             order by object_no limit 1)
           union all
           select next.* from object_of_entry one cross join lateral (
             select object_no from outbox
              where object_no > one.object_no and object_no <= part.up_to
              order by object_no limit 1) next)
         select object_no from object_of_entry) waiting
       where not exists (select from suspect)
         and (select true from outbox
               where object_no = waiting.object_no and deaths = 0 and {OUTBOX.free} limit 1)
         and {_IS_LIVE.format("waiting")}
       limit {OBJECTS_PER_CLAIM}),
    wanted as materialized (
      select line.*, (
        select count(*) from (
          select sum(size) over (order by xact) - size as before from (
            select xact, cardinality(row_seqs) as size from outbox
             where outbox.object_no = line.object_no and deaths = 0 and {OUTBOX.free}
             order by xact limit {ENTRIES_MAX}) oldest) sized
         where before < %(rows)s * least(waiting.count, 2) / waiting.count) as entries
        from line cross join (select count(*) from line) waiting),
    fresh as materialized (
      select wanted.place, entry.seq, entry.size,
             coalesce((select rows from unnest(%(served)s::integer[], %(ahead)s::bigint[])
                                          as one(object_no, rows)
                        where one.object_no = wanted.object_no), 0)
               + sum(size) over (partition by place order by xact) - size as before
        from wanted cross join lateral (
          select seq, xact, cardinality(row_seqs) as size from outbox
           where outbox.object_no = wanted.object_no and deaths = 0 and {OUTBOX.free}
           order by xact limit wanted.entries for update skip locked) entry),
    taken as (
      select seq, 0 as place, 0 as before from suspect
       union all
      select seq, place, before from (
        select *, sum(size) over (order by before, place) - size as taken_before
          from fresh) in_order
       where taken_before < %(rows)s)
    update outbox set {CLAIMED}
      from taken
     where outbox.seq = taken.seq
    returning outbox.object_no,
              (select rules_revision from project join object on object.project_id = project.id
                where object.object_no = outbox.object_no),
              outbox.seq, fence, deaths, xact, row_seqs, rescored, outbox.created,
              place, before, array(select object_no from line)
"""


class ClaimedEntry(NamedTuple):
    """A row of CLAIM. `line` has the objects that shared the claim; with a suspect none do."""

    object_no: int
    revision: int
    seq: int
    fence: int
    deaths: int
    xact: Xact
    row_seqs: list[RowSeq]
    rescored: bool
    created: datetime
    place: int
    before: int
    line: list[int]


class EntryTurns:
    """Claims entries for one process, which remembers whom it served last and with how much.

    Processes do not share their turns: where each is fair, all of them together are.
    """

    def __init__(self) -> None:
        self._after = 0
        self._ahead: dict[int, int] = {}

    def claim(
        self, cursor: Cursor, rows_max: int, *, owner: str, lease_s: float
    ) -> list[ClaimedEntry]:
        """Claim entries of about `rows_max` rows, in the order of objects and entries."""
        cursor.execute(CLAIM, {
            "rows": rows_max, "after": self._after,
            "served": list(self._ahead), "ahead": list(self._ahead.values()),
            "owner": owner, "lease": lease_s,
        })
        claimed = sorted(
            (ClaimedEntry(*row) for row in cursor.fetchall()), key=lambda one: one[:3]
        )
        self._pass_on(claimed)
        return claimed

    def _pass_on(self, claimed: Sequence[ClaimedEntry]) -> None:
        """Remember who comes next, and who got more rows than the others in its line.

        Whoever logs a thousand rows at once has them matched at once, and then waits until the
        others have got as many.
        """
        if not claimed:
            self._ahead.clear()
            return
        level = max(one.before for one in claimed)
        ends = {one.object_no: one.before + len(one.row_seqs) for one in claimed}
        for object_no in claimed[0].line:
            was_ahead = self._ahead.pop(object_no, 0)
            ahead = ends.get(object_no, was_ahead) - level
            if ahead > 0:
                self._ahead[object_no] = ahead
        if claimed[0].line:
            self._after = max(claimed, key=attrgetter("place")).object_no
