"""Writes score spans, and the scores in the heads of the rows that they are about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from spans.ids import RowSeq, Xact
from spans.json import Json
from spans.outcome import Errored, ScorerUse
from spans.score_span import score_span_context, score_span_id, score_span_span_id
from spans.scoring import Role
from store.postgres.copy import NULL, copy_lines, escaped, instant_cell, json_cell
from store.postgres.database import Cursor
from store.postgres.numbers import Numbers
from store.postgres.row_locks import lock_heads
from store.postgres.score_index import COPY_SCORES, changing_scores, entry_lines
from store.postgres.versions import draw_versions
from store.scoring.locked_rows import Locked, LockedRow, Run

SCORE_SPAN_COLUMNS = (
    "object_no", "has_base", "is_root", "scored_use", "seq", "id", "span_id", "root_span_id",
    "scored_seq", "scored_xact", "scored_version", "input", "context",
)
SCORE_HEAD_COLUMNS = (
    "object_no", "xact", "first_xact", "content_xact", "seq", "created", "computed_scores",
)
_SPAN_LIST, _HEAD_LIST = ", ".join(SCORE_SPAN_COLUMNS), ", ".join(SCORE_HEAD_COLUMNS)
COPY_SCORE_SPANS = f"copy span ({_SPAN_LIST}) from stdin"
COPY_SCORE_HEADS = f"copy span_head ({_HEAD_LIST}) from stdin"
STAGE_SCORE_SPANS = f"copy span_staged ({_SPAN_LIST}) from stdin"
STAGE_SCORE_HEADS = f"copy span_head_staged ({_HEAD_LIST}) from stdin"
TRACES = """
    select span.seq, root_span_id from unnest(%s::bigint[]) as asked(seq)
      join span on span.seq = asked.seq
"""
# By the scored row; and by id, since a client may have logged a row with the id of a score span
# that is not there: feedback on one that was withdrawn meanwhile.
OLD_SCORE_SPANS = """
    select scored.seq, score_span.scored_use, null, score_span.seq
      from unnest(%s::bigint[]) as scored(seq)
     cross join lateral (
       select scored_use, seq from span where span.scored_seq = scored.seq offset 0) score_span
    union all
    select null, null, asked.id, span.seq
      from unnest(%s::integer[], %s::text[]) as asked(object_no, id)
      join span on span.object_no = asked.object_no and span.id = asked.id
"""
# What a client wrote over a score span goes with the outcome that it was written about.
REPLACE_SCORE_SPANS = """
    update span
       set scored_seq = staged.scored_seq, scored_use = staged.scored_use,
           scored_xact = staged.scored_xact, scored_version = staged.scored_version,
           span_id = staged.span_id, root_span_id = staged.root_span_id,
           is_root = staged.is_root, input = staged.input, context = staged.context,
           created_by = null, span_parents = null, output = null,
           expected = null, error = null, logged_scores = null, metadata = null, metrics = null,
           tags = null, span_attributes = null, origin = null, facets = null,
           classifications = null, extra = null, scoring_state = null, has_base = true
      from span_staged staged
     where span.seq = staged.seq
"""
REPLACE_SCORE_HEADS = """
    update span_head
       set xact = staged.xact, content_xact = staged.content_xact, created = staged.created,
           computed_scores = staged.computed_scores, computed_by = null, deleted_at = null
      from span_head_staged staged
     where span_head.object_no = staged.object_no and span_head.seq = staged.seq
"""
# Texts of JSON in arrays: json_to_recordset takes three times as long to read them.
WRITE_COMPUTED = """
    update span_head set xact = %s, computed_scores = nullif(fresh.scores, '')::jsonb,
                         computed_by = nullif(fresh.by, '')::jsonb
      from unnest(%s::integer[], %s::bigint[], %s::text[], %s::text[])
           as fresh(object_no, seq, scores, by)
     where span_head.object_no = fresh.object_no and span_head.seq = fresh.seq
"""
# A job that is run again on a row keeps what it replaced first.
KEEP_REPLACED = """
    insert into replaced_score (subject_seq, job_no, name, score, by)
    select seq, job_no, name, score::jsonb, by::jsonb
      from unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[])
           as replaced(seq, job_no, name, score, by)
    on conflict (subject_seq, job_no, name) do nothing
"""


def write_scores(
    cursor: Cursor, numbers: Numbers, locked: Locked, written: Sequence[Run], *, is_new: bool
) -> None:
    """Write the score spans, and the scores of the rows, as one new version."""
    moved = _moved_traces(cursor, written)
    spans = [span for run in written for span in _shown(run, numbers, moved)]
    if not spans and not any(row.is_changed for row in locked.values()):
        return
    old = {} if is_new else _old_score_spans(cursor, numbers, spans)
    (xact,), seqs = draw_versions(cursor, 1, new_rows=len(spans))
    fresh: list[tuple[bytes, bytes]] = []
    replaced: list[tuple[bytes, bytes]] = []
    places: list[tuple[int, RowSeq]] = []
    entries: list[bytes] = []
    for one, seq in zip(spans, seqs, strict=True):
        present = old.get((one.scored_seq, one.use.slot)) if old else None
        if present is None:
            fresh.append(one.lines(seq, xact))
            entries += entry_lines(one.scores or {}, object_no=one.run.row.object_no, seq=seq)
        else:
            replaced.append(one.lines(present, xact))
            places.append((one.run.row.object_no, present))
    for scored_seq, row in locked.items():
        if row.is_changed and not row.loses_scores:
            entries += entry_lines(row.new_scores, object_no=row.object_no, seq=scored_seq)
    if entries:
        copy_lines(cursor, COPY_SCORES, entries)
    if fresh:
        copy_lines(cursor, COPY_SCORE_SPANS, [body for body, _ in fresh])
        copy_lines(cursor, COPY_SCORE_HEADS, [head for _, head in fresh])
    if replaced:
        copy_lines(cursor, STAGE_SCORE_SPANS, [body for body, _ in replaced])
        copy_lines(cursor, STAGE_SCORE_HEADS, [head for _, head in replaced])
        with changing_scores(cursor, places):
            cursor.execute(REPLACE_SCORE_HEADS)
            cursor.execute(REPLACE_SCORE_SPANS)
    _write_computed(cursor, locked, xact)


def _write_computed(cursor: Cursor, locked: Locked, xact: Xact) -> None:
    """Write the computed scores of the locked rows that changed, and set version `xact`.

    The entries of rows that only get new scores are written together with those of score spans.
    """
    fresh = [(seq, row) for seq, row in locked.items() if row.is_changed]
    if not fresh:
        return
    object_nos = [row.object_no for _, row in fresh]
    rescored = [(row.object_no, seq) for seq, row in fresh if row.loses_scores]
    with changing_scores(cursor, rescored):
        cursor.execute(
            WRITE_COMPUTED,
            (
                xact, object_nos, [seq for seq, _ in fresh],
                [_json_text(row.scores) for _, row in fresh],
                [_json_text(row.by) for _, row in fresh],
            ),
        )
    _keep_replaced(cursor, fresh)


def _keep_replaced(cursor: Cursor, rows: Iterable[tuple[RowSeq, LockedRow]]) -> None:
    """Keep the scores that re-score jobs replaced, for their reports and for undoing them."""
    kept = [
        (seq, one.job_no, one.name, orjson.dumps(one.score).decode(), _json_text(one.by))
        for seq, row in rows for one in row.replaced
    ]
    if kept:
        cursor.execute(KEEP_REPLACED, tuple(map(list, zip(*kept, strict=True))))


def _json_text(values: Mapping[str, object]) -> str:
    return orjson.dumps(values).decode() if values else ""


class _ScoreSpan(NamedTuple):
    """A score span that is to be written, in the trace of the row that it is about.

    `scores` are the values by name, None for a run that failed.
    """

    run: Run
    use: ScorerUse
    use_no: int
    root_span_id: str
    scores: dict[str, Json] | None

    @property
    def scored_seq(self) -> RowSeq:
        """The place of the row that it is about."""
        return self.run.execution.assignment.subject.seq

    @property
    def id(self) -> str:
        """The id of its row, if that is new."""
        return score_span_id(self.scored_seq, self.use)

    def lines(self, seq: RowSeq, xact: Xact) -> tuple[bytes, bytes]:
        """The lines of its body and of its head."""
        execution, row, names, _ = self.run
        subject, verdict = execution.assignment.subject, execution.verdict
        context = score_span_context(verdict)
        arguments = NULL
        if names is None and not isinstance(verdict, Errored):
            arguments = json_cell(verdict.result.arguments)
        body = b"%d\tt\tf\t%d\t%d\t%b\t%b\t%b\t%d\t%d\t%d\t%b\t%b\n" % (
            row.object_no, self.use_no, seq,
            self.id.encode(),
            score_span_span_id(subject.seq, self.use).encode(),
            escaped(self.root_span_id), subject.seq, subject.xact, subject.content_xact,
            arguments, NULL if context is None else json_cell(context),
        )
        head = b"%d\t%d\t%d\t%d\t%d\t%b\t%b\n" % (
            row.object_no, xact, xact, xact, seq, instant_cell(verdict.started_at),
            NULL if self.scores is None else json_cell(self.scores),
        )
        return body, head


def _moved_traces(cursor: Cursor, written: Iterable[Run]) -> dict[RowSeq, str]:
    """The traces (root span ids) of rows that were written since they were read.

    Such a write can move a row into another trace and leave its content alone, so that what was
    scored still holds. From now on the locks of the rows keep them where they are.
    """
    later = {
        subject.seq for execution, row, *_ in written
        for subject in [execution.assignment.subject] if row.xact != subject.xact
    }
    if not later:
        return {}
    cursor.execute(TRACES, (list(later),))
    return dict(cursor.fetchall())


def _shown(
    run: Run, numbers: Numbers, moved: Mapping[RowSeq, str]
) -> list[_ScoreSpan]:
    """Show the run's scores on its row. Returns the score spans to write."""
    if not run.is_current:
        return []
    assignment, verdict = run.execution.assignment, run.execution.verdict
    subject = assignment.subject
    root = moved.get(subject.seq, subject.root_span_id)
    scores: dict[str, Json] | None = None
    if not isinstance(verdict, Errored):
        scores = {score.name: score.value for score in verdict.result.scores}
    spans: list[_ScoreSpan] = []
    # The lead may be a job's, and a follower a rule's or an earlier job's. The follower's score
    # goes beneath the lead's, so that it is there once the job is rolled back.
    for asked in sorted(assignment.asked, key=lambda one: one.use.origin.generation):
        if asked.use.role is Role.LIVE:
            use_no = numbers.use_no(asked.use)
            run.row.show(asked.use, use_no, verdict, numbers)
            if not asked.skip_logging:
                spans.append(_ScoreSpan(run, asked.use, use_no, root, scores))
    return spans


def _old_score_spans(
    cursor: Cursor, numbers: Numbers, spans: Sequence[_ScoreSpan]
) -> dict[tuple[RowSeq, str], RowSeq]:
    """The rows that these score spans replace, by the scored row and the slot. Locks them.

    Those that are score spans stay so for the transaction: only the holder of a scored row's
    lock makes and deletes its score spans. But clients write over them.
    """
    if not spans:
        return {}
    cursor.execute(
        OLD_SCORE_SPANS,
        (
            list({one.scored_seq for one in spans}),
            [one.run.row.object_no for one in spans], [one.id for one in spans],
        ),
    )
    rows = cursor.fetchall()
    numbers.load_uses(use_no for _, use_no, _, _ in rows if use_no is not None)
    by_id = {row_id: seq for _, _, row_id, seq in rows if row_id is not None}
    found = {
        (one.scored_seq, one.use.slot): by_id[one.id] for one in spans if one.id in by_id
    } | {
        (scored_seq, numbers.use_of(use_no).slot): seq
        for scored_seq, use_no, _, seq in rows if scored_seq is not None
    }
    held = lock_heads(cursor, [
        (one.run.row.object_no, found[slot]) for one in spans
        for slot in [(one.scored_seq, one.use.slot)] if slot in found
    ])
    return {slot: seq for slot, seq in found.items() if seq in held}
