"""Re-score jobs in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from fakes.memory.access import MemoryProjects

from flows.rescore.jobs import JobProgress, NewJob
from rules.model import Rule
from rules.rescore.condition import condition_of
from rules.rescore.estimate import PastOutcomes
from rules.rescore.model import (
    ENDED,
    Action,
    JobScorer,
    JobState,
    PausedBy,
    RescoreJob,
    Selection,
    after,
)
from rules.rescore.selection_count import SelectionCount
from spans.clock import Clock
from spans.errors import BadInput, NotFound
from spans.ids import OrgId, ProjectId
from spans.row import ObjectRef


@dataclass(slots=True)
class MemoryJobs:
    """Implements flows.rescore.jobs.JobStore."""

    projects: MemoryProjects
    clock: Clock
    jobs: dict[UUID, RescoreJob] = field(default_factory=dict)
    keys: dict[tuple[ProjectId, str], tuple[UUID, bytes]] = field(default_factory=dict)

    def make(self, new: NewJob) -> tuple[RescoreJob, bool]:
        key = (new.project_id, new.idempotency_key or "")
        if new.idempotency_key is not None:
            present = self.repeated(*key, new.request_hash)
            if present is not None:
                return present, False
        job = RescoreJob(
            no=len(self.jobs) + 1, id=new.id, project_id=new.project_id,
            state=JobState.PLANNED, request=new.request, selection=new.selection,
            scorers=new.scorers, created=self.clock(), created_by=new.created_by,
            probe=new.probe, max_per_second=new.max_per_second,
        )
        self.jobs[job.id] = job
        if new.idempotency_key is not None:
            self.keys[key] = job.id, new.request_hash
        return job, True

    def repeated(
        self, project_id: ProjectId, idempotency_key: str, request_hash: bytes
    ) -> RescoreJob | None:
        if (project_id, idempotency_key) not in self.keys:
            return None
        job_id, known = self.keys[project_id, idempotency_key]
        if known != request_hash:
            raise BadInput("the Idempotency-Key came with another request before")
        return self.jobs[job_id]

    def find(self, org_id: OrgId, job_id: UUID) -> RescoreJob | None:
        job = self.jobs.get(job_id)
        if job is None or self.projects.find_project(org_id, job.project_id) is None:
            return None
        return job

    def list(
        self, project_id: ProjectId, *, limit: int, before: UUID | None = None
    ) -> Sequence[RescoreJob]:
        newest = sorted(
            (job for job in self.jobs.values() if job.project_id == project_id),
            key=lambda job: -job.no,
        )
        if before is not None:
            newest = [job for job in newest if job.no < self.jobs[before].no]
        return newest[:limit]

    def act(self, job_id: UUID, action: Action) -> RescoreJob:
        job = self._job(job_id)
        state = after(action, job)
        is_paused = state is JobState.PAUSED
        goes_on = job.state is JobState.PAUSED and not is_paused
        rolls_back = action is Action.ROLLBACK and job.rollback_at is None
        job = replace(
            job, state=state,
            paused_by=(job.paused_by or PausedBy.HAND) if is_paused else None,
            probe=None if goes_on and job.paused_by is PausedBy.PROBE else job.probe,
            rollback_at=self.clock() if rolls_back else job.rollback_at,
        )
        self.jobs[job_id] = job
        return job

    def set_rate(self, job_id: UUID, max_per_second: float | None) -> RescoreJob:
        job = self._job(job_id)
        if job.state in {*ENDED, JobState.CANCELLING}:
            raise BadInput(f"the job is {job.state}: it has no rate any more")
        self.jobs[job_id] = replace(job, max_per_second=max_per_second)
        return self.jobs[job_id]

    def progress(self, job: RescoreJob) -> JobProgress:
        return JobProgress(records=0, outcomes=0)

    def _job(self, job_id: UUID) -> RescoreJob:
        if job_id not in self.jobs:
            raise NotFound("no such re-score job")
        return self.jobs[job_id]


@dataclass(slots=True)
class MemorySelectionCounter:
    """Implements flows.rescore.plan.SelectionCounter: every selection takes `counted`.

    `names` are those that the last count was asked for.
    """

    counted: SelectionCount
    names: Sequence[frozenset[str]] = ()

    def count(
        self, selection: Selection, scorers: Sequence[JobScorer], *,
        names: Sequence[frozenset[str]], rule: Rule | None, now: datetime, timeout_s: float,
    ) -> SelectionCount:
        condition_of(selection, rule)
        self.names = names
        return self.counted


@dataclass(slots=True)
class MemoryPastOutcomes:
    """Implements flows.rescore.plan.PastOutcomeSource, by the names of scorers."""

    by_name: dict[str, PastOutcomes] = field(default_factory=dict)

    def past(
        self, project_id: ProjectId, objects: Sequence[ObjectRef], scorers: Sequence[JobScorer]
    ) -> Sequence[PastOutcomes]:
        return [
            self.by_name.get(one.scorer.name, PastOutcomes(names=frozenset({one.shown_as})))
            for one in scorers
        ]
