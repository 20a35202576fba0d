"""The least that a backlog can cost: claim, score, COPY, in one loop in this process.

The same tables get the same rows as from Tallyard, one transaction for 500 spans. It matches no
filter, counts nothing, retries nothing, and holds no lease: what Tallyard does beside that is
the distance to it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, LiteralString

import orjson
import psycopg
from autoevals import Levenshtein

SPANS_EACH = 500
SCORER = "Levenshtein"

CLAIM: LiteralString = """
    with candidate as materialized (
      select seq, cardinality(row_seqs) as size from outbox
       where object_no = %s order by seq limit 50 for update skip locked),
    taken as (
      select seq from (select seq, sum(size) over (order by seq) - size as before
                         from candidate) sized where before < %s)
    select outbox.seq, row_seqs from outbox join taken using (seq)
"""
LOAD: LiteralString = """
    select row.* from unnest(%s::bigint[]) as wanted(seq) cross join lateral (
      select span.seq, span_id, root_span_id, head.xact, content_xact, output, expected
        from span join span_head head using (object_no, seq)
       where object_no = %s and span.seq = wanted.seq limit 1) row
"""
DRAW: LiteralString = """
    select nextval('xact_seq'), array(select nextval('span_seq') from generate_series(1, %s))
"""
COPY_OUTCOMES: LiteralString = """
    copy outcome (object_no, use_no, role, queue, rules_revision, state, arguments, attempts,
                  subject_seq, subject_version, scores, started_at, finished_at, run_ms)
    from stdin
"""
COPY_SPANS: LiteralString = """
    copy span (object_no, has_base, is_root, scored_use, seq, id, span_id, root_span_id,
               scored_seq, scored_xact, scored_version) from stdin
"""
COPY_HEADS: LiteralString = """
    copy span_head
         (object_no, xact, first_xact, content_xact, seq, created, computed_scores) from stdin
"""
SHOW: LiteralString = """
    update span_head set computed_scores = fresh.scores, computed_by = fresh.by, xact = %s
      from unnest(%s::bigint[], %s::jsonb[], %s::jsonb[]) as fresh(seq, scores, by)
     where object_no = %s and span_head.seq = fresh.seq
"""
CLOSE: LiteralString = """
    with closed as (delete from outbox where seq = any(%s) returning *)
    insert into match_record
           (xact, created, object_no, rules_revision, attempts, row_seqs, reasons)
    select xact, created, object_no, 1, 1, row_seqs, '' from closed
"""
NUMBERS: LiteralString = """
    with use as (
      insert into scorer_use
             (origin_kind, origin_id, role, scorer_kind, scorer, scorer_version)
      values ('rule', %s, 'live', 'global', %s, '1') returning use_no)
    select object_no, use_no from object, use where project_id = %s
"""


def drain(connection: psycopg.Connection, project_id: str, rule_id: str) -> None:
    """Score every waiting row of the project with the one rule that it has."""
    evaluate = Levenshtein().eval
    numbers = connection.execute(NUMBERS, (rule_id, SCORER, project_id)).fetchone()
    assert numbers is not None
    object_no, use_no = numbers
    with connection.cursor() as cursor:
        while True:
            with connection.transaction():
                entries = cursor.execute(CLAIM, (object_no, SPANS_EACH)).fetchall()
                if not entries:
                    return
                seqs = [seq for _, row_seqs in entries for seq in row_seqs]
                _score(cursor, evaluate, object_no, use_no, seqs)
                cursor.execute(CLOSE, ([seq for seq, _ in entries],))


def _score(
    cursor: psycopg.Cursor, evaluate: Callable[..., Any], object_no: int, use_no: int,
    seqs: list[int],
) -> None:
    loaded = cursor.execute(LOAD, (seqs, object_no)).fetchall()
    xact, new_seqs = cursor.execute(DRAW, (len(loaded),)).fetchone() or (0, [])
    outcomes, spans, heads, scores, by = [], [], [], [], []
    for row, new_seq in zip(loaded, new_seqs, strict=True):
        seq, _, root_span_id, row_xact, version, output, expected = row
        started_s = time.time()
        value = evaluate(output=output, expected=expected).score
        ended_s = time.time()
        started = datetime.fromtimestamp(started_s, UTC).isoformat()
        ended = datetime.fromtimestamp(ended_s, UTC).isoformat()
        shown = _json({SCORER: value})
        outcomes.append((
            object_no, use_no, "live", "match", 1, "completed", "output,expected", 1, seq,
            version, _json([{"name": SCORER, "score": value, "metadata": {}}]), started, ended,
            (ended_s - started_s) * 1000,
        ))
        row_id = uuid.UUID(int=(seq << 64) + use_no)
        spans.append((
            object_no, "t", "f", use_no, new_seq, row_id, f"{seq:08x}{use_no:08x}",
            root_span_id, seq, row_xact, version,
        ))
        heads.append((object_no, xact, xact, xact, new_seq, started, shown))
        scores.append(shown)
        by.append(_json({SCORER: {"use": use_no, "version": version, "generation": 0}}))
    _copy(cursor, COPY_OUTCOMES, outcomes)
    _copy(cursor, COPY_SPANS, spans)
    _copy(cursor, COPY_HEADS, heads)
    cursor.execute(SHOW, (xact, [row[0] for row in loaded], scores, by, object_no))


def _copy(
    cursor: psycopg.Cursor, statement: LiteralString, lines: Iterable[tuple[Any, ...]]
) -> None:
    """COPY rows whose cells hold no tab, no line end, and no backslash that is not ours."""
    text = "".join("\t".join(map(str, cells)) + "\n" for cells in lines)
    with cursor.copy(statement) as copy:
        copy.write(text.replace("\\", "\\\\"))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
