"""Time as an argument: flows take a Clock, so that tests can set the time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Returns the time as an aware UTC instant. Leases and schedules use the database's."""

    def __call__(self) -> datetime: ...


def system_clock() -> datetime:
    """The machine's own clock."""
    return datetime.now(UTC)  # the only place that reads it
