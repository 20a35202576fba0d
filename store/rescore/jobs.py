"""Reads and writes re-score jobs, and counts how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from flows.rescore.jobs import JobProgress, NewJob
from rules.rescore.model import (
    ENDED,
    Action,
    JobScorer,
    JobState,
    PausedBy,
    RescoreJob,
    after,
)
from rules.rescore.pace import CLOSED_AT_ONCE
from rules.rescore.wire import selection_of
from spans.errors import BadInput, Contended, NotFound
from spans.ids import OrgId, ProjectId
from spans.json import JsonObject
from spans.outcome import CANCELLED
from spans.queues import HELD
from spans.scoring import OutcomeState, ScorerRef
from store.postgres.database import Cursor, Database
from store.postgres.numbers import Numbers
from store.rescore.backlog import close_pending, hold_pending, release_pending

COLUMNS = """
    job_no, id, project_id, state, paused_by, request, scorers, object_nos, created, created_by,
    probe, max_per_second, selected_at, started_at, finished_at, failure, rollback_at,
    rolled_back_at, restored, left_alone
"""
INSERT = f"""
    insert into rescore_job (id, project_id, rule_id, state, request, scorers, object_nos,
                             created_by, idempotency_key, request_hash, probe, max_per_second)
    values (%s, %s, %s, '{JobState.PLANNED}', %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (project_id, idempotency_key) where idempotency_key is not null do nothing
    returning {COLUMNS}
"""
REPEATED = f"""
    select request_hash, {COLUMNS} from rescore_job
     where project_id = %s and idempotency_key = %s
"""
FIND = f"""
    select {COLUMNS} from rescore_job
     where id = %s and exists (
       select from project where project.id = rescore_job.project_id and project.org_id = %s
          and project.deleted_at is null)
"""
LIST = f"""
    select {COLUMNS} from rescore_job
     where project_id = %s
       and (%s::uuid is null
            or (created, job_no) < (select created, job_no from rescore_job where id = %s))
     order by created desc, job_no desc limit %s
"""
LOCK = f"select {COLUMNS} from rescore_job where id = %s for no key update"
# A job that goes on paces itself anew. Its probe is over if it was the probe that paused it.
SET_STATE = f"""
    update rescore_job
       set state = %(state)s, paused_by = %(paused_by)s,
           probe = case when %(ends_probe)s then null else probe end,
           runner = null,
           paced_from = case when %(resumes)s then null else paced_from end,
           paced_records = case when %(resumes)s then 0 else paced_records end,
           rollback_at = case when %(rolls_back)s then coalesce(rollback_at, now())
                              else rollback_at end
     where job_no = %(job_no)s
    returning {COLUMNS}
"""
SET_RATE = f"""
    update rescore_job set max_per_second = %s, paced_from = null, paced_records = 0
     where job_no = %s
    returning {COLUMNS}
"""
STEPS = """
    select coalesce(sum(records), 0), coalesce(sum(outcomes), 0),
           coalesce(sum(outcomes) filter (where step_no >= next_step), 0)
             - coalesce(max(begun_outcomes), 0)
      from rescore_step join rescore_job using (job_no)
     where job_no = %s
"""
STATES = """
    select state, case when state <> 'pending' then error_class end, count(*)
      from outcome where job_no = %s group by 1, 2
"""
HELD_BACK = f"""
    select count(*) from outcome
     where job_no = %s and state = '{OutcomeState.PENDING}' and queue like '{HELD}%%'
"""


class StoredJobs:
    """Implements flows.rescore.jobs.JobStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(self, new: NewJob) -> tuple[RescoreJob, bool]:
        """Store the job. Safe to repeat with an idempotency key: there is one job for each."""
        numbers = self._database.numbers
        object_nos = [numbers.object_no(where) for where in new.selection.objects]
        with self._database.cursor() as cursor:
            cursor.execute(
                INSERT,
                (
                    new.id, new.project_id, new.selection.rule_id,
                    orjson.dumps(new.request).decode(), scorers_json(new.scorers), object_nos,
                    new.created_by, new.idempotency_key, new.request_hash, new.probe,
                    new.max_per_second,
                ),
            )
            row = cursor.fetchone()
            if row is not None:
                return job_of(row, numbers), True
        key = new.idempotency_key or ""   # only a key that is there already keeps a job out
        present = self.repeated(new.project_id, key, new.request_hash)
        if present is None:
            raise Contended("another job with this Idempotency-Key was just deleted")
        return present, False

    def repeated(
        self, project_id: ProjectId, idempotency_key: str, request_hash: bytes
    ) -> RescoreJob | None:
        with self._database.cursor() as cursor:
            cursor.execute(REPEATED, (project_id, idempotency_key))
            row = cursor.fetchone()
        if row is None:
            return None
        if row[0] != request_hash:
            raise BadInput(
                "the Idempotency-Key came with another request before: send a new key"
            )
        return job_of(row[1:], self._database.numbers)

    def find(self, org_id: OrgId, job_id: UUID) -> RescoreJob | None:
        with self._database.cursor() as cursor:
            cursor.execute(FIND, (job_id, org_id))
            row = cursor.fetchone()
        return None if row is None else job_of(row, self._database.numbers)

    def list(
        self, project_id: ProjectId, *, limit: int, before: UUID | None = None
    ) -> Sequence[RescoreJob]:
        with self._database.cursor() as cursor:
            cursor.execute(LIST, (project_id, before, before, limit))
            rows = cursor.fetchall()
        return [job_of(row, self._database.numbers) for row in rows]

    def act(self, job_id: UUID, action: Action) -> RescoreJob:
        with self._database.cursor() as cursor:
            job = self._lock(cursor, job_id)
            state = after(action, job)
            is_paused = state is JobState.PAUSED
            resumes = job.state is JobState.PAUSED and not is_paused
            cursor.execute(SET_STATE, {
                "job_no": job.no, "state": state,
                "paused_by": (job.paused_by or PausedBy.HAND) if is_paused else None,
                "resumes": resumes,
                "ends_probe": resumes and job.paused_by is PausedBy.PROBE,
                "rolls_back": action is Action.ROLLBACK,
            })
            changed = self._changed(cursor)
            self._act_on_pending(cursor, job, state)
            return changed

    def _act_on_pending(self, cursor: Cursor, job: RescoreJob, state: JobState) -> None:
        """Hold back, release or close pending outcomes, as the job's new state asks for.

        What runs jobs closes the rest of those of a cancelled job.
        """
        if state is JobState.PAUSED:
            hold_pending(cursor, job.no)
        elif state is JobState.CANCELLING:
            close_pending(cursor, job.no, CLOSED_AT_ONCE)
        elif job.state is JobState.PAUSED:
            numbers = self._database.numbers
            release_pending(cursor, job.no, {
                numbers.use_no(request.use): one.queue
                for one, request in zip(job.scorers, job.requests(), strict=True)
            })

    def set_rate(self, job_id: UUID, max_per_second: float | None) -> RescoreJob:
        with self._database.cursor() as cursor:
            job = self._lock(cursor, job_id)
            if job.state in {*ENDED, JobState.CANCELLING}:
                raise BadInput(f"the job is {job.state}: it has no rate any more")
            cursor.execute(SET_RATE, (max_per_second, job.no))
            return self._changed(cursor)

    def progress(self, job: RescoreJob) -> JobProgress:
        with self._database.cursor() as cursor:
            cursor.execute(STEPS, (job.no,))
            records, outcomes, unreached = cursor.fetchone() or (0, 0, 0)
            cursor.execute(STATES, (job.no,))
            counted = cursor.fetchall()
            cursor.execute(HELD_BACK, (job.no,))
            (held,) = cursor.fetchone() or (0,)
        states: dict[str, int] = {}
        errors: dict[str, int] = {}
        cancelled = 0
        for state, error_class, count in counted:
            if state == OutcomeState.SUPERSEDED and error_class == CANCELLED:
                cancelled += count
                continue
            states[state] = states.get(state, 0) + count
            if state == OutcomeState.ERRORED:
                errors[error_class] = errors.get(error_class, 0) + count
        return JobProgress(
            records=int(records), outcomes=int(outcomes), states=states, errors=errors,
            cancelled=cancelled, held=held, unreached=int(unreached),
        )

    def _lock(self, cursor: Cursor, job_id: UUID) -> RescoreJob:
        cursor.execute(LOCK, (job_id,))
        row = cursor.fetchone()
        if row is None:
            raise NotFound("no such re-score job")
        return job_of(row, self._database.numbers)

    def _changed(self, cursor: Cursor) -> RescoreJob:
        row = cursor.fetchone()
        assert row is not None  # noqa: S101 its row is locked
        return job_of(row, self._database.numbers)


def scorers_json(scorers: Sequence[JobScorer]) -> str:
    """The scorers of a job as they are stored."""
    stored: list[JsonObject] = [
        {
            "kind": one.scorer.kind, "name": one.scorer.name, "version": one.scorer.version,
            "label": one.label, "queue": one.queue,
        }
        for one in scorers
    ]
    return orjson.dumps(stored).decode()


def job_of(row: Sequence[Any], numbers: Numbers) -> RescoreJob:
    """The job in a row of COLUMNS."""
    (
        no, job_id, project_id, state, paused_by, request, scorers, object_nos, created,
        created_by, probe, max_per_second, selected_at, started_at, finished_at, failure,
        rollback_at, rolled_back_at, restored, left_alone,
    ) = row
    return RescoreJob(
        no=no, id=job_id, project_id=ProjectId(project_id), state=JobState(state),
        paused_by=None if paused_by is None else PausedBy(paused_by), request=request,
        selection=selection_of(request, [numbers.object_of(each) for each in object_nos]),
        scorers=tuple(
            JobScorer(
                scorer=ScorerRef(kind=one["kind"], name=one["name"], version=one["version"]),
                queue=one["queue"], label=one["label"],
            )
            for one in scorers
        ),
        created=created, created_by=created_by, probe=probe, max_per_second=max_per_second,
        selected_at=selected_at, started_at=started_at, finished_at=finished_at,
        failure=failure, rollback_at=rollback_at, rolled_back_at=rolled_back_at,
        restored=restored, left_alone=left_alone,
    )
