"""A clock whose every reading is later than the one before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
"""One reading after another: what the API shows of a time has milliseconds."""


class Ticks:
    """A Clock. A test moves the time on by `pass_s`."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += TICK
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
