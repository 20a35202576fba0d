"""What the use cases of re-score jobs, and what runs them, need of stored jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from rules.rescore.model import Action, JobScorer, RescoreJob, Selection
from spans.ids import OrgId, ProjectId
from spans.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is to be stored.

    `idempotency_key` is the client's, if it sent one. `request_hash` tells whether a repeated
    key came with the same request.
    """

    id: UUID
    project_id: ProjectId
    request: JsonObject
    request_hash: bytes
    selection: Selection
    scorers: tuple[JobScorer, ...]
    created_by: str | None
    idempotency_key: str | None = None
    probe: int | None = None
    max_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is, counted from its steps and outcomes.

    `records` are the rows that are selected so far, `outcomes` what is wanted on them: one for
    each row and scorer. `states` counts the outcomes that exist by state, where `superseded`
    leaves out those that were closed when the job was cancelled, or failed: these are
    `cancelled`.
    `errors` counts the errored ones by error class. `held` are those of the pending ones that
    no worker may take now, since the job is paused, an endpoint is down or a budget is spent.
    `unreached` are those of steps that have not begun. What else is wanted and has no outcome
    was deleted with its row.
    """

    records: int = 0
    outcomes: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    cancelled: int = 0
    held: int = 0
    unreached: int = 0


class JobStore(Protocol):
    """Where jobs are kept."""

    def make(self, new: NewJob) -> tuple[RescoreJob, bool]:
        """Stores a job in the state `planned`. Returns it, and whether it is new.

        A job of the project with the same idempotency key is returned as it is. Raises BadInput
        if that one was asked for by another request.
        """
        ...

    def repeated(
        self, project_id: ProjectId, idempotency_key: str, request_hash: bytes
    ) -> RescoreJob | None:
        """The project's job that was made with this key; None if there is none.

        Raises BadInput if that one was asked for by another request.
        """
        ...

    def find(self, org_id: OrgId, job_id: UUID) -> RescoreJob | None:
        """The job, if a project of the organisation has it."""
        ...

    def list(
        self, project_id: ProjectId, *, limit: int, before: UUID | None = None
    ) -> Sequence[RescoreJob]:
        """The project's jobs, newest first: those that were made before the job `before`."""
        ...

    def act(self, job_id: UUID, action: Action) -> RescoreJob:
        """Brings the job into the state `after(action, job)`, under its lock, and returns it.

        Pausing keeps its pending outcomes from being claimed, resuming releases them;
        cancelling closes some, and what runs jobs closes the rest. A rollback begins. Raises
        what `after` raises, and NotFound. Safe to repeat.
        """
        ...

    def set_rate(self, job_id: UUID, max_per_second: float | None) -> RescoreJob:
        """Sets the most rows a second, from now on."""
        ...

    def progress(self, job: RescoreJob) -> JobProgress:
        """Counts the job's steps and outcomes."""
        ...
