"""Shows what an automation would have sent, had it watched rows that are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from automations.model import Automation
from automations.payload import message_of
from automations.replay import replay
from automations.windows import Report
from automations.wire import AutomationFields
from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.access.use_case import use_case
from flows.automations.dated_rows import DatedRowReader
from flows.automations.search import find_times
from spans.clock import Clock
from spans.ids import ProjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedNotification:
    """A notification that would have been sent, with its message."""

    report: Report
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What an automation would have sent since a time. `waiting` matches would still wait for
    the end of their interval, at `due_at`."""

    name: str
    since: datetime
    examined: int
    notifications: tuple[ReplayedNotification, ...]
    waiting: int
    due_at: datetime | None


class Replays:
    """Replays automations over stored rows. Thread-safe."""

    def __init__(self, *, projects: Projects, rows: DatedRowReader, clock: Clock) -> None:
        self._projects = projects
        self._rows = rows
        self._clock = clock

    @use_case(KeyRole.READ)
    def replay(
        self, principal: Principal, project_id: ProjectId, what: Automation | AutomationFields,
        *, since: timedelta,
    ) -> Replay:
        """What the automation would have sent, had it watched that long. Sends nothing.

        The rows are taken as they are now, so what was true only for a while does not count.
        Raises NotFound for a project that the key does not reach.
        """
        now = self._clock()
        found = find_times(
            self._rows, self._projects.logs_of(principal, project_id), what.btql_filter,
            since=now - since, clock=self._clock,
        )
        told = replay(
            found.times, timedelta(seconds=what.interval_s), since=found.since, until=now
        )
        return Replay(
            name=what.name, since=found.since, examined=found.examined,
            notifications=tuple(
                ReplayedNotification(report=each, message=message_of(what.name, each))
                for each in told.reports
            ),
            waiting=told.waiting, due_at=told.due_at,
        )
