"""The bodies that automations post."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from automations.model import Automation, AutomationStatus, SlackAction
from automations.payload import SLACK_TEXT_MAX, Site, duration_text, slack_body, webhook_body
from automations.windows import Report
from spans.ids import AutomationId, OrgId, ProjectId

NOON = datetime(2026, 5, 12, 12, 0, 0, 123_456, tzinfo=UTC)
SITE = Site(
    org_id=OrgId(uuid.UUID(int=1)), org_name="my org", project_name="a/b",
    app_url="https://tallyard.example/",
)


def automation(btql_filter: str = "error is not null") -> Automation:
    return Automation(
        id=AutomationId(uuid.UUID(int=3)), project_id=ProjectId(uuid.UUID(int=2)),
        name="Errors & <more>", description=None, btql_filter=btql_filter, interval_s=3600,
        status=AutomationStatus.ACTIVE, action=SlackAction(url="https://hooks.slack.com/x"),
        created=NOON,
    )


def report(matches: int = 5, hours: float = 1) -> Report:
    return Report(
        time_start=NOON - timedelta(hours=hours), time_end=NOON, matches=matches, first_at=NOON
    )


def test_the_body_for_a_webhook_has_the_documented_keys_in_their_order():
    body = orjson.loads(webhook_body(automation(), SITE, report(), is_test=False))
    assert {name: list(part) for name, part in body.items()} == {
        "organization": ["id", "name"], "project": ["id", "name"],
        "automation": [
            "id", "name", "description", "event_type", "btql_filter", "interval_seconds", "url",
        ],
        "details": [
            "is_test", "message", "time_start", "time_end", "count", "related_logs_url",
        ],
    }
    details = body["details"]
    assert details["message"] == (
        "Errors & <more>: 5 logs triggered automation in the last 1 hour"
    )
    assert (details["time_start"], details["time_end"]) == (
        "2026-05-12T11:00:00.123Z", "2026-05-12T12:00:00.123Z"
    )


def test_the_links_have_encoded_names_and_the_filter_with_the_window():
    body = orjson.loads(webhook_body(automation(), SITE, report(), is_test=True))
    project = "https://tallyard.example/app/my%20org/p/a%2Fb"
    assert body["automation"]["url"] == (
        f"{project}/configuration/automations?aid={automation().id}"
    )
    link = urlsplit(body["details"]["related_logs_url"])
    assert link.path == "/app/my%20org/p/a%2Fb/logs"
    assert orjson.loads(parse_qs(link.query)["search"][0]) == {
        "filter": "error is not null", "time_start": "2026-05-12T11:00:00.123Z",
        "time_end": "2026-05-12T12:00:00.123Z",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"), (90, "1 minute 30 seconds"), (3600, "1 hour"), (1800, "30 minutes"),
        (86_400, "1 day"), (90_000, "1 day 1 hour"), (0.2, "1 second"),
        (3600.5, "1 hour 1 second"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, text):
    assert duration_text(timedelta(seconds=seconds)) == text


def test_a_message_to_slack_is_escaped_and_links_to_the_logs():
    body = orjson.loads(slack_body(automation(), SITE, report(1), is_test=True))
    texts = [block["text"]["text"] for block in body["blocks"]]
    assert texts[0] == (
        "*Test: Errors &amp; &lt;more&gt;: 1 log triggered automation in the last 1 hour*"
    )
    assert texts[-1].startswith("<https://tallyard.example/app/my%20org/p/a%2Fb/logs?search=")


def test_a_message_to_slack_has_no_cut_link():
    long = "metadata.name = '" + "\N{SNOWMAN}" * 900 + "'"
    body = orjson.loads(slack_body(automation(long), SITE, report(), is_test=False))
    texts = [block["text"]["text"] for block in body["blocks"]]
    assert max(map(len, texts)) <= SLACK_TEXT_MAX
    assert texts[-1].endswith("|Show the automation>")
    assert "Show the logs" not in texts[-1]
