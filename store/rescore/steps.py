"""Reads the steps of re-score jobs, and writes what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock

from cachetools import LRUCache
from psycopg.errors import UniqueViolation

from flows.rescore.run import ActiveJob, JobSlice, WantedRow
from rules.model import Rule
from rules.rescore.model import ENDED, JobState, PausedBy, RescoreJob
from rules.rescore.pace import CLOSED_AT_ONCE, PENDING_MAX, Begin, Standing
from rules.rule_set import rule_from_json
from rules.wire import ONLINE
from scorers.functions.version import FUNCTION
from scorers.results import storable
from spans.clock import Clock
from spans.errors import BadInput
from spans.ids import RowSeq
from spans.row import ObjectRef
from spans.scoring import OutcomeState, ScorerRef
from spans.work import Deferred, Execution, Subject
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import ALIVE, OUTBOX
from store.postgres.row_views import read_subjects
from store.rescore.backlog import close_pending, hold_pending
from store.rescore.jobs import COLUMNS, job_of
from store.scoring.locked_rows import lock_rows
from store.scoring.record import record

JOBS_KEPT = 64
"""Jobs that a process keeps as they were made: reading a request of many ids takes a while."""

ENTRIES_LOOKED_AT = 100
"""Outbox entries of which one must be of a project that is there, for live work to wait. More
can only be those of deleted projects, until upkeep drops them."""

ACTIVE = f"""
    select job_no, state, rollback_at is not null and rolled_back_at is null
      from rescore_job
     where (state in ('{JobState.PLANNED}', '{JobState.RUNNING}', '{JobState.PAUSED}',
                      '{JobState.CANCELLING}')
            or rollback_at is not null and rolled_back_at is null)
       and (select deleted_at is null from project where project.id = rescore_job.project_id)
     order by job_no
"""
LIVE_WAITS = f"""
    select exists (
      select from (
        select object_no from outbox where {OUTBOX.free} order by seq
         limit {ENTRIES_LOOKED_AT}) entry
       where (select project.deleted_at is null
                from object join project on project.id = object.project_id
               where object.object_no = entry.object_no))
"""
STANDING = f"""
    select coalesce(step.records, 0) - job.next_row,
           case when probe is null then 0 else next_row + (
             select coalesce(sum(records), 0) from rescore_step before
              where before.job_no = job.job_no and before.step_no < job.next_step) end,
           (select count(*) from (
              select from outcome
               where outcome.job_no = job.job_no and outcome.state = %(pending)s
               limit {PENDING_MAX}) waiting),
           attempts, jsonb_array_length(scorers), probe, max_per_second::float8,
           extract(epoch from now() - paced_from)::float8, paced_records
      from rescore_job job
      left join rescore_step step on step.job_no = job.job_no and step.step_no = job.next_step
     where job.job_no = %(job_no)s and state = '{JobState.RUNNING}'
       and selected_at is not null
"""
RUNNER_S = 60.0
"""How long other processes leave a slice to the one that is at it, seconds, while it lives.
Slices of cheap scorers take a tenth of a second."""

CLAIM = f"""
    with claimed as (
      update rescore_job
         set attempts = attempts + 1, runner = %(runner)s,
             runner_until = now() + make_interval(secs => {RUNNER_S}),
             paced_from = coalesce(paced_from, now()) + make_interval(secs => %(skipped)s),
             paced_records = paced_records + %(rows)s
       where job_no = %(job_no)s and state = '{JobState.RUNNING}'
         and (runner is null or runner = %(runner)s or runner_until < now()
              or runner not in ({ALIVE}))
      returning job_no, next_step, next_row, attempts)
    select step.step_no, step.object_no, claimed.next_row, claimed.attempts,
           claimed.next_row + %(rows)s >= step.records,
           seqs[next_row + 1 : next_row + %(rows)s],
           versions[next_row + 1 : next_row + %(rows)s],
           wants[next_row + 1 : next_row + %(rows)s]
      from claimed
      join rescore_step step on step.job_no = claimed.job_no
       and step.step_no = claimed.next_step
"""
RULE = f"""
    select to_jsonb(rule) from project_score rule
     where id = %s and project_id = %s and score_type = '{ONLINE}'
"""
GONE = """
    select asked.id from unnest(%s::uuid[]) as asked(id)
     where not exists (
       select from function where function.id = asked.id and function.deleted_at is null)
"""
LOCK_STATE = """
    select state, next_step, next_row from rescore_job where job_no = %s for no key update
"""
MOVE_ON = """
    update rescore_job
       set attempts = 0, runner = null, next_step = next_step + %(steps)s,
           next_row = %(next_row)s,
           begun_outcomes = %(outcomes)s + case %(next_row)s::integer when 0 then 0
                                                         else begun_outcomes end
     where job_no = %(job_no)s
"""
END = """
    update rescore_job set state = %s, finished_at = now(), failure = %s where job_no = %s
"""
PAUSE = f"""
    update rescore_job set state = '{JobState.PAUSED}', paused_by = '{PausedBy.PROBE}'
     where job_no = %s
"""


class StoredSteps:
    """Implements flows.rescore.run.StepStore."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._jobs: LRUCache[int, RescoreJob] = LRUCache(JOBS_KEPT)
        self._lock = Lock()   # cachetools' caches are not thread-safe
        self._paused: set[int] = set()
        self._quiet: set[int] = set()

    def active(self) -> Sequence[ActiveJob]:
        with self._database.cursor() as cursor:
            cursor.execute(ACTIVE)
            found = [
                ActiveJob(no=no, state=JobState(state), is_rolled_back=is_rolled_back)
                for no, state, is_rolled_back in cursor
            ]
        self._paused = {one.no for one in found if one.state is JobState.PAUSED}
        self._quiet &= self._paused
        return [one for one in found if one.state is not JobState.PAUSED]

    def job(self, job_no: int) -> RescoreJob:
        with self._lock:
            known = self._jobs.get(job_no)
        if known is not None:
            return known
        with self._database.cursor() as cursor:
            cursor.execute(f"select {COLUMNS} from rescore_job where job_no = %s", (job_no,))
            row = cursor.fetchone()
        if row is None:
            raise KeyError(job_no)
        job = job_of(row, self._database.numbers)
        with self._lock:
            self._jobs[job_no] = job
        return job

    def rule(self, job: RescoreJob) -> Rule | None:
        """The rule whose rows the job takes; None if it names none. Raises BadInput if that
        rule has been deleted."""
        rule_id = job.selection.rule_id
        if rule_id is None:
            return None
        with self._database.cursor() as cursor:
            cursor.execute(RULE, (rule_id, job.project_id))
            row = cursor.fetchone()
        if row is None:
            raise BadInput(
                "the rule whose rows the job takes was deleted before they were selected"
            )
        return rule_from_json(row[0])

    def hold_stragglers(self) -> None:
        for job_no in sorted(self._paused - self._quiet):
            with self._database.cursor() as cursor:
                state, *_ = _locked(cursor, job_no)
                if state == JobState.PAUSED and not hold_pending(cursor, job_no):
                    self._quiet.add(job_no)   # no worker has any that could come back

    def is_live_waiting(self) -> bool:
        with self._database.cursor() as cursor:
            cursor.execute(LIVE_WAITS)
            return cursor.fetchone() == (True,)

    def standing(self, job_no: int) -> Standing | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                STANDING, {"job_no": job_no, "pending": OutcomeState.PENDING.value}
            )
            row = cursor.fetchone()
        if row is None:
            return None
        rows_left, begun, pending, attempts, scorers, probe, rate, paced_s, paced = row
        return Standing(
            rows_left=rows_left, begun=begun, pending=pending, attempts=attempts,
            scorers=scorers, probe=probe, max_per_second=rate, paced_s=paced_s,
            paced_records=paced,
        )

    def claim(self, job_no: int, begin: Begin) -> JobSlice | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                CLAIM,
                {
                    "job_no": job_no, "rows": begin.rows, "skipped": begin.skipped_s,
                    "runner": self._database.owner,
                },
            )
            row = cursor.fetchone()
        if row is None:
            return None
        step_no, object_no, first, attempts, is_last, seqs, versions, wants = row
        job = self.job(job_no)
        return JobSlice(
            job=job, step_no=step_no, first=first, attempts=attempts, is_last=is_last,
            where=self._database.numbers.object_of(object_no),
            rows=tuple(
                WantedRow(*row)
                for row in zip(seqs, versions, wants or [None] * len(seqs), strict=True)
            ),
            gone=self._gone(job),
        )

    def subjects(
        self, where: ObjectRef, row_seqs: Sequence[RowSeq], columns: frozenset[str]
    ) -> Mapping[RowSeq, Subject]:
        object_no = self._database.numbers.object_no(where)
        with self._database.cursor() as cursor:
            return read_subjects(cursor, where, object_no, row_seqs, columns)

    def record(
        self, one: JobSlice, executions: Sequence[Execution], deferred: Sequence[Deferred]
    ) -> bool:
        try:
            return self._record(one, executions, deferred, is_new=True)
        except UniqueViolation:
            # A row is in two steps, or a client has a row with the id of a score span.
            return self._record(one, executions, deferred, is_new=False)

    def _record(
        self, one: JobSlice, executions: Sequence[Execution], deferred: Sequence[Deferred], *,
        is_new: bool,
    ) -> bool:
        now = self._clock()
        counts = Counts()
        numbers = self._database.numbers
        work: tuple[Execution | Deferred, ...] = (*executions, *deferred)
        with self._database.cursor() as cursor:
            if _locked(cursor, one.job.no) != (JobState.RUNNING, one.step_no, one.first):
                return False
            locked = lock_rows(cursor, numbers, [done.assignment.subject for done in work])
            record(
                cursor, numbers, locked, executions, deferred, now=now, counts=counts,
                is_new=is_new,
            )
            cursor.execute(MOVE_ON, {
                "job_no": one.job.no, "steps": int(one.is_last),
                "next_row": 0 if one.is_last else one.first + len(one.rows),
                "outcomes": 0 if one.is_last else sum(
                    row.is_wanted(place)
                    for row in one.rows for place in range(len(one.job.scorers))
                ),
            })
            counts.write(cursor)
            return True

    def finish(self, job_no: int) -> None:
        self._end(job_no, JobState.COMPLETED, only_from=JobState.RUNNING)

    def pause_after_probe(self, job_no: int) -> None:
        with self._database.cursor() as cursor:
            state, *_ = _locked(cursor, job_no)
            if state == JobState.RUNNING:
                cursor.execute(PAUSE, (job_no,))

    def fail(self, job_no: int, why: str) -> None:
        """End the job and close its pending outcomes, some thousands, in one transaction.

        So no judge is paid for a job that nobody can cancel any more, and a rollback finds
        nothing that may still be scored.
        """
        with self._database.cursor() as cursor:
            state, *_ = _locked(cursor, job_no)
            if state in ENDED:
                return
            while close_pending(cursor, job_no, CLOSED_AT_ONCE):
                pass
            cursor.execute(END, (JobState.FAILED, storable(why), job_no))

    def close_some(self, job_no: int, limit: int) -> bool:
        with self._database.cursor() as cursor:
            state, *_ = _locked(cursor, job_no)
            if state == JobState.CANCELLING and close_pending(cursor, job_no, limit):
                return True
        self._end(job_no, JobState.CANCELLED, only_from=JobState.CANCELLING)
        return False

    def _end(self, job_no: int, state: JobState, *, only_from: JobState) -> None:
        with self._database.cursor() as cursor:
            present, *_ = _locked(cursor, job_no)
            if present == only_from:
                cursor.execute(END, (state, None, job_no))

    def _gone(self, job: RescoreJob) -> frozenset[ScorerRef]:
        """The job's functions that have been deleted since it was made."""
        named = {
            one.scorer.name: one.scorer for one in job.scorers if one.scorer.kind == FUNCTION
        }
        if not named:
            return frozenset()
        with self._database.cursor() as cursor:
            cursor.execute(GONE, (list(named),))
            return frozenset(named[str(function_id)] for (function_id,) in cursor)


def _locked(cursor: Cursor, job_no: int) -> tuple[str, int, int]:
    """The job's state, next step and next row, which stay until the transaction ends."""
    cursor.execute(LOCK_STATE, (job_no,))
    row = cursor.fetchone()
    return ("", 0, 0) if row is None else (row[0], row[1], row[2])
