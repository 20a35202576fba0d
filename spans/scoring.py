"""Scores, scorers, and what became of a span under a rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from spans.json import JsonObject

SCORE_TOLERANCE = 1e-9
"""How far beyond 0 or 1 a score may lie. An average of 1 000 perfect numbers is off by rounding
by some 1e-13; a score of another scale, such as 100 or 5, is off by far more."""


def within_0_and_1(value: float) -> float | None:
    """The score as it is stored, or None if it is none: NaN, or outside 0..1.

    What lies outside by no more than SCORE_TOLERANCE becomes 0 or 1.
    """
    if 0 <= value <= 1:
        return value
    if -SCORE_TOLERANCE <= value <= 1 + SCORE_TOLERANCE:
        return 0 if value < 0 else 1
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One scorer's verdict on one span.

    `value` lies in 0..1. None means the scorer declined to judge: it is stored and shown,
    and left out of averages. NaN is refused: JSON turns it into null and averages into zero.
    """

    name: str
    value: float | None
    metadata: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value is not None and not 0.0 <= self.value <= 1.0:  # NaN fails this too
            raise ValueError(f"score {self.name!r} is {self.value}, outside 0..1")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ScorerRef:
    """A scorer's name and version, by which it can be found again.

    `kind` is "global" (an autoevals scorer by name; its version is autoevals' own) or
    "function" (a scorer made by a user; its version is an `_xact_id`).
    """

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a scorer's LLM calls cost, in tokens as the judge counted them.

    `cached_tokens` are those of the prompt that the provider had cached. `cost` is an estimate
    in the currency of the prices that the operator gave; None if there are none. `is_cached`
    means that no call was made: the answer to an identical earlier call was used.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    model: str | None = None
    is_cached: bool = False


NO_USAGE = Usage()
"""That of a run which made no call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringResult:
    """What one run of a scorer gave.

    `scores` is never empty: a scorer that declines gives one Score with value None.
    `arguments` are those that the scorer was called with; they become the score span's `input`.
    `prompt` holds the messages {role, content} that a judge was sent, if the scorer has a
    prompt of its own.
    """

    scores: tuple[Score, ...]
    arguments: JsonObject
    prompt: tuple[JsonObject, ...] = ()
    usage: Usage = Usage()


class OutcomeState(StrEnum):
    """What became of one span under one rule and one scorer."""

    PENDING = "pending"          # not run yet, or to be tried again
    COMPLETED = "completed"      # has a score
    SKIPPED = "skipped"          # the scorer declined: its score is None
    ERRORED = "errored"          # its error class says why
    SUPERSEDED = "superseded"    # the content changed or the rule was deleted before it ran


class Role(StrEnum):
    """What an outcome is for. Only a live one writes scores on the row."""

    LIVE = "live"
    SHADOW = "shadow"
    PREVIEW = "preview"


class Reason(StrEnum):
    """What matching decided on one row and one rule, stored as a byte (`REASON_BYTES`)."""

    SELECTED = "selected"
    SAMPLED_OUT = "sampled_out"
    FILTER_FALSE = "filter_false"
    FILTER_NULL = "filter_null"
    WRONG_TARGET = "wrong_target"
    PAUSED = "paused"
    IS_SCORE_SPAN = "is_score_span"      # a scorer made the row: never scored again
    DISABLED = "scoring_disabled"        # `_async_scoring_state: {status: disabled}`
    SUPERSEDED = "superseded"            # a later write put the row up for matching again
    NOT_FINISHED = "not_finished"        # a later write removed `metrics.end`
    DELETED = "deleted"
    FILTER_ERROR = "filter_error"        # the filter no longer compiles: its author must act
    UNSUPPORTED_SCOPE = "unsupported_scope"
    POISONED = "poisoned"                # matching it killed its worker too often


REASON_BYTES: dict[Reason, bytes] = {
    Reason.SELECTED: b"s",
    Reason.SAMPLED_OUT: b"r",
    Reason.FILTER_FALSE: b"f",
    Reason.FILTER_NULL: b"n",
    Reason.WRONG_TARGET: b"t",
    Reason.PAUSED: b"p",
    Reason.IS_SCORE_SPAN: b"l",
    Reason.DISABLED: b"d",
    Reason.SUPERSEDED: b"v",
    Reason.NOT_FINISHED: b"u",
    Reason.DELETED: b"x",
    Reason.FILTER_ERROR: b"e",
    Reason.UNSUPPORTED_SCOPE: b"c",
    Reason.POISONED: b"k",
}
REASON_OF_BYTE: dict[int, Reason] = {code[0]: reason for reason, code in REASON_BYTES.items()}
