"""An outcome: what became of one span under one origin and one scorer.

    origin    who asked for it: a rule, a re-score job, or a person
    verdict   how the scorer's run ended: scored, declined or errored
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias
from uuid import UUID

from spans.ids import OutcomeId, RuleId, Xact, derived_id
from spans.row import ObjectRef
from spans.scoring import NO_USAGE, OutcomeState, Role, Score, ScorerRef, ScoringResult, Usage

SPAN = "span"
"""The kind of subject that is scored; traces and groups will stand beside it."""

POISONED = "poisoned"
"""The error class of a span that killed its worker each time it was tried."""

BUG = "bug"
"""The error class of a bug in Tallyard. The worker's log has its traceback."""

CANCELLED = "cancelled"
"""The error class of a superseded outcome whose re-score job was cancelled, or failed, before
its turn."""


class OriginKind(StrEnum):
    """Who asked for an outcome."""

    RULE = "rule"
    RESCORE = "rescore"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class RuleOrigin:
    """An online rule selected the span."""

    kind: ClassVar[OriginKind] = OriginKind.RULE
    generation: ClassVar[int] = 0
    id: RuleId


@dataclass(frozen=True, slots=True)
class RescoreOrigin:
    """A re-score job took the span. A later `generation` of scores replaces an earlier one."""

    kind: ClassVar[OriginKind] = OriginKind.RESCORE
    id: UUID
    generation: int = 0


@dataclass(frozen=True, slots=True)
class ManualOrigin:
    """A person asked for this one span to be scored. `id` is the request's."""

    kind: ClassVar[OriginKind] = OriginKind.MANUAL
    generation: ClassVar[int] = 0
    id: UUID


Origin: TypeAlias = RuleOrigin | RescoreOrigin | ManualOrigin

ORIGIN_ID_NAMES = {
    OriginKind.RULE: "rule_id",
    OriginKind.RESCORE: "rescore_job_id",
    OriginKind.MANUAL: "request_id",
}
"""The name of the origin's id where an outcome is shown as JSON."""


def origin_of(kind: OriginKind, origin_id: UUID, generation: int = 0) -> Origin:
    """The origin that a stored outcome names. Only that of a re-score job has a generation."""
    match kind:
        case OriginKind.RULE:
            return RuleOrigin(RuleId(origin_id))
        case OriginKind.RESCORE:
            return RescoreOrigin(origin_id, generation)
        case OriginKind.MANUAL:
            return ManualOrigin(origin_id)


@dataclass(frozen=True, kw_only=True)
class ScorerUse:
    """A scorer, and who asks for it: what the outcomes of many spans have in common."""

    origin: Origin
    role: Role
    scorer: ScorerRef

    def __hash__(self) -> int:
        """The hash of the fields, computed once: batches look up thousands of uses."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.origin, self.role, self.scorer))

    @cached_property
    def slot(self) -> str:
        """16 hex digits that tell apart the uses whose score spans stand side by side on a row.

        All versions of a scorer share a slot, so that a new outcome replaces the score span of
        an older version.
        """
        return derived_id(
            self.origin.kind, self.origin.id.hex, self.role, self.scorer.kind, self.scorer.name
        ).hex[:16]


@dataclass(frozen=True, kw_only=True)
class OutcomeKey:
    """The key of an outcome: for each key there is exactly one.

    `subject_version` is the span's `content_xact`, so a span whose content changes gets new
    outcomes.
    """

    object: ObjectRef
    subject_id: str
    subject_version: Xact
    use: ScorerUse

    @property
    def origin(self) -> Origin:
        """Who asked for it."""
        return self.use.origin

    @property
    def role(self) -> Role:
        """What it is for."""
        return self.use.role

    @property
    def scorer(self) -> ScorerRef:
        """The scorer, at one version."""
        return self.use.scorer

    @cached_property
    def id(self) -> OutcomeId:
        """The outcome's id, a hash of the key: asking again gives the same id."""
        return OutcomeId(
            derived_id(
                self.object.object_id.hex, SPAN, self.subject_id,
                str(self.subject_version), self.origin.kind, self.origin.id.hex, self.role,
                self.scorer.kind, self.scorer.name, self.scorer.version,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an outcome is errored."""

    error_class: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The scorer gave at least one number.

    `started_at` is in unix seconds and `run_ms` is how long the scorer ran, in milliseconds.
    `log` is what it wrote to stdout and stderr. Declined and Errored have the same fields.
    """

    result: ScoringResult
    started_at: float
    run_ms: float
    log: str | None = None
    state: Literal[OutcomeState.COMPLETED] = OutcomeState.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The scorer ran and declined to judge: each of its scores has the value None."""

    result: ScoringResult
    started_at: float
    run_ms: float
    log: str | None = None
    state: Literal[OutcomeState.SKIPPED] = OutcomeState.SKIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class Errored:
    """The scorer gave no result, for the reason in `failure`. Its calls cost `usage`."""

    failure: Failure
    started_at: float
    run_ms: float
    log: str | None = None
    usage: Usage = NO_USAGE
    state: Literal[OutcomeState.ERRORED] = OutcomeState.ERRORED


Verdict: TypeAlias = Scored | Declined | Errored
"""How one execution of a scorer ended, for every outcome that shares it."""


def verdict_of(
    result: ScoringResult, *, started_at: float, run_ms: float, log: str | None = None
) -> Scored | Declined:
    """The verdict of a result: Scored if any of its scores is a number, else Declined."""
    for score in result.scores:
        if score.value is not None:
            return Scored(result=result, started_at=started_at, run_ms=run_ms, log=log)
    return Declined(result=result, started_at=started_at, run_ms=run_ms, log=log)


def verdict_usage(verdict: Verdict) -> Usage:
    """What the calls of the run cost."""
    return verdict.usage if isinstance(verdict, Errored) else verdict.result.usage


def verdict_scores(verdict: Verdict) -> tuple[Score, ...]:
    """The scores of a verdict, those with value None too. An errored one has none."""
    return () if isinstance(verdict, Errored) else verdict.result.scores
