"""The baseline: the same job as one would first write it, one Celery task for each span.

The same tables, the same rule, the same scorer: a task loads its row, asks whether the rule
selects it, runs the scorer, and writes the outcome, the score span and the score on the row in
one commit. Nothing is made slow on purpose: a connection and a compiled rule per process,
prepared statements, orjson, ids in the messages, no result backend, no events, no log lines.

    celery -A benchmarks.naive worker          # the tasks
    uvicorn benchmarks.naive:http              # inserts what is posted, one task a row
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import UTC, datetime

import orjson
import psycopg
from autoevals import Levenshtein
from celery import Celery
from psycopg.types.json import set_json_dumps, set_json_loads
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.rows import FILTER
from rules.model import Rule, ScorerChoice
from rules.planning import plan
from spans.clock import system_clock
from spans.ids import ProjectId, RuleId
from spans.json import JsonObject
from spans.row import is_finished
from spans.scoring import Reason

DATABASE_URL, REDIS_URL = "NAIVE_DATABASE_URL", "NAIVE_REDIS_URL"
RULE = RuleId(uuid.UUID(int=1))
SCORER = "Levenshtein"
VERSION = "1"

INSERT_ROW = """
    insert into span (project_id, object_type, object_id, id, xact, content_xact,
                      trigger_xact, has_base, span_id, root_span_id, is_root, created, input,
                      output, expected, metadata, metrics, span_attributes)
    values (%(project_id)s, 'project_logs', %(project_id)s, %(id)s, %(xact)s, %(xact)s,
            %(xact)s, true, %(span_id)s, %(root_span_id)s, true, now(), %(input)s, %(output)s,
            %(expected)s, %(metadata)s, %(metrics)s, %(span_attributes)s)
"""
LOAD = """
    select id, span_id, root_span_id, is_root, content_xact, input, output, expected, metadata,
           metrics, tags, span_attributes, scoring_state
      from span
     where project_id = %s and object_type = 'project_logs' and object_id = %s and id = %s
"""
COLUMNS = (
    "id", "span_id", "root_span_id", "is_root", "content_xact", "input", "output", "expected",
    "metadata", "metrics", "tags", "span_attributes", "_async_scoring_state",
)
INSERT_OUTCOME = """
    insert into outcome (id, project_id, object_type, object_id, subject_kind, subject_id,
                         subject_version, origin_kind, origin_id, role, scorer_kind, scorer,
                         scorer_version, rules_revision, state, scores, queue, score_span_id,
                         attempts, started_at, finished_at, run_ms)
    values (%(id)s, %(project_id)s, 'project_logs', %(project_id)s, 'span', %(subject_id)s,
            %(version)s, 'rule', %(rule)s, 'live', 'global', %(scorer)s, %(scorer_version)s, 1,
            'completed', %(scores)s, 'match', %(score_span_id)s, 1, %(started_at)s, now(),
            %(run_ms)s)
    on conflict (id) do nothing
"""
INSERT_SCORE_SPAN = """
    insert into span (project_id, object_type, object_id, id, xact, content_xact, has_base,
                      span_id, root_span_id, span_parents, is_root, created, input, output,
                      logged_scores, metrics, span_attributes, context, origin)
    values (%(project_id)s, 'project_logs', %(project_id)s, %(id)s, %(xact)s, %(xact)s, true,
            %(span_id)s, %(root_span_id)s, %(span_parents)s, false, %(created)s, %(input)s,
            %(output)s, %(scores)s, %(metrics)s, %(span_attributes)s, %(context)s, %(origin)s)
    on conflict (project_id, object_type, object_id, id) do nothing
"""
MERGE_SCORE = """
    update span set computed_scores = coalesce(computed_scores, '{}') || %s,
                    computed_by = coalesce(computed_by, '{}') || %s,
                    xact = %s
     where project_id = %s and object_type = 'project_logs' and object_id = %s and id = %s
"""

set_json_loads(orjson.loads)
set_json_dumps(orjson.dumps)

app = Celery("naive", broker=os.environ.get(REDIS_URL))  # noqa: TID251 a process of its own
app.conf.update(
    task_ignore_result=True, task_serializer="json", accept_content=["json"],
    # The default of 4 has each process wait for the broker more often.
    worker_prefetch_multiplier=64,
)

LEVENSHTEIN = Levenshtein()
(PLANNED,) = plan(
    [
        Rule(
            id=RULE, project_id=ProjectId(uuid.UUID(int=0)), name="naive",
            created=datetime(2026, 1, 1, tzinfo=UTC), sampling_rate=1.0, btql_filter=FILTER,
            scorers=(ScorerChoice(kind="global", name=SCORER),), apply_to_root_span=True,
        )
    ],
    clock=system_clock,
)
LOCAL = threading.local()


def connection() -> psycopg.Connection:
    """This thread's connection; made at the first use, so never inherited by a fork."""
    if not hasattr(LOCAL, "connection"):
        LOCAL.connection = psycopg.connect(
            os.environ[DATABASE_URL],  # noqa: TID251 a process of its own
            prepare_threshold=1,
            # As Tallyard's own: else a plan that was made for an empty table is kept.
            options="-c plan_cache_mode=force_custom_plan",
        )
    opened: psycopg.Connection = LOCAL.connection
    return opened


@app.task(name="naive.score")
def score(project_id: str, row_id: str) -> None:
    """Score one row."""
    with connection().transaction(), connection().cursor() as cursor:
        loaded = cursor.execute(LOAD, (project_id, project_id, row_id)).fetchone()
        if loaded is None:
            return
        row: JsonObject = dict(zip(COLUMNS, loaded, strict=True))
        if not is_finished(row) or PLANNED.decide(row) is not Reason.SELECTED:
            return
        started_s = time.time()
        given = {"output": row["output"], "expected": row["expected"]}
        result = LEVENSHTEIN.eval(**given)
        _write(cursor, project_id, row, given, result.score, started_s)


def _write(
    cursor: psycopg.Cursor, project_id: str, row: JsonObject, given: JsonObject, value: float,
    started_s: float,
) -> None:
    outcome_id = uuid.uuid5(RULE, f"{row['id']} {row['content_xact']}")
    span_id = uuid.uuid5(RULE, str(row["id"]))
    started_at = datetime.fromtimestamp(started_s, UTC)
    ended_s = time.time()
    cursor.execute(
        INSERT_OUTCOME,
        {
            "id": outcome_id, "project_id": project_id, "subject_id": row["id"],
            "version": row["content_xact"], "rule": RULE, "scorer": SCORER,
            "scorer_version": VERSION, "started_at": started_at, "score_span_id": span_id,
            "run_ms": (ended_s - started_s) * 1000,
            "scores": _json([{"name": SCORER, "score": value, "metadata": {}}]),
        },
    )
    (xact,) = cursor.execute("select nextval('xact_seq')").fetchone() or (0,)
    cursor.execute(
        INSERT_SCORE_SPAN,
        {
            "project_id": project_id, "id": str(span_id), "xact": xact,
            "span_id": span_id.hex[:16], "root_span_id": row["root_span_id"],
            "span_parents": _json([row["span_id"]]), "created": started_at,
            "input": _json(given), "output": _json({"score": value}),
            "scores": _json({SCORER: value}),
            "metrics": _json({"start": started_s, "end": ended_s}),
            "span_attributes": _json({"name": SCORER, "type": "score", "purpose": "scorer"}),
            "context": _json({
                "rule_id": str(RULE), "outcome_id": str(outcome_id), "scorer": SCORER,
                "scorer_version": VERSION,
            }),
            "origin": _json({
                "object_type": "project_logs", "object_id": project_id, "id": row["id"],
                "_xact_id": str(row["content_xact"]),
            }),
        },
    )
    by = {SCORER: {"outcome": str(outcome_id), "rule": str(RULE), "scorer": SCORER}}
    cursor.execute(
        MERGE_SCORE,
        (_json({SCORER: value}), _json(by), xact, project_id, project_id, row["id"]),
    )


def insert_rows(opened: psycopg.Connection, project_id: str, rows: list[JsonObject]) -> None:
    """Store rows in one transaction."""
    with opened.transaction(), opened.cursor() as cursor:
        (xact,) = cursor.execute("select nextval('xact_seq')").fetchone() or (0,)
        cursor.executemany(
            INSERT_ROW,
            [
                {
                    "project_id": project_id, "xact": xact,
                    **{name: row[name] for name in ("id", "span_id", "root_span_id")},
                    **{
                        name: _json(row[name])
                        for name in (
                            "input", "output", "expected", "metadata", "metrics",
                            "span_attributes",
                        )
                    },
                }
                for row in rows
            ],
        )


def publish(project_id: str, rows: list[JsonObject]) -> None:
    """One task a row, over one connection to the broker."""
    with app.producer_pool.acquire(block=True) as producer:
        for row in rows:
            score.apply_async((project_id, row["id"]), producer=producer)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


async def logs(request: Request) -> Response:
    """Store what is posted and answer; a task for each row is published before that."""
    rows = orjson.loads(await request.body())["rows"]
    await run_in_threadpool(_store, rows)
    return Response(b"{}", media_type="application/json")


def _store(rows: list[JsonObject]) -> None:
    project_id = str(rows[0]["project_id"])
    insert_rows(connection(), project_id, rows)
    publish(project_id, rows)


http = Starlette(routes=[Route("/logs3", logs, methods=["POST"])])
