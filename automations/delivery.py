"""A delivery: one message to a webhook, and the attempts that were made of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from automations.windows import Report
from spans.ids import AutomationId, DeliveryId, ProjectId


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    ABANDONED = "abandoned"
    """A notification that was given up. Its matches are reported by the next one."""

    FAILED = "failed"
    """A test that was not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A stored delivery.

    `automation_id` and `automation_name` are None for the test of an automation that was not
    saved. `attempts` are all
    that were ever made, and `last_error` what the last one met. `carried_by` is the later
    notification that reports the matches of an abandoned one.
    """

    id: DeliveryId
    project_id: ProjectId
    automation_id: AutomationId | None
    automation_name: str | None
    is_test: bool
    state: DeliveryState
    created: datetime
    report: Report
    attempts: int
    next_attempt_at: datetime
    ended_at: datetime | None = None
    delivered_at: datetime | None = None
    carried_by: DeliveryId | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One HTTP request of a delivery. Without `run_ms` it is under way, or its worker died."""

    attempt_no: int
    started_at: datetime
    run_ms: float | None = None
    address_family: str | None = None
    status: int | None = None
    error_class: str | None = None
    error_message: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDetails:
    """A delivery with its exact body and its attempts, oldest first."""

    delivery: Delivery
    body: bytes
    attempts: tuple[Attempt, ...]
