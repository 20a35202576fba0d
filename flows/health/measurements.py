"""The types of measurements: counters, queue depths, and sandbox workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

BUCKETS_S = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
)
"""Upper bounds of a histogram's buckets, in seconds: from a short run to a wait of an hour."""

BUCKET_LABELS = (*(f"{bound:g}" for bound in BUCKETS_S), "+Inf")
"""The bounds as Prometheus' labels `le`. A histogram is stored as one counter for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A counter's total over all processes, since the database was created."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How many items wait in a queue, and how long the oldest has waited (0 if none does).

    A deep queue is not counted to its end, so `depth` is at least what is told.
    """

    queue: str
    depth: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """Outcomes of a queue that wait to be tried again after one class of error.

    Of a deep queue only the first outcomes are looked at, so `count` is at least what is told.
    `reason` is the error's message of the outcome that is next, at `next_at`.
    """

    queue: str
    error_class: str
    count: int
    next_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownEndpoint:
    """A judge endpoint whose circuit is open, and how many outcomes it holds back, at least.

    `error_class` and `reason` are those of the last call; the next is made at `probe_at`.
    """

    endpoint: str
    opened_at: datetime
    probe_at: datetime
    error_class: str
    reason: str
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetMeasure:
    """A budget's caps, what is spent of them in the present period, and how many outcomes it
    holds back, at least. Money is in the unit of the prices; no cap is None."""

    budget: str
    subject: str
    subject_id: str
    period: str
    money: float | None
    calls: int | None
    money_spent: float
    money_reserved: float
    calls_spent: int
    calls_reserved: int
    held: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits because something failed that time may heal, or for budgets."""

    retrying: tuple[Retrying, ...]
    down: tuple[DownEndpoint, ...]
    budgets: tuple[BudgetMeasure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DisabledAutomation:
    """An automation that Tallyard has paused, and why."""

    project: str
    name: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingAutomation:
    """An automation whose receiver does not take its notification: since when, in how many
    attempts, when it is tried next, and what the last attempt met."""

    project: str
    name: str
    since: datetime
    attempts: int
    next_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What is on its way to webhooks: how many deliveries of active automations, at least, and
    how long the oldest has waited (0 if none does), seconds.

    `failing` are automations whose notifications fail, the oldest notifications first.
    `disabled` are automations that Tallyard has paused, the latest first, and `disabled_count`
    is how many there are.
    """

    pending: int
    oldest_s: float
    failing: tuple[FailingAutomation, ...]
    disabled_count: int
    disabled: tuple[DisabledAutomation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxWorker:
    """The result of a worker's self-test of its sandbox. If it is not ok, it runs no code and
    `sentence` gives the operator's next step."""

    host: str
    tier: str | None
    is_ok: bool
    sentence: str
    probes: Mapping[str, str]
