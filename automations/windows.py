"""Which matches a notification reports, and when it is formed. Pure functions.

A **match** is the write that makes an automation's filter true for a row. A row counts once,
until the filter was false for it in between. Matches are collected in a window:

    nothing was reported for one interval   the first match is due at once
    a notification was delivered            the next is due one interval after its window's end
    a notification is on its way            nothing is due until it is delivered or abandoned

So every match is reported, and by one notification. If a notification is abandoned, its matches
return to the window, which then begins where that of the abandoned one began.

All times are those of PostgreSQL's clock. If that clock is set back, the end of the last window
may lie in the future; the wait then begins anew, and lasts one interval at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a notification reports: `matches` that were stored in [time_start, time_end)."""

    time_start: datetime
    time_end: datetime
    matches: int
    first_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchWindow:
    """The matches of one automation that no notification has reported yet.

    `collected` is their number and `first_at` when the first of them was stored. `started_at`
    is since when the automation watches. `reported_until` is the end of the last delivered
    notification, and `open_from` the beginning of an abandoned one whose matches are here.
    `is_sending`: a notification is on its way.
    """

    started_at: datetime
    collected: int = 0
    first_at: datetime | None = None
    open_from: datetime | None = None
    reported_until: datetime | None = None
    is_sending: bool = False

    def due_at(self, now: datetime, interval: timedelta) -> datetime | None:
        """When the next notification is to be formed: `now` or later; None: nothing is due.

        Ask a window that is `rebased` to `now`.
        """
        if self.is_sending or not self.collected:
            return None
        if self.reported_until is None:
            return now
        return max(now, self.reported_until + interval)

    def rebased(self, now: datetime) -> MatchWindow:
        """The window by a clock that has been set back: what was reported ended by `now`."""
        if self.reported_until is None or self.reported_until <= now:
            return self
        return replace(self, reported_until=now)

    def collect(self, matches: int, first_at: datetime) -> MatchWindow:
        """The window with some more matches, the first of which was stored at `first_at`, or a
        little later: what was stored before the last notification's end has been reported."""
        if not matches:
            return self
        first = max(first_at, self.reported_until or self.started_at)
        if self.first_at is not None:
            first = min(first, self.first_at)
        return replace(self, collected=self.collected + matches, first_at=first)

    def close(self, now: datetime, interval: timedelta) -> tuple[Report, MatchWindow]:
        """What a notification that is formed `now` reports, and the window after it.

        Call this only where something is collected and nothing is on its way.
        """
        first_at = self.first_at or now
        report = Report(
            time_start=self._start(now, interval, first_at), time_end=now,
            matches=self.collected, first_at=first_at,
        )
        emptied = replace(self, collected=0, first_at=None, open_from=None, is_sending=True)
        return report, emptied

    def delivered(self, report: Report) -> MatchWindow:
        """The window after the notification on its way has been delivered.

        What was stored before that one's end and found later is told from that end on, so that
        no time is in two windows.
        """
        first_at = None if self.first_at is None else max(self.first_at, report.time_end)
        return replace(
            self, first_at=first_at, reported_until=report.time_end, is_sending=False
        )

    def abandoned(self, report: Report) -> MatchWindow:
        """The window after the notification on its way has been given up.

        Its matches are collected again, and reported by the next one.
        """
        back = self.collect(report.matches, report.first_at)
        opened = min(report.time_start, self.open_from or report.time_start)
        return replace(back, open_from=opened, is_sending=False)

    def reopened(self, report: Report) -> MatchWindow:
        """The window after an abandoned notification, whose matches are here, is sent again.

        What else was collected came after that one's window had ended.
        """
        left = self.collected - report.matches
        first_at = max(self.first_at or report.time_end, report.time_end) if left else None
        return replace(
            self, collected=left, first_at=first_at, open_from=None, is_sending=True
        )

    def _start(self, now: datetime, interval: timedelta, first_at: datetime) -> datetime:
        start = now - interval
        if self.open_from is not None:
            return min(start, self.open_from)
        if first_at >= start:
            return start
        # What was collected before the automation was paused is older than `started_at`.
        return min(first_at, self.reported_until or self.started_at)
