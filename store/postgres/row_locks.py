"""Locks rows that a transaction is about to write or delete."""

from __future__ import annotations

from collections.abc import Collection

from spans.ids import RowSeq
from store.postgres.database import Cursor

LOCK = """
    select head.seq from unnest(%s::integer[], %s::bigint[]) as asked(object_no, seq)
     cross join lateral (
       select seq from span_head
        where span_head.object_no = asked.object_no and span_head.seq = asked.seq
          for no key update) head
"""


def lock_heads(cursor: Cursor, rows: Collection[tuple[int, RowSeq]]) -> set[RowSeq]:
    """Lock the heads of these rows, in the order in which ingest and scoring lock them too.

    A row is named by the number of its object and by its place. Returns the places of the rows
    that are there. What the caller reads of them from now on is what it writes over.
    """
    if not rows:
        return set()
    object_nos, seqs = zip(*sorted(set(rows)), strict=True)
    cursor.execute(LOCK, (list(object_nos), list(seqs)))
    return {seq for (seq,) in cursor}
