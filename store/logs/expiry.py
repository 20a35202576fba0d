"""Deletes old traces in small transactions, each of which finds its rows by index."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from flows.logs.expiry import Expired
from spans.ids import RowSeq
from spans.row import ObjectRef
from store.postgres.counters import Counts
from store.postgres.database import Database, follow_indexes
from store.postgres.row_deletion import delete_with_history

PIECE = 1000
"""The most rows that one transaction deletes, besides their score spans: it holds the rows'
locks for some tens of milliseconds."""

# Rows in the order of `created`, with their traces.
OLD_ROWS = """
    select head.created, head.seq, row.root_span_id
      from (select created, seq from span_head
             where object_no = %(object)s and created > '-infinity' and created < %(before)s
               and (created, seq) > (%(after)s, %(seq)s)
             order by created, seq limit %(limit)s) head
     cross join lateral (
       select root_span_id from span where span.seq = head.seq offset 0) row
"""
# Whether the trace `asked` has a row which is not old. Score spans do not count.
IS_LIVE = """exists (
       select from (select seq from span
                     where span.object_no = %(object)s and span.root_span_id = asked.root
                       and scored_version is null and scored_seq is null offset 0) row
        cross join lateral (
          select from span_head
           where span_head.object_no = %(object)s and span_head.seq = row.seq
             and deleted_at is null and span_head.created >= %(before)s offset 0) head)
"""
LIVE = f"select root from unnest(%(roots)s::text[]) as asked(root) where {IS_LIVE}"
# Rows that come later are not among them, and so stay. Each trace is looked through once more,
# since it may have got a row while others were deleted.
ROWS_OF = f"""
    with old as materialized (
      select root from unnest(%(roots)s::text[]) as asked(root) where not {IS_LIVE})
    select old.root, row.seq from old
     cross join lateral rows_of_trace(%(object)s, old.root) as row(seq)
"""
COUNT_ROWS_OF = """
    select count(*) from unnest(%(roots)s::text[]) as asked(root)
     cross join lateral rows_of_trace(%(object)s, asked.root) as row(seq)
"""


class LogExpiry:
    """Implements flows.logs.expiry.ExpiryStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expire(self, where: ObjectRef, before: datetime, *, is_dry_run: bool) -> Expired:
        object_no = self._database.numbers.find_object(where)
        if object_no is None:
            return Expired(traces=0, rows=0)
        traces = rows = 0
        counted: set[str] = set()   # a dry run meets a trace again with each of its rows
        for roots in self._old_traces(object_no, before):
            if is_dry_run:
                fresh = [root for root in roots if root not in counted]
                counted.update(fresh)
                traces, rows = len(counted), rows + self._count(object_no, fresh)
            else:
                gone, deleted = self._delete(where, object_no, roots, before)
                traces, rows = traces + gone, rows + deleted
        return Expired(traces=traces, rows=rows)

    def _old_traces(self, object_no: int, before: datetime) -> Iterator[list[str]]:
        """The root span ids of the traces that are to go, found piece by piece.

        A trace comes again with each piece that has rows of it, unless they are deleted
        meanwhile.
        """
        after, seq = datetime.min.replace(tzinfo=UTC), RowSeq(0)
        # What was found of the traces of the piece before: a long trace is not read for each
        # of its pieces.
        is_live: dict[str, bool] = {}
        while True:
            with self._database.cursor() as cursor:
                follow_indexes(cursor)
                cursor.execute(
                    OLD_ROWS,
                    {"object": object_no, "before": before, "after": after, "seq": seq,
                     "limit": PIECE},
                )
                found = cursor.fetchall()
                roots = dict.fromkeys(root for *_, root in found)
                unknown = [root for root in roots if root not in is_live]
                cursor.execute(
                    LIVE, {"roots": unknown, "object": object_no, "before": before}
                )
                live = {root for (root,) in cursor}
            is_live = {root: is_live.get(root, root in live) for root in roots}
            if old := [root for root in roots if not is_live[root]]:
                yield old
            if len(found) < PIECE:
                return
            after, seq, _ = found[-1]

    def _delete(
        self, where: ObjectRef, object_no: int, roots: list[str], before: datetime
    ) -> tuple[int, int]:
        """Delete what these traces have. Returns how many traces went, and how many rows."""
        with self._database.cursor() as cursor:
            cursor.execute(ROWS_OF, {"roots": roots, "object": object_no, "before": before})
            found = cursor.fetchall()
        seqs = [RowSeq(seq) for _, seq in found]
        deleted = 0
        for first in range(0, len(seqs), PIECE):
            counts = Counts()
            with self._database.cursor() as cursor:
                gone = delete_with_history(
                    cursor, where, object_no, seqs[first : first + PIECE]
                )
                counts.add("expired_rows", {}, gone)
                counts.write(cursor)
            deleted += gone
        return len({root for root, _ in found}), deleted

    def _count(self, object_no: int, roots: list[str]) -> int:
        with self._database.cursor() as cursor:
            cursor.execute(COUNT_ROWS_OF, {"roots": roots, "object": object_no})
            (count,) = cursor.fetchone() or (0,)
        return int(count)
