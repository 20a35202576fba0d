"""`python -m benchmarks.selection`: what planning a re-score job takes, and selecting its rows.

A project's history is made as in `benchmarks/growth.py`. At each number of rows the rows of a
job are counted, beside hand-written SQL that counts the same, and selected. Rows are those that
a client logged; each has a score span, or two, beside it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import LiteralString

import psycopg

from benchmarks.contestants import ROWS_EACH, TWO_RULES, log_and_score
from benchmarks.history import history_of, prepare
from benchmarks.report import Report
from benchmarks.stack import Stack, running_stack
from flows.rescore.jobs import NewJob
from rules.rescore.model import JobScorer
from rules.rescore.wire import read_rescore, request_json, selection_of
from scorers import catalog
from scorers.catalog import GLOBAL
from spans.ids import ProjectId
from spans.json import JsonObject
from spans.queues import AUTOMATIONS, HEAVY
from spans.row import project_logs
from spans.scoring import ScorerRef
from store.postgres.database import Database
from store.rescore.jobs import StoredJobs
from store.rescore.selection import JobSelection

SIZES = "10k,200k"
UNITS = {"k": 1_000, "M": 1_000_000}
FIRST_SPANS = 5_000
"""Spans that Tallyard itself logs and scores; the history is made of copies of their rows."""

TIMES = 3
COUNT_MOST = 2.0
"""Time of a count, as a multiple of the bare count's."""

MEMORY_MOST = 1.2
"""The most memory of the process at the last size, as a multiple of that at the first."""

# Of the two rules' scorers the one that a tenth of the rows have.
SCORER = JobScorer(
    scorer=ScorerRef(kind=GLOBAL, name="ExactMatch", version=catalog.installed_version()),
    queue=HEAVY,
)

# What every job asks of a row, as one would write it by hand. PostgreSQL's planner is free.
BARE: LiteralString = """
    select count(*) from span_head head join span on span.seq = head.seq
     where head.object_no = (select object_no from object where project_id = %s)
       and head.deleted_at is null and has_base and scored_version is null
       and jsonb_typeof(metrics -> 'end') = 'number'
       and coalesce(span_attributes ->> 'purpose', '') <> 'scorer'
       and coalesce(span_attributes ->> 'type', '') <> 'score'
"""
FILTERED: LiteralString = BARE + " and metadata ->> 'user' = 'u13'"
MISSING: LiteralString = BARE + """
       and not exists (
         select from outcome join scorer_use using (use_no)
          where subject_seq = head.seq and subject_version = head.content_xact
            and outcome.role = 'live' and state <> 'superseded' and scorer_kind = 'global'
            and scorer = 'ExactMatch')
"""
ASKED: tuple[tuple[str, JsonObject, LiteralString], ...] = (
    ("all", {"filter": ""}, BARE),
    ("a filter", {"filter": "metadata.user = 'u13'"}, FILTERED),
    ("missing", {"filter": "", "only": "missing"}, MISSING),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTime:
    """Seconds of a bare count, a count and a selection, and how many rows each found.

    `bare_s` is with the planner's own choice, `indexed_s` with the settings of Tallyard's
    connections, under which the same SQL follows indexes on one core.
    """

    name: str
    rows: int
    bare_s: float
    indexed_s: float
    count_s: float
    select_s: float


def main() -> int:
    """Measure; the exit code is 0 also where a figure is missed: this is no test."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help=f"logged rows, as in {SIZES}")
    parser.add_argument("--times", type=int, default=TIMES, help="how often each is measured")
    given = parser.parse_args()
    sizes = [
        int(float(each.rstrip("kM")) * UNITS.get(each[-1], 1))
        for each in given.sizes.split(",")
    ]
    report = Report(say=lambda line: print(line, flush=True))
    with ExitStack() as opened:
        folder = Path(opened.enter_context(
            tempfile.TemporaryDirectory(prefix="tallyard-plan-", ignore_cleanup_errors=True)
        ))
        stack = opened.enter_context(running_stack(folder))
        _measure(stack, sizes, given.times, report)
    report.say(f"\nWritten to {report.finish('selection-')}")
    return 0


def _measure(stack: Stack, sizes: list[int], times: int, report: Report) -> None:
    prepare(stack.connect)
    project_id = stack.project("selection", rates=TWO_RULES)
    log_and_score(stack, project_id, FIRST_SPANS // ROWS_EACH * ROWS_EACH, seed=0)
    history = history_of(stack.connect, project_id)
    database = Database(stack.state.database_url)
    used: list[float] = []
    try:
        for size in sizes:
            history.grow_to(round(size * history.rows / FIRST_SPANS))
            for name, request, bare in ASKED:
                wanted = ProjectId(uuid.UUID(project_id))
                found = _time(stack, database, wanted, name, request, bare=bare, times=times)
                _tell(report, size, found, is_last=size == sizes[-1])
            used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            report.say(f"{size:>10,} logged rows: at most {used[-1]:.0f} MB")
    finally:
        database.close()
    report.hold("memory at most, x first", used[-1] / used[0], most=MEMORY_MOST)


def _time(
    stack: Stack, database: Database, project_id: ProjectId, name: str, request: JsonObject,
    *, bare: LiteralString, times: int,
) -> PlanTime:
    stored = request_json(read_rescore({"scorers": ["ExactMatch"], **request}))
    chosen = selection_of(stored, [project_logs(project_id)])
    selection = JobSelection(database)

    def bare_count() -> int:
        with stack.connect() as connection:
            return _one(connection, bare, project_id)

    def indexed_count() -> int:
        with database.cursor() as cursor:
            return _one(cursor.connection, bare, project_id)

    def count() -> int:
        return selection.count(
            chosen, [SCORER], names=[frozenset({"ExactMatch"})], rule=None,
            now=datetime.now(UTC), timeout_s=600,
        ).records

    def select() -> int:
        # The workers that select rows of jobs too.
        with stack.held(AUTOMATIONS):
            return select_alone()

    def select_alone() -> int:
        job, _ = StoredJobs(database).make(NewJob(
            id=uuid.uuid4(), project_id=project_id, request=stored, request_hash=b"",
            selection=chosen, scorers=(SCORER,), created_by=None,
        ))
        while selection.select_some(job, rule=None, now=datetime.now(UTC)):
            pass
        with stack.connect() as connection:
            selected = _one(
                connection,
                "select coalesce(sum(records), 0)::bigint from rescore_step where job_no = %s",
                job.no,
            )
            # So that no worker scores what was selected.
            connection.execute("delete from rescore_job where job_no = %s", (job.no,))
        return selected

    bare_rows, bare_s = _median_s(bare_count, times)
    _, indexed_s = _median_s(indexed_count, times)
    rows, count_s = _median_s(count, times)
    selected, select_s = _median_s(select, times)
    if not bare_rows == rows == selected:
        raise RuntimeError(f"{name}: {bare_rows} rows, {rows} counted, {selected} selected")
    return PlanTime(
        name=name, rows=rows, bare_s=bare_s, indexed_s=indexed_s, count_s=count_s,
        select_s=select_s,
    )


def _one(connection: psycopg.Connection, statement: LiteralString, value: object) -> int:
    found = connection.execute(statement, (value,)).fetchone()
    assert found is not None
    return int(found[0])


def _median_s(act: Callable[[], int], times: int) -> tuple[int, float]:
    """What was counted, and the median of the seconds that it took."""
    took, found = [], 0
    for _ in range(times):
        begin = time.monotonic()
        found = act()
        took.append(time.monotonic() - begin)
    return found, median(took)


def _tell(report: Report, size: int, found: PlanTime, *, is_last: bool) -> None:
    report.say(
        f"{size:>10,} logged rows, {found.name}: {found.rows:,} taken;"
        f" bare count {found.bare_s:.2f} s, by index {found.indexed_s:.2f} s,"
        f" count {found.count_s:.2f} s ({found.count_s / found.bare_s:.2f} x,"
        f" {found.count_s / found.indexed_s:.2f} x), selection {found.select_s:.2f} s"
        f" ({size / found.select_s:,.0f} rows/s looked at)"
    )
    if is_last:
        report.measured[f"plan, {found.name}"] = found
        report.hold(
            f"count of {found.name}, x bare", found.count_s / found.bare_s, most=COUNT_MOST
        )


if __name__ == "__main__":
    sys.exit(main())
