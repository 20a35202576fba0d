"""Deletes rows whole, and withdraws what was computed for rows."""

from __future__ import annotations

from collections.abc import Sequence

from spans.ids import RowSeq
from spans.row import ObjectRef
from store.postgres.database import Cursor
from store.postgres.row_locks import lock_heads
from store.postgres.score_index import changing_scores, delete_entries

SCORE_SPANS_OF = """
    select score_span.seq from unnest(%s::bigint[]) as scored(seq)
     cross join lateral (
       select seq from span where span.scored_seq = scored.seq offset 0) score_span
"""
# Each deletion names in arrays the whole key of what it deletes. In any other form, a plan that
# was made while the table was empty may read all rows of an object.
DELETE_HEADS = """
    delete from span_head using unnest(%s::integer[], %s::bigint[]) as gone(object_no, seq)
     where span_head.object_no = gone.object_no and span_head.seq = gone.seq
"""
DELETE_BODIES = """
    delete from span using unnest(%s::bigint[]) as gone(seq) where span.seq = gone.seq
"""
# In the order of the array, in which ingest and scoring lock them too.
LOCK_ROWS = """
    select head.trigger_xact, row.id from unnest(%s::bigint[]) as asked(seq)
     cross join lateral (
       select seq, trigger_xact from span_head
        where span_head.object_no = %s and span_head.seq = asked.seq for update) head
     cross join lateral (
       select id from span where span.seq = head.seq offset 0) row
"""
DELETE_OUTCOMES = """
    delete from outcome using unnest(%s::bigint[]) as gone(seq) where subject_seq = gone.seq
"""
DELETE_FORMER_CONTENT = """
    delete from former_content using unnest(%s::integer[], %s::bigint[]) as gone(object_no, seq)
     where former_content.object_no = gone.object_no and former_content.seq = gone.seq
"""
DELETE_WATCHED = """
    delete from watched_row using unnest(%s::integer[], %s::bigint[]) as gone(object_no, seq)
     where watched_row.object_no = gone.object_no and watched_row.seq = gone.seq
"""
DELETE_REPLACED = """
    delete from replaced_score using unnest(%s::bigint[]) as gone(seq)
     where replaced_score.subject_seq = gone.seq
"""
DELETE_ROWS_AT_END = """
    delete from row_at_end using unnest(%s::integer[], %s::bigint[]) as gone(object_no, xact)
     where row_at_end.object_no = gone.object_no and row_at_end.trigger_xact = gone.xact
       and row_at_end.seq = any(%s)
"""
DELETE_SAID = """
    delete from {table}
     using unnest(%s::uuid[], %s::uuid[], %s::text[]) as gone(project_id, object_id, id)
     where {table}.project_id = gone.project_id and {table}.object_id = gone.object_id
       and {table}.row_id = gone.id
"""
# A match record has the rows of one write. It goes with the last of them.
DELETE_MATCH_RECORDS = """
    delete from match_record using unnest(%s::integer[], %s::bigint[]) as gone(object_no, xact)
     where match_record.object_no = gone.object_no and match_record.xact = gone.xact
       and not exists (
         select from unnest(match_record.row_seqs) as kept(seq)
          cross join lateral (
            select from span_head
             where span_head.object_no = match_record.object_no and span_head.seq = kept.seq
            offset 0) row)
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
        # A client may be writing over a score span: its entries are those of that write then.
        lock_heads(cursor, [(object_no, seq) for seq in seqs])
        _delete_locked(cursor, object_no, seqs)


def delete_with_history(
    cursor: Cursor, where: ObjectRef, object_no: int, seqs: Sequence[RowSeq]
) -> int:
    """Delete rows of one object with their score spans and all that is kept of them.

    That is their outcomes, the scores that jobs replaced, former content, comments, audit
    entries, match records, and which automations they match. Returns how many rows went, with
    score spans. Safe to repeat.
    """
    if not seqs:
        return 0
    cursor.execute(LOCK_ROWS, (sorted(seqs), object_no))
    found = cursor.fetchall()
    # Only who holds a row's lock writes its score spans, so there are no more of them now.
    cursor.execute(SCORE_SPANS_OF, (list(seqs),))
    score_spans = sorted({seq for (seq,) in cursor} - set(seqs))
    cursor.execute(LOCK_ROWS, (score_spans, object_no))
    found += cursor.fetchall()
    gone = [*seqs, *score_spans]
    ids = [row_id for _, row_id in found]
    xacts = list({xact for xact, _ in found if xact is not None})
    cursor.execute(DELETE_OUTCOMES, (gone,))
    cursor.execute(DELETE_REPLACED, (gone,))
    cursor.execute(DELETE_FORMER_CONTENT, ([object_no] * len(gone), gone))
    cursor.execute(DELETE_WATCHED, ([object_no] * len(gone), gone))
    cursor.execute(DELETE_ROWS_AT_END, ([object_no] * len(xacts), xacts, gone))
    of_object = [where.project_id] * len(ids), [where.object_id] * len(ids)
    for table in ("comment", "audit_entry"):
        cursor.execute(DELETE_SAID.format(table=table).encode(), (*of_object, ids))
    _delete_locked(cursor, object_no, gone)
    cursor.execute(DELETE_MATCH_RECORDS, ([object_no] * len(xacts), xacts))
    return len(found)


def withdraw_scores(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    """Delete the rows' computed scores and score spans. Outcomes stay as history.

    The caller holds the rows' locks.
    """
    cursor.execute(SCORE_SPANS_OF, (list(seqs),))
    delete_rows(cursor, object_no, [seq for (seq,) in cursor.fetchall()])
    with changing_scores(cursor, [(object_no, seq) for seq in seqs]):
        cursor.execute(CLEAR_COMPUTED, ([object_no] * len(seqs), list(seqs)))


def _delete_locked(cursor: Cursor, object_no: int, seqs: Sequence[RowSeq]) -> None:
    delete_entries(cursor, object_no, seqs)
    cursor.execute(DELETE_HEADS, ([object_no] * len(seqs), list(seqs)))
    cursor.execute(DELETE_BODIES, (list(seqs),))
