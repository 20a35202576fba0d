"""Time as an argument: flows take a Clock, so that tests can say when it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Gives the present as an aware UTC instant. Leases and schedules use the database's."""

    def __call__(self) -> datetime: ...


def system_clock() -> datetime:
    """The machine's own clock."""
    return datetime.now(UTC)  # the one place that asks
