"""Deletes rows whole, and withdraws what was computed for rows."""

from __future__ import annotations

from collections.abc import Sequence

from spans.ids import RowSeq
from store.postgres.database import Cursor

SCORE_SPANS_OF = """
    select score_span.seq from unnest(%s::bigint[]) as scored(seq)
     cross join lateral (
       select seq from span where span.scored_seq = scored.seq offset 0) score_span
"""
DELETE_ROWS = """
    delete from {table} using unnest(%s::integer[], %s::bigint[]) as gone(object_no, seq)
     where {table}.object_no = gone.object_no and {table}.seq = gone.seq
"""
CLEAR_COMPUTED = """
    update span_head set computed_scores = null, computed_by = null
      from unnest(%s::integer[], %s::bigint[]) as scored(object_no, seq)
     where span_head.object_no = scored.object_no and span_head.seq = scored.seq
       and span_head.computed_scores is not null
"""


def delete_rows(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    """Delete the heads and bodies of rows of one object. Rows that are gone are left out."""
    if seqs:
        for table in ("span_head", "span"):
            statement = DELETE_ROWS.format(table=table).encode()
            cursor.execute(statement, ([object_no] * len(seqs), list(seqs)))


def withdraw_scores(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    """Delete the rows' computed scores and score spans. Outcomes stay as history.

    The caller holds the rows' locks.
    """
    cursor.execute(SCORE_SPANS_OF, (list(seqs),))
    delete_rows(cursor, object_no, [seq for (seq,) in cursor.fetchall()])
    cursor.execute(CLEAR_COMPUTED, ([object_no] * len(seqs), list(seqs)))
