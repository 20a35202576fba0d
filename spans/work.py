"""What passes between matching, scoring and recording: requests, assignments and claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias

from spans.ids import RowSeq, Xact
from spans.outcome import Failure, OutcomeKey, ScorerUse, Verdict
from spans.row import RowKey, RowView
from spans.scoring import ScorerRef

DEATHS_MAX = 3
"""How many workers may die while they hold a claim, before it is poisoned."""

BULK_TURN = 16
"""Every claim of this number takes bulk before live outcomes, so that steady live work cannot
hold bulk work up for ever: bulk gets a sixteenth of the claims."""

ColumnsOf = Callable[[ScorerRef], frozenset[str]]
"""The columns of a row that a scorer reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A stored row as rules and scorers see it.

    `view` has at least the columns that were asked for, in the API's form. `at_end` is the row
    as it was when it was queued for matching, if it has changed since; filters see that one.
    `xact` is the version that was read. `has_base` is False while only merges of the row have
    come. `ended_at` is the client's `metrics.end`, in unix
    seconds.
    """

    key: RowKey
    seq: RowSeq
    span_id: str
    root_span_id: str
    xact: Xact
    content_xact: Xact
    trigger_xact: Xact | None
    has_base: bool
    ended_at: float | None
    view: RowView
    at_end: RowView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRequest:
    """A request for an outcome of one scorer.

    A rule asks the same on all spans that it selects, so they share one request.
    """

    use: ScorerUse
    rules_revision: int | None
    skip_logging: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One scorer to be run once on one row, for every outcome that asks for that.

    `label` is the name under which a function is shown; its name as a scorer is its id.
    """

    subject: Subject
    scorer: ScorerRef
    asked: tuple[OutcomeRequest, ...]
    label: str | None = None

    @property
    def shown_as(self) -> str:
        """The scorer's name as people see it."""
        return self.label or self.scorer.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """An assignment that has been run. `attempts` counts this run."""

    assignment: Assignment
    verdict: Verdict
    queue: str
    attempts: int


class Priority(IntEnum):
    """Which outcomes of a queue are claimed first: those of the lower value."""

    LIVE = 0
    """Of spans that have just finished."""

    BULK = 1
    """Of stored spans that somebody has scored, perhaps millions at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """An assignment that is left for a queue and has not been run."""

    assignment: Assignment
    queue: str
    priority: Priority = Priority.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnableClaim:
    """A pending assignment that this worker holds until its lease ends.

    Outcomes that ask for the same scorer on the same content share one run. One of them is the
    lead: it is claimed for all of them, and `lead` is its key.

    Every claim of the lead raises its `fence`, and a result counts only under the newest fence.
    So a worker that lost its lease, and finishes late, changes nothing: its result is dropped.

    `attempts` counts this claim too. `deaths` counts the workers that died holding it.
    `failing_s` is how many seconds ago it first met a transient error, its own or that its
    endpoint was down; 0 if it never did. `last_failure` is its own last transient error.
    """

    lead: OutcomeKey
    fence: int
    attempts: int
    deaths: int
    assignment: Assignment
    failing_s: float = 0.0
    last_failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleClaim:
    """A claim with nothing to run: the row was deleted, or its content has changed.

    `subject_seq` is the row's place in the order of arrival.
    """

    lead: OutcomeKey
    subject_seq: RowSeq


Claim: TypeAlias = RunnableClaim | StaleClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A claim that is to be tried again after `wait_s` seconds, and its last error."""

    claim: RunnableClaim
    error_class: str
    message: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A claim that no call was made for, because the circuit of its endpoint is open.

    It waits in the held queue of `endpoint` until the circuit closes, but at most `wait_s`
    seconds: then it has been tried for long enough.
    """

    claim: RunnableClaim
    endpoint: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetHold:
    """A claim whose next call a budget does not allow, for this `reason`.

    It waits in the held queues of the budget until there is room. Calls that it made before
    stay spent; its run begins anew.
    """

    claim: RunnableClaim
    budget_no: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOff:
    """A claim that was not run, since its endpoint had no place for it.

    It is claimed again after `wait_s` seconds.
    """

    claim: RunnableClaim
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """A claimed outbox entry: the rows (`row_seqs`) that one write queued for matching."""

    seq: int
    fence: int
    deaths: int
    xact: Xact
    row_seqs: tuple[RowSeq, ...]
    rescored: bool
    created: datetime


def claim_order(claims: int) -> list[Priority]:
    """The priorities in the order in which a process takes them at its claim of this number."""
    return sorted(Priority, reverse=claims % BULK_TURN == 0)


def batch_size(full: int, deaths: int) -> int:
    """How many claims may run together with one that has cost `deaths` workers.

    A full batch shrinks to its square root, then to one. So a row that kills workers runs alone
    at its third and last try, and takes no other row with it.
    """
    share: float = float(full) ** (1 - deaths / (DEATHS_MAX - 1))
    return max(1, round(share))
