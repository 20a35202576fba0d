"""A file of automations: how it is read, and how a difference is shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.file import StoredItem, automation_for_file, differences, read_file
from automations.model import (
    INTERVAL_MAX_S,
    Automation,
    AutomationStatus,
    SlackAction,
    WebhookAction,
)
from automations.wire import HIDDEN, AutomationFields
from spans.duration import read_duration, write_duration
from spans.errors import BadInput
from spans.file_plan import ChangeKind
from spans.ids import AutomationId, ProjectId

URL = "https://example.com/hook"
SLACK_URL = "https://hooks.slack.com/services/T0/B0/secret"
ENVIRONMENT = {"TOKEN": "Bearer of-nobody", "SLACK_URL": SLACK_URL, "EMPTY": ""}


def item(**fields: Any) -> dict[str, Any]:
    return {
        "name": "errors", "btql_filter": "error is not null", "interval": "1h",
        "action": {"type": "webhook", "url": URL}, **fields,
    }


def read(*items: Any) -> tuple[AutomationFields, ...]:
    content = {"project": "app", "automations": list(items)}
    return read_file(content, ENVIRONMENT).automations


def stored(fields: AutomationFields, authorization: str | None = None) -> StoredItem:
    """What is stored once the automation has been applied."""
    return StoredItem(
        automation=Automation(
            id=AutomationId(UUID(int=1)), project_id=ProjectId(UUID(int=2)), name=fields.name,
            description=fields.description, btql_filter=fields.btql_filter,
            interval_s=fields.interval_s, status=fields.status, action=fields.action,
            created=datetime(2026, 1, 1, tzinfo=UTC),
            has_authorization=authorization is not None,
        ),
        authorization=authorization,
    )


@pytest.mark.parametrize(
    ("interval", "seconds"), [("1h", 3600), ("30d", 2_592_000), ("90 s", 90), (60, 60)]
)
def test_an_interval_is_a_duration_or_seconds(interval, seconds):
    (fields,) = read(item(interval=interval))
    assert fields.interval_s == seconds


@given(st.integers(1, INTERVAL_MAX_S))
def test_every_interval_is_written_as_it_is_read(seconds):
    assert read_duration(write_duration(seconds)).total_seconds() == seconds


def test_a_secret_comes_from_the_environment():
    webhook, slack = read(
        item(action={"type": "webhook", "url": URL, "authorization": {"env": "TOKEN"}}),
        item(name="slack", action={"type": "slack", "url": {"env": "SLACK_URL"}}),
    )
    assert webhook.authorization == "Bearer of-nobody"
    assert slack.action == SlackAction(url=SLACK_URL)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"interval": "soon"}, r"automations\[0\]: interval: 'soon' is not a duration"),
        ({"interval": 0}, r"automations\[0\]: interval: "),
        ({"interval": "31d"}, r"automations\[0\]: interval: "),
        ({"btql_filter": "error is"}, r"automations\[0\]: btql_filter: "),
        ({"colour": "red"}, r"automations\[0\]: unknown: colour; use only name, "),
        (
            {"action": {"type": "slack", "url": {"env": "NOWHERE"}}},
            r"action.url: the environment has no variable NOWHERE",
        ),
        ({"action": {"type": "slack", "url": {"env": "EMPTY"}}}, "no variable EMPTY"),
        ({"action": {"type": "slack", "url": {"file": "x"}}}, "must be a text, or {env: NAME}"),
        ({"action": "webhook"}, r"automations\[0\]: action"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_file(wrong, why):
    with pytest.raises(BadInput, match=why) as caught:
        read(item(**wrong))
    assert "config" not in str(caught.value)


def test_a_file_names_each_automation_once():
    with pytest.raises(BadInput, match="two automations have the name errors"):
        read(item(), item(interval="2h"))
    with pytest.raises(BadInput, match=r"automations\[1\]: must be an object with name, "):
        read(item(), "errors")


def test_what_is_applied_makes_no_difference_any_more():
    wanted = read(
        item(action={"type": "webhook", "url": URL, "authorization": {"env": "TOKEN"},
                     "headers": {"X-A": "1"}}),
        item(name="slack", action={"type": "slack", "url": {"env": "SLACK_URL"}},
             status="paused", description="low scores"),
    )
    present = [stored(each, each.authorization) for each in wanted]
    assert differences(wanted, present, prune=True) == ()
    told = [automation_for_file(each.automation) for each in present]
    assert differences(
        [read(told[0])[0], replace(read(told[1])[0], action=wanted[1].action)], present,
        prune=True,
    ) == ()


def test_nothing_that_is_written_or_shown_has_a_secret():
    webhook, slack = read(
        item(action={"type": "webhook", "url": URL, "authorization": {"env": "TOKEN"}}),
        item(name="slack", action={"type": "slack", "url": {"env": "SLACK_URL"}}),
    )
    changes = differences([webhook, slack], [], prune=False)
    told = [line for change in changes for line in change.lines]
    told += [
        str(automation_for_file(stored(each, each.authorization).automation))
        for each in (webhook, slack)
    ]
    assert "of-nobody" not in str(told)
    assert "B0/secret" not in str(told)
    assert f"authorization: {HIDDEN}" in str(told)
    assert f"https://hooks.slack.com/{HIDDEN}" in str(told)


def test_a_secret_that_changes_is_told_without_its_value():
    (wanted,) = read(
        item(action={"type": "webhook", "url": URL, "authorization": {"env": "TOKEN"}})
    )
    for before in ("Bearer of-another", HIDDEN):
        (change,) = differences([wanted], [stored(wanted, before)], prune=False)
        assert (change.kind, change.lines) == (
            ChangeKind.CHANGE, (f"action: {HIDDEN} -> another value",)
        )


def test_a_difference_is_shown_as_yaml_writes_it():
    (before,) = read(item())
    (after,) = read(item(interval="1d", status="paused", btql_filter=""))
    (created,) = differences([before], [], prune=False)
    assert created.lines == (
        "btql_filter: error is not null", "interval: 1h",
        f"action: {{type: webhook, url: {URL}}}",
    )
    (changed,) = differences([after], [stored(before)], prune=False)
    assert changed.lines == (
        "btql_filter: error is not null -> ", "interval: 1h -> 1d", "status: - -> paused"
    )


@pytest.mark.parametrize(
    ("prune", "kind"), [(True, ChangeKind.DELETE), (False, ChangeKind.KEEP)]
)
def test_what_is_not_in_the_file_is_kept_or_pruned(prune, kind):
    (fields,) = read(item())
    (change,) = differences([], [stored(fields)], prune=prune)
    assert (change.kind, change.name, change.body) == (kind, "errors", None)


def test_an_authorization_that_the_file_leaves_out_is_taken_away():
    (fields,) = read(item())
    for known in ("Bearer of-nobody", HIDDEN):
        (change,) = differences([fields], [stored(fields, known)], prune=False)
        assert "authorization" in change.lines[0]
        assert change.body is not None
        assert change.body.authorization is None


def test_a_status_is_written_only_if_it_is_paused():
    (active,) = read(item())
    paused = replace(active, status=AutomationStatus.PAUSED, action=WebhookAction(url=URL))
    assert "status" not in automation_for_file(stored(active).automation)
    assert automation_for_file(stored(paused).automation)["status"] == "paused"
