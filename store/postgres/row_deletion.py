"""Deletes rows whole: body, head, and what hangs on them."""

from __future__ import annotations

from collections.abc import Sequence

from spans.ids import RowSeq
from store.postgres.database import Cursor

SCORE_SPANS_OF = """
    select span.seq from unnest(%s::bigint[]) as scored(seq)
      join span on span.scored_seq = scored.seq
"""


def delete_rows(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    """Delete the heads and bodies of rows of one object. Rows that are gone are left out."""
    if not seqs:
        return
    for table in ("span_head", "span"):
        cursor.execute(
            f"""delete from {table} using unnest(%s::bigint[]) as gone(seq)
                 where {table}.object_no = %s and {table}.seq = gone.seq""",
            (list(seqs), object_no),
        )


def withdraw_scores(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    """Delete the rows' computed scores and score spans. Outcomes stay as history.

    The caller holds the rows' locks.
    """
    cursor.execute(SCORE_SPANS_OF, (list(seqs),))
    delete_rows(cursor, object_no, [seq for (seq,) in cursor.fetchall()])
    cursor.execute(
        """update span_head set computed_scores = null, computed_by = null
             from unnest(%s::bigint[]) as scored(seq)
            where span_head.object_no = %s and span_head.seq = scored.seq
              and computed_scores is not null""",
        (list(seqs), object_no),
    )
