"""Deletes rows that are past their retention time, and rows of deleted projects.

Each transaction deletes at most PIECE rows, so that none holds its locks for long. Match
records have a partition for each day, which is dropped whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from psycopg.errors import CheckViolation

from rules.budgets.model import SubjectKind
from spans.clock import Clock
from spans.ids import ObjectId, OrgId, ProjectId, RowSeq
from spans.row import ObjectRef, ObjectType
from store.logs.expiry import LogExpiry
from store.logs.fetch import START_HOURS
from store.postgres.database import Cursor, Database, follow_indexes
from store.postgres.row_deletion import delete_with_history

TOMBSTONE_DAYS = 1.0
"""How long a deleted row keeps its key, days: a merge that comes late leaves it deleted."""

FORMER_CONTENT_DAYS = 1.0
"""How long the former content of a row is kept though no score span shows it, days: a scorer
may have read it, and run so long."""

TOKEN_DAYS = 2.0
"""How long the tokens that scorers spent are kept, days. A budget is for one day (UTC), so the
day before is not needed any more; the second day is a margin."""

VERSION_TIME_DAYS = 2.0
"""How long it is kept when versions were stored, days. Looks at changes ask for it, mostly
within seconds. There is one mark a second, and two days are a margin for looks that lag."""

OF_OBJECT = ("outbox", "row_at_end", "former_content", "watched_row", "evaluation")
"""The tables whose rows are those of an object, besides its rows and match records."""

DELIVERY_DAYS = 30.0
"""How long deliveries are kept with their attempts, days. Those that are still to be sent, such
as those of paused automations, stay."""

EVALUATION_DAYS = 7.0
"""How long it is kept what looks at changed rows found for automations, days."""

JOB_DAYS = 90.0
"""How long a re-score job is kept after its end, days, with its steps and the scores that it
replaced. Until then it can be rolled back and reported. Its outcomes and scores stay."""

BUDGET_DAYS = 1.0
"""How long after it was made a budget is kept whose rule or job is not there, days. That of a
job is made before the job."""

BUDGET_USE_DAYS = 7
"""How many days it is kept what was spent of a daily budget: calls of the day before may still
be settled."""

STEPS_PIECE = 10
"""Steps of a job that one transaction deletes, with what was replaced on some 5000 rows."""

PIECE = 5000
"""The most rows that one transaction deletes."""

ROWS_PIECE = 1000
"""The most rows of a deleted project that one transaction deletes, each with its history."""

SLOW_EVERY_S = 3600.0
"""How often upkeep does what reads more rows than it deletes, seconds: it looks at every row
that is old, and at all former content."""

DAYS_AHEAD = 7
"""Days ahead for which match records have their partitions. If upkeep runs on no day of a
week, later records go to the partition `match_record_rest`, and are deleted from there."""

PARTITION_WAIT_S = 2.0
"""How long upkeep waits for the lock of a table of match records, seconds: matching waits
behind it. If it gets none, it tries again a minute later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind of row is kept: days, but minutes for `resend_minutes`.

    `resend_minutes` is how long a request is remembered whose later tries must be recognised.
    Without `log_days` logs are kept for ever.
    """

    log_days: float | None = None
    match_record_days: float
    rejected_row_days: float
    resend_minutes: float
    invocation_days: float
    judge_cache_days: float


# The condition stands there twice: a write may make a row anew while this waits for its lock,
# and PostgreSQL then looks at the outer one again.
DROP_TOMBSTONES = f"""
    with gone as (
      delete from span_head where ctid = any(array(
        select ctid from span_head
         where deleted_at < now() - make_interval(secs => %(age)s) limit {PIECE}))
         and deleted_at < now() - make_interval(secs => %(age)s)
      returning seq)
    delete from span using gone where span.seq = gone.seq
"""
DROP_DELIVERIES = f"""
    delete from delivery where ctid = any(array(
      select ctid from delivery
       where created < now() - make_interval(secs => %s) and state <> 'pending' limit {PIECE}))
"""
FORMER_CONTENT = f"""
    select created, seq, until_xact, ctid::text from former_content
     where created < now() - make_interval(secs => %s)
       and (created, seq, until_xact) > (%s, %s, %s)
     order by created, seq, until_xact limit {PIECE}
"""
# A score span shows the first content that ended after it was read.
DROP_UNSEEN_CONTENT = """
    delete from former_content where ctid = any(%s::tid[])
       and not exists (
         select from span where span.scored_seq = former_content.seq
            and span.scored_version is not null
            and span.scored_xact < former_content.until_xact
            and span.scored_xact >= coalesce((
              select max(earlier.until_xact) from former_content earlier
               where earlier.object_no = former_content.object_no
                 and earlier.seq = former_content.seq
                 and earlier.until_xact < former_content.until_xact), 0))
"""
OLD_JOBS = """
    select job_no from rescore_job
     where finished_at < now() - make_interval(secs => %s)
       and (rollback_at is null or rolled_back_at is not null)
"""
DROP_STEPS = f"""
    with gone as (
      delete from rescore_step
       where job_no = %(job_no)s and step_no = any(array(
         select step_no from rescore_step where job_no = %(job_no)s
          order by step_no limit {STEPS_PIECE}))
      returning seqs)
    delete from replaced_score
     using (select unnest(seqs) as seq from gone) row
     where replaced_score.subject_seq = row.seq and replaced_score.job_no = %(job_no)s
"""
# All budgets are looked at, by the index of their numbers.
DROP_BUDGETS = f"""
    delete from budget
     where budget_no > 0 and created < now() - make_interval(secs => %s)
       and (subject_kind = '{SubjectKind.JOB}'
            and not exists (select from rescore_job where rescore_job.id = subject_id)
            or subject_kind = '{SubjectKind.RULE}'
            and not exists (select from project_score where project_score.id = subject_id))
"""
DROP_BUDGET_USES = """
    delete from budget_use
     where day > '-infinity' and day < (now() at time zone 'utc')::date - %s::integer
"""
ANY_STEP = "select exists (select from rescore_step where job_no = %s)"
STEPS_OF_PROJECT = "job_no in (select job_no from rescore_job where project_id = %s)"
OBJECTS_OF = "select object_no, object_type, object_id from object where project_id = %s"
ROWS_OF = f"select seq from span_head where object_no = %s order by seq limit {ROWS_PIECE}"
DROP_MATCH_RECORDS_OF = f"""
    delete from match_record where object_no = %s and xact = any(array(
      select xact from match_record where object_no = %s limit {PIECE}))
"""
DAYS = """
    select child.relname from pg_inherits join pg_class child on child.oid = inhrelid
     where inhparent = 'match_record'::regclass
"""
HAS_RECORDS = """
    select exists (select from match_record_rest where matched_at >= %s and matched_at < %s)
"""


class Upkeep:
    """Deletes expired rows."""

    def __init__(
        self, database: Database, retention: Retention, clock: Clock, *,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self._seconds = seconds
        self._slow_at_s: float | None = None

    def drop_expired(self) -> int:
        """Delete all rows that are past their retention time, and those of deleted projects.

        Returns how many rows it deleted, without those of dropped partitions. Safe to repeat,
        and to run on several hosts at once.
        """
        keep = self._retention
        dropped = self._drop("match_record_rest", "matched_at", keep.match_record_days * 86400)
        dropped += self._repeat(DROP_TOMBSTONES, {"age": TOMBSTONE_DAYS * 86400})
        dropped += self._drop("rejected_row", "created", keep.rejected_row_days * 86400)
        dropped += self._drop("ingest_request", "created", keep.resend_minutes * 60)
        dropped += self._drop("invocation", "created", keep.invocation_days * 86400)
        dropped += self._drop("scorer_tokens", "day", TOKEN_DAYS * 86400)
        dropped += self._drop("fetch_start", "started_at", START_HOURS * 3600)
        dropped += self._drop("judge_answer", "created", keep.judge_cache_days * 86400)
        dropped += self._drop("evaluation", "until", EVALUATION_DAYS * 86400)
        dropped += self._repeat(DROP_DELIVERIES, (DELIVERY_DAYS * 86400,))
        dropped += self._drop("version_time", "last_at", VERSION_TIME_DAYS * 86400)
        self._drop_old_jobs()
        self._drop_budgets()
        dropped += self._drop_deleted_projects()
        dropped += self._drop_unused_bundles()
        if self._slow_at_s is None or self._seconds() - self._slow_at_s >= SLOW_EVERY_S:
            dropped += self._expire_logs()
            dropped += self._drop_unseen_content()
            self._slow_at_s = self._seconds()
        self._keep_days_of_match_records()
        return dropped

    def _drop(self, table: str, clock: str, age_s: float) -> int:
        return self._repeat(
            f"""delete from {table} where ctid = any(array(
                  select ctid from {table}
                   where {clock} < now() - make_interval(secs => %s) limit {PIECE}))""",
            (age_s,),
        )

    def _drop_old_jobs(self) -> None:
        """Delete re-score jobs that ended long ago, with their steps and replaced scores."""
        with self._database.cursor() as cursor:
            cursor.execute(OLD_JOBS, (JOB_DAYS * 86400,))
            old = [job_no for (job_no,) in cursor]
        for job_no in old:
            is_left = True
            while is_left:
                with self._database.cursor() as cursor:
                    cursor.execute(DROP_STEPS, {"job_no": job_no})
                    cursor.execute(ANY_STEP, (job_no,))
                    is_left = cursor.fetchone() == (True,)
            with self._database.cursor() as cursor:
                cursor.execute("delete from rescore_job where job_no = %s", (job_no,))

    def _drop_budgets(self) -> None:
        """Delete budgets without a rule or job, and what was spent of others on former days."""
        with self._database.cursor() as cursor:
            cursor.execute(DROP_BUDGETS, (BUDGET_DAYS * 86400,))
            cursor.execute(DROP_BUDGET_USES, (BUDGET_USE_DAYS,))

    # --- logs

    def _expire_logs(self) -> int:
        if self._retention.log_days is None:
            return 0
        before = self._clock() - timedelta(days=self._retention.log_days)
        with self._database.cursor() as cursor:
            cursor.execute(
                """select project_id, object_type, object_id from object
                    where object_type = 'project_logs'"""
            )
            objects = cursor.fetchall()
        expiry = LogExpiry(self._database)
        return sum(
            expiry.expire(_object_ref(*where), before, is_dry_run=False).rows
            for where in objects
        )

    def _drop_unseen_content(self) -> int:
        """Delete former content that no score span shows any more."""
        dropped = 0
        after: tuple[Any, ...] = (datetime.min.replace(tzinfo=UTC), 0, 0)
        while True:
            with self._database.cursor() as cursor:
                follow_indexes(cursor)
                cursor.execute(FORMER_CONTENT, (FORMER_CONTENT_DAYS * 86400, *after))
                found = cursor.fetchall()
                cursor.execute(DROP_UNSEEN_CONTENT, ([place for *_, place in found],))
                dropped += cursor.rowcount
            if len(found) < PIECE:
                return dropped
            after = found[-1][:3]

    # --- deleted projects

    def _drop_deleted_projects(self) -> int:
        with self._database.cursor() as cursor:
            cursor.execute("select id, org_id from project where deleted_at is not null")
            projects = cursor.fetchall()
        dropped = sum(self._drop_rows_of(project, org) for project, org in projects)
        if projects:
            self._drop_empty_projects()
        return dropped

    def _drop_rows_of(self, project_id: ProjectId, org_id: OrgId) -> int:
        with self._database.cursor() as cursor:
            cursor.execute(OBJECTS_OF, (project_id,))
            objects = cursor.fetchall()
        dropped = 0
        for object_no, object_type, object_id in objects:
            dropped += self._drop_rows(
                _object_ref(project_id, object_type, object_id), object_no
            )
            dropped += self._repeat(DROP_MATCH_RECORDS_OF, (object_no, object_no))
            for table in OF_OBJECT:
                dropped += self._drop_where(table, "object_no = %s", (object_no,))
        dropped += self._drop_where("rescore_step", STEPS_OF_PROJECT, (project_id,))
        for table in ("comment", "audit_entry"):
            dropped += self._drop_where(table, "project_id = %s", (project_id,))
        return dropped + self._drop_where(
            "rejected_row", "org_id = %s and project_id = %s", (org_id, project_id)
        )

    def _drop_rows(self, where: ObjectRef, object_no: int) -> int:
        dropped = 0
        while True:
            with self._database.cursor() as cursor:
                cursor.execute(ROWS_OF, (object_no,))
                seqs = [RowSeq(seq) for (seq,) in cursor]
                dropped += delete_with_history(cursor, where, object_no, seqs)
            if len(seqs) < ROWS_PIECE:
                return dropped

    def _drop_where(self, table: str, condition: str, values: tuple[object, ...]) -> int:
        return self._repeat(
            f"""delete from {table} where ctid = any(array(
                  select ctid from {table} where {condition} limit {PIECE}))""",
            values,
        )

    def _drop_empty_projects(self) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(
                """with gone as (
                     delete from project where deleted_at < now() - interval '1 day'
                        and not exists (
                          select from object
                           cross join lateral (
                             select from span_head
                              where span_head.object_no = object.object_no limit 1) head
                           where object.project_id = project.id)
                     returning id)
                   delete from object using gone where object.project_id = gone.id"""
            )

    def _drop_unused_bundles(self) -> int:
        """Delete bundles that no function uses a day after they were added."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """delete from bundle where created < now() - interval '1 day'
                      and not exists (
                        select from function_version where bundle_id = bundle.id)"""
            )
            return cursor.rowcount

    # --- the days of match records

    def _keep_days_of_match_records(self) -> None:
        """Make the partitions of the next days, and drop those past their retention time.

        A day that has records in `match_record_rest` already gets no partition.
        """
        today = self._clock().astimezone(UTC).date()
        oldest = (self._clock() - timedelta(days=self._retention.match_record_days)).date()
        with self._database.cursor() as cursor:
            present = _days(cursor)
        wanted = {today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)}
        for day in sorted(wanted - present):
            with suppress(CheckViolation), self._partition_change() as cursor:
                _add_day(cursor, day)
        for day in sorted(day for day in present if day < oldest):
            with self._partition_change() as cursor:
                cursor.execute(f"drop table if exists {_partition(day)}".encode())

    @contextmanager
    def _partition_change(self) -> Iterator[Cursor]:
        """A cursor in a transaction of its own, which no other host's change can meet."""
        with self._database.cursor() as cursor:
            cursor.execute(f"set local lock_timeout = '{PARTITION_WAIT_S:g}s'".encode())
            cursor.execute("lock table only match_record in share update exclusive mode")
            yield cursor

    def _repeat(
        self, statement: str, parameters: tuple[object, ...] | Mapping[str, object]
    ) -> int:
        dropped = 0
        while True:
            with self._database.cursor() as cursor:
                cursor.execute(statement.encode(), parameters)
                dropped += cursor.rowcount
                if cursor.rowcount < PIECE:
                    return dropped


def _object_ref(project_id: ProjectId, object_type: str, object_id: ObjectId) -> ObjectRef:
    return ObjectRef(project_id, ObjectType(object_type), object_id)


def _days(cursor: Cursor) -> set[date]:
    """The days that have a partition of match records."""
    cursor.execute(DAYS)
    names = [name.removeprefix("match_record_") for (name,) in cursor]
    return {
        datetime.strptime(name, "%Y%m%d").replace(tzinfo=UTC).date()
        for name in names if name.isdigit()
    }


def _add_day(cursor: Cursor, day: date) -> None:
    """Make the day's partition, unless it is there, or has records elsewhere already.

    Raises CheckViolation if the first such record comes just now.
    """
    first, last = (f"{each} 00:00+00" for each in (day, day + timedelta(days=1)))
    if day in _days(cursor):
        return
    cursor.execute(HAS_RECORDS, (first, last))
    if cursor.fetchone() == (True,):
        return
    # Matching goes on while a table is attached, but would wait for `create ... partition of`.
    cursor.execute(
        f"create table {_partition(day)} (like match_record including defaults)".encode()
    )
    cursor.execute(
        f"""alter table match_record attach partition {_partition(day)}
              for values from ('{first}') to ('{last}')""".encode()
    )


def _partition(day: date) -> str:
    return f"match_record_{day:%Y%m%d}"
