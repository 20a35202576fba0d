"""Tests an automation on stored rows: a message of what matches, or why there is none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from automations.misses import nearest_misses
from automations.model import Automation
from automations.payload import Site, duration_text, time_text
from automations.windows import Report
from automations.wire import AutomationFields, with_stored_secrets
from flows.access.principal import Principal
from flows.access.projects import Project, Projects
from flows.access.use_case import use_case
from flows.automations.automations import Automations
from flows.automations.dated_rows import DatedRowReader
from flows.automations.evaluate import notification_body
from flows.automations.search import FoundMatches, find_matches
from spans.clock import Clock
from spans.errors import BadInput
from spans.ids import AutomationId, DeliveryId, ProjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMessage:
    """A test that is ready to be sent. `authorization` is the value of that header for an
    automation that is not stored."""

    automation: Automation
    is_stored: bool
    authorization: str | None = field(repr=False)
    report: Report
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTest:
    """What became of a test: `delivered`, or else the `error`. `secret` has signed the test of
    an automation that is not stored, and nothing else."""

    delivery_id: DeliveryId
    delivered: bool
    error: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A test that was sent, and the window of which it tells."""

    report: Report
    sent: SentTest


class Trials:
    """Tests automations on stored rows. Thread-safe.

    `check_url` raises BadInput for a URL to which nothing may be sent. `send` delivers a test
    and returns what became of it. `seconds` is a clock that only goes forward.
    """

    def __init__(
        self, automations: Automations, *, projects: Projects, rows: DatedRowReader,
        check_url: Callable[[str], object],
        send: Callable[[Principal, TrialMessage], SentTest], app_url: str, clock: Clock,
        seconds: Callable[[], float], new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._automations = automations
        self._projects = projects
        self._rows = rows
        self._check_url = check_url
        self._send = send
        self._app_url = app_url
        self._clock = clock
        self._seconds = seconds
        self._new_id = new_id

    @use_case()
    def test(self, principal: Principal, automation_id: AutomationId) -> Tried:
        """Sends a test of what matched inside the interval, as a notification would tell it.

        Raises NotFound, and BadInput if nothing matched: it says which rows nearly did.
        """
        automation = self._automations.get(principal, automation_id)
        project = self._projects.get(principal, automation.project_id)
        return self._test(principal, project, automation, is_stored=True)

    @use_case()
    def test_draft(
        self, principal: Principal, project_id: ProjectId, sent: AutomationFields
    ) -> Tried:
        """The same of an automation that is not stored.

        Raises BadInput also for a URL to which nothing may be sent.
        """
        project = self._projects.get(principal, project_id)
        fields = with_stored_secrets(sent, None)
        try:
            self._check_url(fields.action.url)
        except BadInput as error:
            raise error.within("config.action.url") from error
        draft = Automation(
            id=AutomationId(self._new_id()), project_id=project.id, name=fields.name,
            description=fields.description, btql_filter=fields.btql_filter,
            interval_s=fields.interval_s, status=fields.status, action=fields.action,
            created=self._now(),
        )
        return self._test(
            principal, project, draft, is_stored=False, authorization=fields.authorization
        )

    def _test(
        self, principal: Principal, project: Project, automation: Automation, *,
        is_stored: bool, authorization: str | None = None,
    ) -> Tried:
        now, interval = self._now(), timedelta(seconds=automation.interval_s)
        found = find_matches(
            self._rows, self._projects.logs_of(principal, project.id), automation.btql_filter,
            since=now - interval, clock=self._clock, seconds=self._seconds,
        )
        if found.first_at is None:
            raise BadInput(self._nothing(automation, found, now))
        report = Report(
            time_start=now - interval, time_end=now, matches=found.matches,
            first_at=found.first_at,
        )
        site = Site(
            org_id=principal.org_id, org_name=principal.org_name, project_name=project.name,
            app_url=self._app_url,
        )
        message = TrialMessage(
            automation=automation, is_stored=is_stored, authorization=authorization,
            report=report, body=notification_body(automation, site, report, is_test=True),
        )
        return Tried(report=report, sent=self._send(principal, message))

    def _nothing(self, automation: Automation, found: FoundMatches, now: datetime) -> str:
        """Why nothing is sent: in lines, the nearest misses last."""
        asked = duration_text(timedelta(seconds=automation.interval_s))
        among = "" if found.is_complete else f" among the newest {found.examined}"
        lines = [f"no logs match in the last {asked}{among}: change the filter or the interval"]
        if not found.newest:
            lines.append("The project has no logs yet.")
        elif found.last_match_at is not None:
            ago = duration_text(now - found.last_match_at)
            lines.append(
                f"The last one that matches was created at {time_text(found.last_match_at)}, "
                f"{ago} ago."
            )
        misses = nearest_misses(automation.btql_filter, found.newest, clock=self._clock)
        if misses:
            lines.append("The logs that nearly match:")
            lines += [f"  {miss}" for miss in misses]
        return "\n".join(lines)

    def _now(self) -> datetime:
        """The time, in milliseconds as notifications tell it."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
