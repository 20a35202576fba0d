"""An outcome: what became of one span under one rule and one scorer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from spans.ids import OutcomeId, Xact, derived_id
from spans.row import ObjectRef
from spans.scoring import OriginKind, OutcomeState, Role, ScorerRef, ScoringResult

SPAN = "span"
POISONED = "poisoned"
"""The error class of a span that killed its worker each time it was tried."""


BUG = "bug"
"""The error class of a mistake of ours; the worker's log has its traceback."""


@dataclass(frozen=True, kw_only=True)
class OutcomeKey:
    """What there is exactly one outcome of.

    `subject_version` is the span's `content_xact`: other content is another subject.
    """

    object: ObjectRef
    subject_id: str
    subject_version: Xact
    origin_kind: OriginKind
    origin_id: UUID
    role: Role
    scorer: ScorerRef

    @cached_property
    def id(self) -> OutcomeId:
        """The outcome's id: the key itself, hashed, so that a repetition meets itself."""
        return OutcomeId(
            derived_id(
                self.object.object_id.hex, SPAN, self.subject_id,
                str(self.subject_version), self.origin_kind, self.origin_id.hex, self.role,
                self.scorer.kind, self.scorer.name, self.scorer.version,
            )
        )

    @cached_property
    def score_span_id(self) -> UUID:
        """The id of the score span: without versions, so that a new outcome replaces it."""
        return derived_id(
            self.object.object_id.hex, SPAN, self.subject_id, self.origin_kind,
            self.origin_id.hex, self.role, self.scorer.kind, self.scorer.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an outcome is errored."""

    error_class: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one execution of a scorer came to, for every outcome that shares it.

    Exactly one of `result` and `failure` is set. `run_ms` is the scorer's own time,
    `started_at` in unix seconds. `log` is what it wrote to stdout and stderr, if anything.
    """

    result: ScoringResult | None = None
    failure: Failure | None = None
    log: str | None = None
    started_at: float
    run_ms: float

    @property
    def state(self) -> OutcomeState:
        """Completed if there is any score, skipped if the scorer declined, else errored."""
        if self.result is None:
            return OutcomeState.ERRORED
        if any(score.value is not None for score in self.result.scores):
            return OutcomeState.COMPLETED
        return OutcomeState.SKIPPED
