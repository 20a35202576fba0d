"""The body that an automation posts to its webhook, key by key as it is documented.

It has no row's content: numbers, times, and addresses of pages that show the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import orjson

from automations.model import LOGS, Automation
from automations.windows import Report
from spans.ids import OrgId

SLACK_TEXT_MAX = 3000
"""The most characters of one block of a message to Slack, by Slack's documents."""

UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
"""The units in which a span of time is told, with their seconds, longest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an automation belongs, and `app_url`, the address of the pages that show it."""

    org_id: OrgId
    org_name: str
    project_name: str
    app_url: str


def webhook_body(
    automation: Automation, site: Site, report: Report, *, is_test: bool
) -> bytes:
    """The JSON body of a notification, compact."""
    return orjson.dumps({
        "organization": {"id": str(site.org_id), "name": site.org_name},
        "project": {"id": str(automation.project_id), "name": site.project_name},
        "automation": {
            "id": str(automation.id),
            "name": automation.name,
            "description": automation.description or "",
            "event_type": LOGS,
            "btql_filter": automation.btql_filter,
            "interval_seconds": automation.interval_s,
            "url": automation_url(automation, site),
        },
        "details": {
            "is_test": is_test,
            "message": message_of(automation.name, report),
            "time_start": time_text(report.time_start),
            "time_end": time_text(report.time_end),
            "count": report.matches,
            "related_logs_url": related_logs_url(automation, site, report),
        },
    })


def slack_body(
    automation: Automation, site: Site, report: Report, *, is_test: bool
) -> bytes:
    """The JSON body of the same notification for an incoming webhook of Slack."""
    heading = f"{'Test: ' if is_test else ''}{message_of(automation.name, report)}"
    lines = [f"*{_escaped(heading)}*"]
    if automation.description:
        lines.append(_escaped(automation.description))
    if automation.btql_filter.strip():
        lines.append(f"Filter: `{_escaped(automation.btql_filter.replace('`', ''))}`")
    links = [
        f"<{related_logs_url(automation, site, report)}|Show the logs>",
        f"<{automation_url(automation, site)}|Show the automation>",
    ]
    if len(" | ".join(links)) > SLACK_TEXT_MAX:
        del links[0]   # it has a long filter, and a part of a link leads nowhere
    lines.append(" | ".join(links))
    return orjson.dumps({
        "text": _escaped(heading),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": line[:SLACK_TEXT_MAX]}}
            for line in lines
        ],
    })


def message_of(name: str, report: Report) -> str:
    """The sentence that tells a notification, such as "Errors: 5 logs triggered automation in
    the last 1 hour". The time is that of the whole window."""
    logs = "1 log" if report.matches == 1 else f"{report.matches} logs"
    lasted = duration_text(report.time_end - report.time_start)
    return f"{name}: {logs} triggered automation in the last {lasted}"


def duration_text(duration: timedelta) -> str:
    """The duration in the largest units that it has, at most two: "1 hour", "1 day 2 hours".

    Fractions of a second count as a whole one.
    """
    left = max(1, -(-duration // timedelta(seconds=1)))
    parts: list[str] = []
    for name, seconds in UNITS:
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number} {name}{'' if number == 1 else 's'}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def time_text(moment: datetime) -> str:
    """The moment as ISO 8601 in UTC, with milliseconds and Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def automation_url(automation: Automation, site: Site) -> str:
    """The address of the page that shows the automation."""
    return f"{_project_url(site)}/configuration/automations?aid={automation.id}"


def related_logs_url(automation: Automation, site: Site, report: Report) -> str:
    """The address of the page of the logs, with the filter and the window applied."""
    search = orjson.dumps({
        "filter": automation.btql_filter,
        "time_start": time_text(report.time_start),
        "time_end": time_text(report.time_end),
    }).decode()
    return f"{_project_url(site)}/logs?search={quote(search, safe='')}"


def _project_url(site: Site) -> str:
    org, project = quote(site.org_name, safe=""), quote(site.project_name, safe="")
    return f"{site.app_url.rstrip('/')}/app/{org}/p/{project}"


def _escaped(text: str) -> str:
    """The text, with the characters that Slack reads as markup replaced."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

