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
      select seq, cardinality(row_ids) as size from outbox
       where project_id = %s and matched_at is null order by seq limit 50
         for update skip locked),
    taken as (
      select seq from (select seq, sum(size) over (order by seq) - size as before
                         from candidate) sized where before < %s)
    select outbox.seq, row_ids from outbox join taken using (seq)
"""
LOAD: LiteralString = """
    select span.id, span_id, root_span_id, content_xact, output, expected
      from unnest(%(ids)s::text[]) as wanted(id) cross join lateral (
        select * from span
         where project_id = %(project)s and object_type = 'project_logs'
           and object_id = %(project)s and span.id = wanted.id) span
"""
COPY_OUTCOMES: LiteralString = """
    copy outcome (id, project_id, object_type, object_id, subject_kind, subject_id,
                  subject_version, origin_kind, origin_id, role, scorer_kind, scorer,
                  scorer_version, rules_revision, state, scores, queue, score_span_id, attempts,
                  started_at, finished_at, run_ms) from stdin
"""
COPY_SPANS: LiteralString = """
    copy span (project_id, object_type, object_id, id, xact, content_xact, has_base, span_id,
               root_span_id, span_parents, is_root, created, input, output, logged_scores,
               metrics, span_attributes, context, origin) from stdin
"""
SHOW: LiteralString = """
    update span set computed_scores = fresh.scores, computed_by = fresh.by, xact = %(xact)s
      from unnest(%(ids)s::text[], %(scores)s::jsonb[], %(by)s::jsonb[])
           as fresh(id, scores, by)
     where project_id = %(project)s and object_type = 'project_logs'
       and object_id = %(project)s and span.id = fresh.id
"""
CLOSE: LiteralString = """
    update outbox set matched_at = now(), rules_revision = 1, reasons = '' where seq = any(%s)
"""


def drain(connection: psycopg.Connection, project_id: str, rule_id: str) -> None:
    """Score every waiting row of the project with the one rule that it has."""
    evaluate = Levenshtein().eval
    with connection.cursor() as cursor:
        while True:
            with connection.transaction():
                entries = cursor.execute(CLAIM, (project_id, SPANS_EACH)).fetchall()
                if not entries:
                    return
                ids = [row_id for _, row_ids in entries for row_id in row_ids]
                _score(cursor, evaluate, project_id, rule_id, ids)
                cursor.execute(CLOSE, ([seq for seq, _ in entries],))


def _score(
    cursor: psycopg.Cursor, evaluate: Callable[..., Any], project_id: str, rule_id: str,
    ids: list[str],
) -> None:
    loaded = cursor.execute(LOAD, {"ids": ids, "project": project_id}).fetchall()
    (xact,) = cursor.execute("select nextval('xact_seq')").fetchone() or (0,)
    outcomes, spans, scores, by = [], [], [], []
    rule = uuid.UUID(rule_id)
    for row_id, span_id, root_span_id, version, output, expected in loaded:
        started_s = time.time()
        value = evaluate(output=output, expected=expected).score
        ended_s = time.time()
        outcome_id = uuid.uuid5(rule, f"{row_id} {version}").hex
        score_span_id = str(uuid.uuid5(rule, row_id))
        started = datetime.fromtimestamp(started_s, UTC).isoformat()
        ended = datetime.fromtimestamp(ended_s, UTC).isoformat()
        outcomes.append((
            outcome_id, project_id, "project_logs", project_id, "span", row_id, version,
            "rule", rule_id, "live", "global", SCORER, "1", 1, "completed",
            _json([{"name": SCORER, "score": value, "metadata": {}}]), "match", score_span_id,
            1, started, ended, (ended_s - started_s) * 1000,
        ))
        spans.append((
            project_id, "project_logs", project_id, score_span_id, xact, xact, "t",
            score_span_id.replace("-", "")[:16], root_span_id, _json([span_id]), "f", started,
            _json({"output": output, "expected": expected}), _json({"score": value}),
            _json({SCORER: value}), _json({"start": started_s, "end": ended_s}),
            _json({"name": SCORER, "type": "score", "purpose": "scorer"}),
            _json({
                "rule_id": rule_id, "outcome_id": outcome_id, "scorer": SCORER,
                "scorer_version": "1",
            }),
            _json({
                "object_type": "project_logs", "object_id": project_id, "id": row_id,
                "_xact_id": str(version),
            }),
        ))
        scores.append(_json({SCORER: value}))
        by.append(_json({
            SCORER: {
                "outcome": outcome_id, "rule": rule_id, "scorer": SCORER, "generation": 0,
            },
        }))
    _copy(cursor, COPY_OUTCOMES, outcomes)
    _copy(cursor, COPY_SPANS, spans)
    found = [row[0] for row in loaded]
    cursor.execute(
        SHOW, {"ids": found, "scores": scores, "by": by, "xact": xact, "project": project_id}
    )


def _copy(
    cursor: psycopg.Cursor, statement: LiteralString, lines: Iterable[tuple[Any, ...]]
) -> None:
    """COPY rows whose cells hold no tab, no line end, and no backslash that is not ours."""
    text = "".join("\t".join(map(str, cells)) + "\n" for cells in lines)
    with cursor.copy(statement) as copy:
        copy.write(text.replace("\\", "\\\\"))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
