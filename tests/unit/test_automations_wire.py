"""An automation as a client sends it: what is taken, what is refused, and what is hidden."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from automations.model import Automation, AutomationStatus, SlackAction, WebhookAction
from automations.wire import (
    HIDDEN,
    NOT_HERE,
    AutomationFields,
    config_json,
    patch_automation,
    read_automation,
    with_stored_secrets,
)
from spans.errors import BadInput
from spans.ids import AutomationId, ProjectId

URL = "https://example.com/hook"
SLACK_URL = "https://hooks.slack.com/services/T0/B0/secret"


def body(action: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return {"name": "errors", "config": {
        "event_type": "logs", "btql_filter": "error is not null", "interval_seconds": 3600,
        "action": {"type": "webhook", "url": URL, **(action or {})}, **config,
    }}


def read(action: dict[str, Any] | None = None, **config: Any) -> AutomationFields:
    return read_automation(body(action, **config))


def refusal(action: dict[str, Any] | None = None, **config: Any) -> str:
    with pytest.raises(BadInput) as caught:
        read(action, **config)
    return str(caught.value)


def stored(**fields: Any) -> Automation:
    return Automation(**{
        "id": AutomationId(UUID(int=1)), "project_id": ProjectId(UUID(int=2)),
        "name": "errors", "description": None, "btql_filter": "", "interval_s": 60,
        "status": AutomationStatus.ACTIVE, "action": WebhookAction(url=URL),
        "created": datetime(2026, 1, 1, tzinfo=UTC), **fields,
    })


def test_an_automation_is_active_unless_it_says_otherwise():
    assert read().status is AutomationStatus.ACTIVE
    assert read(status="paused").status is AutomationStatus.PAUSED


def test_a_whole_number_of_seconds_may_come_as_a_float():
    assert read(interval_seconds=60.0).interval_s == 60


@pytest.mark.parametrize("interval", [0, -1, 0.5, 2_592_001, "60", True, None, float("inf")])
def test_an_interval_is_a_whole_number_of_seconds_up_to_30_days(interval):
    assert refusal(interval_seconds=interval).startswith("config.interval_seconds: ")


@pytest.mark.parametrize("event_type", NOT_HERE)
def test_a_type_that_exists_elsewhere_is_refused_with_what_to_use_here(event_type):
    assert refusal(event_type=event_type) == (
        f"config.event_type: there are no automations of type '{event_type}' here "
        f"({NOT_HERE[event_type]}): use 'logs'"
    )


def test_a_filter_is_refused_at_the_place_of_its_error():
    for wrong, column in (("error = ", 9), ("error = 'x' and nonsense(1) = 2", 17)):
        assert refusal(btql_filter=wrong).startswith(
            f"config.btql_filter: line 1, column {column}: "
        )


def test_an_empty_filter_matches_every_row_and_none_is_refused():
    assert read(btql_filter="").btql_filter == ""
    for wrong in (None, 1, {}):
        assert refusal(btql_filter=wrong).startswith("config.btql_filter: ")


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Authorization": "x"}, "put the value of Authorization into `authorization`"),
        ({"X-": "x"}, "must be X- and 1 to 40"),
        ({"X-A\n": "x"}, "must be X- and 1 to 40"),
        ({"X-A": "\u00e9"}, "printable ASCII"),
        ({"X-A": "a\nb"}, "printable ASCII"),
        ({"X-A": "a "}, "no space at its ends"),
        ({"X-A": ""}, "printable ASCII"),
        ({"X-A": "a" * 1025}, "printable ASCII"),
        ({"X-A": "1", "x-a": "2"}, "must be X- and"),
        ({"X-A": "1", "X-a": "2"}, "two headers have the same name"),
        ({f"X-{n}": "1" for n in range(11)}, "at most 10"),
        ({"X-A": 1}, "config.action.headers.X-A: "),
    ],
)
def test_only_headers_that_are_safe_to_send_are_taken(headers, why):
    assert why in refusal({"headers": headers})


def test_a_value_of_authorization_is_one_printable_line():
    for wrong in ("", " ", "a\r\nX-Evil: 1", "a\t", "a" * 1025, 1):
        assert refusal({"authorization": wrong}).startswith("config.action.authorization: ")


def test_a_value_of_authorization_is_not_shown_when_it_is_logged():
    assert "of-nobody" not in repr(read({"authorization": "Bearer of-nobody"}))


@pytest.mark.parametrize("wrong", [None, 1, "x", [], True])
def test_what_is_no_object_is_told_what_it_should_hold(wrong):
    sent = body()
    sent["config"]["action"] = wrong
    with pytest.raises(BadInput, match=r"^config\.action: must be an object as {"):
        read_automation(sent)
    with pytest.raises(BadInput, match=r"^config: must be an object with event_type, "):
        read_automation({"name": "errors", "config": wrong})


def test_a_description_is_bounded_since_each_notification_has_it():
    with pytest.raises(BadInput, match=r"^description: .* at most 2000 characters"):
        read_automation({**body(), "description": "a" * 2001})


def test_unknown_fields_are_refused_where_they_stand():
    assert refusal({"retries": 3}).startswith("config.action.retries: ")
    assert refusal(colour="red").startswith("config.colour: ")


def test_a_change_of_one_field_of_config_leaves_the_others():
    before = stored(btql_filter="error is not null", has_authorization=True)
    after = patch_automation(before, {"config": {"status": "paused"}})
    assert after == AutomationFields(
        name="errors", description=None, btql_filter="error is not null", interval_s=60,
        status=AutomationStatus.PAUSED, action=before.action, authorization=HIDDEN,
    )


def test_a_mask_stands_for_what_is_stored_for_the_same_server():
    webhook = stored(has_authorization=True)
    sent = read({"authorization": HIDDEN, "url": "HTTPS://EXAMPLE.com/other"})
    assert with_stored_secrets(sent, webhook) == sent

    slack = stored(action=SlackAction(url=SLACK_URL))
    shown = config_json(slack, shows_url=False)["action"]
    assert with_stored_secrets(read(action=shown), slack).action == slack.action


@pytest.mark.parametrize(
    ("sent", "present", "why"),
    [
        ({"authorization": HIDDEN}, None, "send the value itself"),
        ({"authorization": HIDDEN}, stored(), "send the value itself"),
        (
            {"authorization": HIDDEN, "url": "https://other.example/hook"},
            stored(has_authorization=True), "send the value again",
        ),
        (
            {"authorization": HIDDEN, "url": "https://["}, stored(has_authorization=True),
            "send the value again",
        ),
    ],
)
def test_a_mask_of_another_servers_secret_or_of_none_is_refused(sent, present, why):
    with pytest.raises(BadInput, match=why):
        with_stored_secrets(read(sent), present)


@pytest.mark.parametrize(
    "present",
    [
        None, stored(), stored(action=SlackAction(url="https://other.example/services/x")),
    ],
)
def test_a_mask_of_no_stored_url_is_refused(present):
    sent = read(action={"type": "slack", "url": f"https://hooks.slack.com/{HIDDEN}"})
    with pytest.raises(BadInput, match="send the whole URL"):
        with_stored_secrets(sent, present)


def test_what_is_shown_to_administrators_can_be_sent_back():
    for each in (
        stored(action=WebhookAction(url=URL, headers={"X-A": "1"}), has_authorization=True),
        stored(action=SlackAction(url=SLACK_URL), status=AutomationStatus.PAUSED),
    ):
        sent = read_automation({"name": each.name, "config": config_json(each)})
        kept = with_stored_secrets(sent, each)
        assert replace(kept, authorization=None) == AutomationFields(
            name=each.name, description=None, btql_filter=each.btql_filter,
            interval_s=each.interval_s, status=each.status, action=each.action,
            authorization=None,
        )
