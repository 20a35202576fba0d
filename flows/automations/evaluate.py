"""Evaluates automations: looks at what changed in a project's logs, and forms notifications.

A **look** reads the rows that changed since the look before, in the order of their versions, so
that it costs the same whatever is stored. A row is tested as it is when it is read, at most a
second or so after it was written. For each row it is kept which automations match it, so that
a row counts for an automation once, until the filter was false for it in between.

What a look found, the notifications that it forms and how far it has read are written in one
transaction. A look that is interrupted has written nothing, and is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Protocol
from uuid import UUID

from automations.model import Automation, SlackAction
from automations.payload import Site, slack_body, webhook_body
from automations.watches import Watches
from automations.windows import MatchWindow, Report
from spans.ids import DeliveryId, ProjectId, RowSeq, Xact
from spans.row import RowView

TESTS_PER_LOOK = 50_000
"""Tests of filters that one look makes at most, if no row matches: some 10 ms, after which
other projects are looked at."""

ROWS_PER_LOOK = 2000
"""The most rows that one look reads."""

ROWS_PER_LOOK_MIN = 5
"""The rows that a look reads of a project that has very many automations."""

BASELINE_ROWS = 1000
"""The latest rows that are tested when an automation begins, so that those which match already
do not count when they are written again, such as by a scorer."""

NOTIFICATIONS_PER_LOOK = 200
"""Notifications that one look forms at most."""


class Evaluated(StrEnum):
    """What became of the matches that a look found for an automation."""

    FIRED = "fired"
    """A notification was formed."""

    COLLECTED = "collected"
    """They wait until one interval has passed since the last notification."""

    RETRYING = "retrying"
    """They wait until the notification on its way is delivered or abandoned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedRow:
    """A row that changed: `xact` is its version, and `stored_at` when that was stored, or a
    time before it. `watches` matched it before. `view` is None if the row was deleted or has
    no base yet."""

    seq: RowSeq
    xact: Xact
    stored_at: datetime
    watches: tuple[int, ...]
    view: RowView | None


@dataclass(frozen=True, slots=True)
class Found:
    """How many rows began to match an automation, and when the first of them was stored."""

    matches: int
    first_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A notification that has been formed. `body` are the bytes to send."""

    id: DeliveryId
    automation_no: int
    report: Report
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What became of the matches of one automation, and when they are sent if they wait."""

    automation_no: int
    matches: int
    decision: Evaluated
    due_at: datetime | None


@dataclass(slots=True, kw_only=True)
class LookResult:
    """What a look is to write.

    `watched` has the watches that match a row now, for each row where they changed. `windows`
    are those that changed, with the time at which each is due; `reports` are of those that
    were closed, and `notifications` tell them.
    """

    rows_read: int = 0
    watched: dict[RowSeq, tuple[int, ...]] = field(default_factory=dict)
    windows: dict[int, tuple[MatchWindow, datetime | None]] = field(default_factory=dict)
    reports: dict[int, Report] = field(default_factory=dict)
    notifications: list[Notification] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)


class Look(Protocol):
    """One look at a project, in a transaction that keeps all other looks from the project.

    `at` is PostgreSQL's time.
    """

    at: datetime
    site: Site
    watches: Watches

    def baseline(self, rows_max: int) -> Sequence[LookedRow]:
        """The latest rows that have not changed since the watches without a baseline began."""
        ...

    def changed(self, rows_max: int) -> Sequence[LookedRow]:
        """The next rows that changed, in the order of their versions."""
        ...

    def windows(self, automation_nos: Iterable[int]) -> Mapping[int, MatchWindow]:
        """The windows of these automations, locked until the look ends."""
        ...

    def due(self, most: int) -> Mapping[int, MatchWindow]:
        """Windows that are due and that nobody else has locked, locked until the look ends."""
        ...

    def write(self, result: LookResult) -> None:
        """Writes all of it, and how far the look has read."""
        ...


class NoLook(Enum):
    """Why a project is not looked at now."""

    TAKEN = auto()
    """Another process looks at it, or it is gone."""

    UNREADY = auto()
    """Some of its filters were compiled. They are so many that other projects go first."""


class LookStore(Protocol):
    """Where automations read what has changed."""

    def mark_time(self) -> None:
        """Keeps which versions have been stored by now, if any automation is active."""
        ...

    def waiting(self) -> Sequence[ProjectId]:
        """The projects that have changes to look at, windows that are due, or watches without
        a baseline. The one that was looked at longest ago comes first."""
        ...

    def look(self, project_id: ProjectId) -> AbstractContextManager[Look | NoLook]:
        """A look at the project, or why there is none now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Evaluates the automations of all projects, a slice of each in turn.

    `ring` is called when notifications have been formed. `new_id` gives ids of version 7.
    """

    store: LookStore
    ring: Callable[[], None]
    new_id: Callable[[datetime], UUID]

    def evaluate_all(self, *, seconds: Callable[[], float], stop_after_s: float) -> int:
        """Looks at every project until nothing is left, or until `stop_after_s` have passed.

        Returns the number of rows read and notifications formed. Safe to repeat, and to run in
        several processes at once: each look continues where the last one ended.
        """
        until = seconds() + stop_after_s
        self.store.mark_time()
        done = 0
        while waiting := self.store.waiting():
            # Who has much gets one slice, and then all others get theirs.
            found = 0
            for project_id in waiting:
                found += self.look_at(project_id)
                if seconds() > until:
                    return done + found
            if not found:
                break   # what waits is not settled yet, or others are at it
            done += found
        return done

    def look_at(self, project_id: ProjectId) -> int:
        """One look at a project. Returns the rows read and notifications formed, or 1 if it
        needs another look to read any."""
        with self.store.look(project_id) as look:
            if isinstance(look, NoLook):
                return int(look is NoLook.UNREADY)
            result = examine(look, self.new_id)
            look.write(result)
        if result.notifications:
            self.ring()
        return result.rows_read + len(result.notifications)


def examine(look: Look, new_id: Callable[[datetime], UUID]) -> LookResult:
    """What the look finds and decides. Writes nothing."""
    result = LookResult()
    found: dict[int, Found] = {}
    if look.watches:
        before = _baseline(look, result)
        rows = look.changed(rows_per_look(look.watches.tests))
        result.rows_read = len(rows)
        found = _test_rows(rows, before, look.watches, result)
    windows = look.windows(found) if found else {}
    for automation_no in sorted(windows):
        _decide(look, automation_no, windows[automation_no], found[automation_no], result)
    if (room := NOTIFICATIONS_PER_LOOK - len(result.reports)) > 0:
        for automation_no, window in look.due(room).items():
            if automation_no not in result.windows:
                _decide(look, automation_no, window, None, result)
    for automation_no, report in result.reports.items():
        automation = look.watches.automation(automation_no)
        result.notifications.append(
            Notification(
                id=DeliveryId(new_id(look.at)), automation_no=automation_no, report=report,
                body=notification_body(automation, look.site, report, is_test=False),
            )
        )
    return result


def rows_per_look(tests: int) -> int:
    """How many rows a look reads, where each takes so many tests."""
    return max(ROWS_PER_LOOK_MIN, min(ROWS_PER_LOOK, TESTS_PER_LOOK // max(1, tests)))


def notification_body(
    automation: Automation, site: Site, report: Report, *, is_test: bool
) -> bytes:
    """The body in the form that the automation's receiver reads."""
    form = slack_body if isinstance(automation.action, SlackAction) else webhook_body
    return form(automation, site, report, is_test=is_test)


def _baseline(look: Look, result: LookResult) -> dict[RowSeq, tuple[int, ...]]:
    """What watches that have just begun match already. It counts for nothing."""
    if not (fresh := look.watches.without_baseline):
        return {}
    known: dict[RowSeq, tuple[int, ...]] = {}
    for row in look.baseline(BASELINE_ROWS):
        if row.view is None:
            continue
        began = [
            no for no in look.watches.matching(row.view)
            if no in fresh and row.xact <= look.watches.watch(no).start_xact
        ]
        if began:
            known[row.seq] = tuple(sorted({*row.watches, *began}))
    result.watched.update(known)
    return known


def _test_rows(
    rows: Sequence[LookedRow], before: Mapping[RowSeq, tuple[int, ...]], watches: Watches,
    result: LookResult,
) -> dict[int, Found]:
    """Test the rows. Returns what each automation found, by its number."""
    found: dict[int, Found] = {}
    # Rows that began to match the same watches are counted together: in a project that has very
    # many automations, each may match all of them.
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[LookedRow]] = {}
    for row in rows:
        matched = before.get(row.seq, row.watches)
        matching = () if row.view is None else watches.matching(row.view)
        if matching != matched:
            result.watched[row.seq] = matching
            alike.setdefault((matching, matched), []).append(row)
    for (matching, matched), group in alike.items():
        first_xact = min(row.xact for row in group)
        first_at = min(row.stored_at for row in group)
        for no in set(matching).difference(matched):
            watch = watches.watch(no)
            # What was stored before the watch began counts once it was false in between.
            counted = len(group) if first_xact > watch.start_xact else sum(
                row.xact > watch.start_xact for row in group
            )
            if counted:
                present = found.get(watch.automation_no, Found(0, first_at))
                found[watch.automation_no] = Found(
                    present.matches + counted, min(present.first_at, first_at)
                )
    return found


def _decide(
    look: Look, automation_no: int, window: MatchWindow, found: Found | None, result: LookResult
) -> None:
    """Close the window if a notification is due, and otherwise let the matches wait."""
    interval = timedelta(seconds=look.watches.automation(automation_no).interval_s)
    window = window.rebased(look.at)
    if found:
        window = window.collect(found.matches, found.first_at)
    due_at = window.due_at(look.at, interval)
    if due_at is not None and due_at <= look.at and (
        len(result.reports) < NOTIFICATIONS_PER_LOOK
    ):
        decision, due_at = Evaluated.FIRED, None
        result.reports[automation_no], window = window.close(look.at, interval)
    else:
        decision = Evaluated.RETRYING if window.is_sending else Evaluated.COLLECTED
    result.windows[automation_no] = window, due_at
    if found:
        result.evaluations.append(
            Evaluation(
                automation_no=automation_no, matches=found.matches, decision=decision,
                due_at=due_at,
            )
        )
