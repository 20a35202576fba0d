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

ADD_NUMBERS = """
    with object_added as (
      insert into object (project_id, object_type, object_id) values (%s, 'project_logs', %s)
      on conflict do nothing),
    use_added as (
      insert into scorer_use
             (origin_kind, origin_id, role, scorer_kind, scorer, scorer_version)
      values ('rule', %s, 'live', 'global', %s, %s) on conflict do nothing)
    select
"""
NUMBERS = """
    select object_no, use_no from object, scorer_use where project_id = %s and origin_id = %s
"""
INSERT_ROW = """
    with body as (
      insert into span (object_no, seq, id, has_base, span_id, root_span_id, is_root, input,
                        output, expected, metadata, metrics, span_attributes)
      values (%(object_no)s, nextval('span_seq'), %(id)s, true, %(span_id)s, %(root_span_id)s,
              true, %(input)s, %(output)s, %(expected)s, %(metadata)s, %(metrics)s,
              %(span_attributes)s)
      returning seq)
    insert into span_head
           (object_no, seq, xact, first_xact, content_xact, trigger_xact, created)
    select %(object_no)s, seq, %(xact)s, %(xact)s, %(xact)s, %(xact)s, now() from body
"""
LOAD = """
    select id, span_id, root_span_id, is_root, content_xact, input, output, expected, metadata,
           metrics, tags, span_attributes, scoring_state, span.seq, head.xact
      from span join span_head head using (object_no, seq)
     where object_no = %s and id = %s
"""
COLUMNS = (
    "id", "span_id", "root_span_id", "is_root", "content_xact", "input", "output", "expected",
    "metadata", "metrics", "tags", "span_attributes", "_async_scoring_state", "seq", "xact",
)
INSERT_OUTCOME = """
    insert into outcome (object_no, use_no, role, queue, rules_revision, state, arguments,
                         attempts, subject_seq, subject_version, scores, started_at,
                         finished_at, run_ms)
    values (%(object_no)s, %(use_no)s, 'live', 'match', 1, 'completed', 'output,expected', 1,
            %(seq)s, %(version)s, %(scores)s, %(started_at)s, now(), %(run_ms)s)
    on conflict do nothing
"""
INSERT_SCORE_SPAN = """
    with body as (
      insert into span (object_no, seq, id, has_base, span_id, root_span_id, is_root,
                        scored_use, scored_seq, scored_xact, scored_version)
      values (%(object_no)s, nextval('span_seq'), %(id)s, true, %(span_id)s, %(root_span_id)s,
              false, %(use_no)s, %(seq)s, %(row_xact)s, %(version)s)
      on conflict do nothing returning seq)
    insert into span_head
           (object_no, seq, xact, first_xact, content_xact, created, computed_scores)
    select %(object_no)s, seq, %(xact)s, %(xact)s, %(xact)s, %(created)s, %(scores)s from body
"""
MERGE_SCORE = """
    update span_head set computed_scores = coalesce(computed_scores, '{}') || %s,
                         computed_by = coalesce(computed_by, '{}') || %s,
                         xact = %s
     where object_no = %s and seq = %s
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
        object_no, use_no = numbers(project_id)
        loaded = cursor.execute(LOAD, (object_no, row_id)).fetchone()
        if loaded is None:
            return
        row: JsonObject = dict(zip(COLUMNS, loaded, strict=True))
        if not is_finished(row) or PLANNED.decide(row) is not Reason.SELECTED:
            return
        started_s = time.time()
        given = {"output": row["output"], "expected": row["expected"]}
        result = LEVENSHTEIN.eval(**given)
        _write(cursor, object_no, use_no, row, result.score, started_s)


def _write(
    cursor: psycopg.Cursor, object_no: int, use_no: int, row: JsonObject, value: float,
    started_s: float,
) -> None:
    span_id = uuid.uuid5(RULE, str(row["id"]))
    started_at = datetime.fromtimestamp(started_s, UTC)
    run_ms = (time.time() - started_s) * 1000
    shown = _json({SCORER: value})
    key = {
        "object_no": object_no, "use_no": use_no, "seq": row["seq"],
        "version": row["content_xact"],
    }
    scores = _json([{"name": SCORER, "score": value, "metadata": {}}])
    cursor.execute(
        INSERT_OUTCOME, {**key, "started_at": started_at, "run_ms": run_ms, "scores": scores}
    )
    (xact,) = cursor.execute("select nextval('xact_seq')").fetchone() or (0,)
    cursor.execute(
        INSERT_SCORE_SPAN,
        {
            **key, "id": str(span_id), "xact": xact, "span_id": span_id.hex[:16],
            "root_span_id": row["root_span_id"], "row_xact": row["xact"],
            "created": started_at, "scores": shown,
        },
    )
    by = {SCORER: {"use": use_no, "version": row["content_xact"], "generation": 0}}
    cursor.execute(MERGE_SCORE, (shown, _json(by), xact, object_no, row["seq"]))


def numbers(project_id: str) -> tuple[int, int]:
    """The numbers of the project's log and of our use of the scorer; kept by each thread."""
    known: dict[str, tuple[int, int]] = LOCAL.__dict__.setdefault("numbers", {})
    if project_id not in known:
        opened = connection()
        opened.execute(ADD_NUMBERS, (project_id, project_id, RULE, SCORER, VERSION))
        found = opened.execute(NUMBERS, (project_id, RULE)).fetchone()
        assert found is not None
        known[project_id] = (found[0], found[1])
    return known[project_id]


def insert_rows(opened: psycopg.Connection, project_id: str, rows: list[JsonObject]) -> None:
    """Store rows in one transaction."""
    with opened.transaction(), opened.cursor() as cursor:
        object_no, _ = numbers(project_id)
        (xact,) = cursor.execute("select nextval('xact_seq')").fetchone() or (0,)
        cursor.executemany(
            INSERT_ROW,
            [
                {
                    "object_no": object_no, "xact": xact,
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
