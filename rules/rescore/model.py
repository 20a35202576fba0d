"""A re-score job as values: which rows it scores, by which scorers, and what state it is in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from spans.errors import BadInput
from spans.ids import ProjectId, RuleId
from spans.json import JsonObject
from spans.outcome import RescoreOrigin, ScorerUse
from spans.row import ObjectRef
from spans.scoring import Role, ScorerRef
from spans.work import OutcomeRequest

SCORERS_MAX = 30
"""Scorers of one job: each is a bit of a 32-bit number that says which are wanted on a row."""


class JobState(StrEnum):
    """What a job does now."""

    PLANNED = "planned"          # its rows are being selected; none is scored yet
    RUNNING = "running"
    PAUSED = "paused"            # by a person, or after its probe
    CANCELLING = "cancelling"    # its pending outcomes are being closed
    CANCELLED = "cancelled"
    COMPLETED = "completed"      # every outcome is there
    FAILED = "failed"            # it cannot go on, and says why


ENDED = frozenset({JobState.CANCELLED, JobState.COMPLETED, JobState.FAILED})
"""States that a job does not leave."""


class Only(StrEnum):
    """Which rows a scorer of a job takes, by its outcomes on their present content."""

    MISSING = "missing"          # have no outcome of it, a pending one included
    ERRORED = "errored"          # their last outcome of the scorer is errored
    STALE = "stale"              # their last score is of another version of it


class PausedBy(StrEnum):
    """Why a job is paused."""

    HAND = "hand"
    PROBE = "probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScorer:
    """A scorer of a job at the version that scores every row of it.

    `queue` is where its runs wait, if they do not run while the job's rows are read. `label` is
    the name under which a function is shown.
    """

    scorer: ScorerRef
    queue: str
    label: str | None = None

    @property
    def shown_as(self) -> str:
        """The scorer's name as people see it."""
        return self.label or self.scorer.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows a job takes, the newest first: finished rows that no scorer made.

    `btql_filter` is the text of a filter; empty for all rows. `ids` are row ids, and exclude a
    filter. `created_from` is the first and `created_before` the first later time at which a row
    may have been created. `rule_id` is the rule whose target and filter count too; its
    sampling rate does not. `error_class` belongs to Only.ERRORED. `sampling_rate` is the share
    of traces, 0..1: the same traces of a project each time, and more with a higher rate.
    `records_max` is the most rows; None means all.
    """

    objects: tuple[ObjectRef, ...]
    ids: tuple[str, ...] | None = None
    btql_filter: str = ""
    rule_id: RuleId | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    only: Only | None = None
    error_class: str | None = None
    sampling_rate: float = 1.0
    records_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RescoreJob:
    """A stored job.

    `no` also is the generation of its scores: those of a later job replace those of an earlier
    one. `request` is what was asked for, as it is shown. `probe` is the number of rows after
    which the job pauses once. `max_per_second` counts rows; None means no limit. `failure` says
    why it failed. `restored` and `left_alone` count the rows of a rollback.
    """

    no: int
    id: UUID
    project_id: ProjectId
    state: JobState
    request: JsonObject
    selection: Selection
    scorers: tuple[JobScorer, ...]
    created: datetime
    created_by: str | None = None
    paused_by: PausedBy | None = None
    probe: int | None = None
    max_per_second: float | None = None
    selected_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failure: str | None = None
    rollback_at: datetime | None = None
    rolled_back_at: datetime | None = None
    restored: int = 0
    left_alone: int = 0

    @property
    def origin(self) -> RescoreOrigin:
        """The origin of the job's outcomes."""
        return RescoreOrigin(self.id, self.no)

    def requests(self) -> tuple[OutcomeRequest, ...]:
        """What the job asks for on a row on which all of its scorers are wanted."""
        return tuple(
            OutcomeRequest(
                use=ScorerUse(origin=self.origin, role=Role.LIVE, scorer=one.scorer),
                rules_revision=None, skip_logging=False,
            )
            for one in self.scorers
        )


class Action(StrEnum):
    """What a person may have a job do."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    ROLLBACK = "rollback"


def after(action: Action, job: RescoreJob) -> JobState:
    """The state of the job after the action. An action that was done already changes nothing.

    Raises BadInput if the job's state does not allow it. A rollback leaves the state alone.
    """
    match action, job.state:
        case Action.PAUSE, JobState.PLANNED | JobState.RUNNING | JobState.PAUSED:
            return JobState.PAUSED
        case Action.RESUME, JobState.PAUSED:
            return JobState.RUNNING if job.selected_at is not None else JobState.PLANNED
        case Action.RESUME, JobState.PLANNED | JobState.RUNNING:
            return job.state
        case Action.CANCEL, JobState.PLANNED | JobState.RUNNING | JobState.PAUSED:
            return JobState.CANCELLING
        case Action.CANCEL, JobState.CANCELLING | JobState.CANCELLED:
            return job.state
        case Action.ROLLBACK, state if state in ENDED:
            return state
        case Action.ROLLBACK, _:
            raise BadInput(f"the job is {job.state}: cancel it, or wait for its end, first")
        case _:
            raise BadInput(f"the job is {job.state}: it is too late to {action} it")
