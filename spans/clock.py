"""Time as an argument: flows take a Clock, so that tests can set the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the time as an aware UTC instant. Leases and schedules use the database's."""


def system_clock() -> datetime:
    """The machine's own clock."""
    return datetime.now(UTC)  # the only place that reads it
