"""What passes between deciding, scoring and recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from spans.ids import Xact
from spans.outcome import OutcomeKey, Verdict
from spans.row import RowKey, RowView
from spans.scoring import ScorerRef

DEATHS_MAX = 3
"""Workers that a claim may cost before it is poisoned."""

ColumnsOf = Callable[[ScorerRef], frozenset[str]]
"""The columns of a row that a scorer reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A stored row as rules and scorers see it.

    `view` has the API's columns, at least those that were asked for. `at_end` is how it was
    when it was put up for matching, if it has changed since: that is what filters see.
    `ended_at` is the client's `metrics.end`, unix seconds.
    """

    key: RowKey
    span_id: str
    root_span_id: str
    content_xact: Xact
    trigger_xact: Xact | None
    ended_at: float | None
    view: RowView
    at_end: RowView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRequest:
    """One outcome that an execution answers."""

    key: OutcomeKey
    rules_revision: int | None
    skip_logging: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One scorer to be run once on one row, for every outcome that asks for just that.

    `label` is how the scorer is shown where its name is no word: a function's.
    """

    subject: Subject
    scorer: ScorerRef
    asked: tuple[OutcomeRequest, ...]
    label: str | None = None

    @property
    def shown_as(self) -> str:
        """The scorer, for people."""
        return self.label or self.scorer.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """An assignment that has been run. `attempts` counts this run."""

    assignment: Assignment
    verdict: Verdict
    queue: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """An assignment left for a queue: not run yet."""

    assignment: Assignment
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnableClaim:
    """A pending assignment that this worker holds, until its lease runs out.

    `fence` (by the lead outcome's id) guards the result: who claims later raises it, and
    results under an older one are refused. `attempts` counts this one, `deaths` the workers
    that the assignment has cost.
    """

    lead: OutcomeKey
    fence: int
    attempts: int
    deaths: int
    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleClaim:
    """A claim with nothing to run: the row is gone, or has other content by now."""

    lead: OutcomeKey


Claim: TypeAlias = RunnableClaim | StaleClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A claim to be tried again: its last error, and when."""

    claim: RunnableClaim
    error_class: str
    message: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """A claimed outbox entry: the rows that one write put up for matching."""

    seq: int
    fence: int
    deaths: int
    xact: Xact
    row_ids: tuple[str, ...]
    rescored: bool
    created: datetime


def batch_size(full: int, deaths: int) -> int:
    """How many claims may run together with one that has cost `deaths` workers.

    The batch shrinks to its square root, then to one: a poisonous row is alone at its third
    and last try, whatever the size was at its first.
    """
    share: float = float(full) ** (1 - deaths / (DEATHS_MAX - 1))
    return max(1, round(share))
