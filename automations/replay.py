"""What an automation would have sent, had it watched rows that are stored. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from automations.windows import MatchWindow, Report

LOOK_EVERY = timedelta(seconds=1)
"""How often changes are looked at: a match is found by the next look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The notifications that would have been sent, the oldest first. `waiting` matches would
    still be collected, and reported at `due_at`."""

    reports: tuple[Report, ...]
    waiting: int
    due_at: datetime | None


def replay(
    matched_at: Iterable[datetime], interval: timedelta, *, since: datetime, until: datetime
) -> Replayed:
    """What matches at these times would have come to, if every delivery had succeeded.

    The automation would have begun at `since` and be watching still at `until`.
    """
    window = MatchWindow(started_at=since)
    reports: list[Report] = []

    def send(now: datetime) -> None:
        nonlocal window
        report, closed = window.close(now, interval)
        window = closed.delivered(report)
        reports.append(report)

    def send_if_due(until: datetime) -> None:
        due_at = window.due_at(window.first_at or since, interval)
        if due_at is not None and due_at <= until:
            send(_next_look(due_at))

    for look, first_at, matches in _looks(matched_at):
        send_if_due(look - LOOK_EVERY)
        window = window.collect(matches, first_at)
        if window.due_at(look, interval) == look:
            send(look)
    send_if_due(until)
    return Replayed(
        reports=tuple(reports), waiting=window.collected,
        due_at=window.due_at(until, interval),
    )


def _looks(matched_at: Iterable[datetime]) -> Iterator[tuple[datetime, datetime, int]]:
    """Each look that finds matches, the time of the first of them, and their number."""
    for look, found in groupby(sorted(matched_at), _look_after):
        times = list(found)
        yield look, times[0], len(times)


def _look_after(moment: datetime) -> datetime:
    return moment.replace(microsecond=0) + LOOK_EVERY


def _next_look(moment: datetime) -> datetime:
    return moment if not moment.microsecond else _look_after(moment)
