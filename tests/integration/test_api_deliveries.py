"""Deliveries over HTTP and on the command line, sent by the real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.webhook_receiver import WebhookReceiver, status
from stack import Stack
from standardwebhooks.webhooks import Webhook


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def automation(
    stack: Stack, project: str, receiver: WebhookReceiver, *, interval_s: int = 3600,
) -> dict[str, Any]:
    return stack.ok("POST", "/v1/project_automation", {
        "project_id": project, "name": "errors",
        "config": {
            "event_type": "logs", "btql_filter": "error is not null",
            "interval_seconds": interval_s,
            "action": {"type": "webhook", "url": receiver.url, "headers": {"X-Team": "blue"}},
        },
    })


def deliveries(stack: Stack, made: dict[str, Any]) -> list[dict[str, Any]]:
    return stack.ok("GET", f"/v1/project_automation/{made['id']}/deliveries")["objects"]


def notified(stack: Stack, project: str, receiver: WebhookReceiver) -> dict[str, Any]:
    """An automation of which one notification was delivered."""
    made = automation(stack, project, receiver)
    stack.insert(project, {"input": "a", "error": "out of memory"})
    stack.wait_until(
        lambda: [each["state"] for each in deliveries(stack, made)] == ["delivered"],
        deadline_s=60,
    )
    return made


def test_a_match_is_posted_verifies_and_is_told_with_its_attempt(stack, receiver):
    project = stack.project()
    made = notified(stack, project, receiver)
    (request,) = receiver.requests
    body = Webhook(made["secret"]).verify(request.body, request.headers)
    assert (body["details"]["count"], body["details"]["is_test"]) == (1, False)
    assert request.headers["x-team"] == "blue"
    (listed,) = deliveries(stack, made)
    assert listed["webhook_id"] == request.headers["webhook-id"]
    for name in (listed["id"], listed["webhook_id"]):
        shown = stack.ok("GET", f"/v1/automation_delivery/{name}")
        assert shown["body"].encode() == request.body
        (attempt,) = shown["attempt_log"]
        assert (attempt["status"], attempt["address_family"]) == (204, "ipv4")
        assert attempt["error_class"] is None


def test_a_delivery_is_sent_again_with_its_id(stack, receiver):
    made = notified(stack, stack.project(), receiver)
    (listed,) = deliveries(stack, made)
    stack.ok("POST", f"/v1/automation_delivery/{listed['id']}/redeliver")
    stack.wait_until(lambda: len(receiver.requests) == 2, deadline_s=60)
    assert len(set(receiver.message_ids)) == 1
    answer = stack.ok(
        "POST", f"/v1/project_automation/{made['id']}/redeliver",
        {"since": "2020-01-01T00:00:00Z", "state": "abandoned"},
    )
    assert answer == {"redelivered": 0, "refused": []}


def test_a_failure_is_told_with_what_the_receiver_answered_and_its_next_attempt(
    stack, receiver
):
    receiver.behave(status(500, "no disk"))
    project = stack.project()
    made = automation(stack, project, receiver)
    stack.insert(project, {"input": "a", "error": "out of memory"})
    stack.wait_until(
        lambda: [each["last_error"] for each in deliveries(stack, made)]
        == ["the receiver answered 500"],
        deadline_s=60,
    )
    (listed,) = deliveries(stack, made)
    assert (listed["state"], listed["next_attempt_at"] is not None) == ("pending", True)
    shown = stack.ok("GET", f"/v1/automation_delivery/{listed['id']}")
    assert shown["attempt_log"][0]["response"] == "no disk"


def test_a_receiver_that_is_gone_pauses_the_automation_and_status_says_why(stack, receiver):
    receiver.behave(status(410))
    project = stack.project()
    made = automation(stack, project, receiver)
    stack.insert(project, {"input": "a", "error": "out of memory"})
    path = f"/v1/project_automation/{made['id']}"
    stack.wait_until(lambda: "disabled" in stack.ok("GET", path), deadline_s=60)
    told = stack.ok("GET", path)
    assert "410" in told["disabled"]["reason"]
    assert told["config"]["status"] == "paused"
    metrics = stack.http("GET", "/metrics").body.decode()
    assert "tallyard_disabled_automations" in metrics
    assert 'tallyard_deliveries_total{kind="notification",state="abandoned"}' in metrics
    assert 'tallyard_delivery_attempts_total{error_class="http_status"}' in metrics


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/automation_delivery/{id}", None),
    ("/v1/automation_delivery/{id}/redeliver", {}),
])
def test_another_organisation_finds_no_delivery(stack, receiver, path, body):
    made = notified(stack, stack.project(), receiver)
    (listed,) = deliveries(stack, made)
    answer = stack.http(
        "GET" if body is None else "POST", path.format(id=listed["id"]), body,
        key=stack.new_key("admin", org="strangers"),
    )
    assert answer.status == 404


@pytest.mark.parametrize("body", [
    {}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00Z", "state": "failed"},
    {"since": "2026-01-02", "until": "2026-01-01"}, {"since": "2026-01-02", "more": 1},
])
def test_a_range_that_cannot_be_read_is_refused(stack, receiver, body):
    made = automation(stack, stack.project(), receiver)
    answer = stack.http("POST", f"/v1/project_automation/{made['id']}/redeliver", body)
    assert answer.status == 400


def test_the_command_lists_shows_and_sends_again(stack, receiver):
    project = stack.project("of the command")
    made = notified(stack, project, receiver)
    (listed,) = deliveries(stack, made)
    chosen = ("--project", "of the command")
    out = stack.tallyard("deliveries", "list", *chosen).stdout
    assert listed["webhook_id"] in out
    assert "delivered  errors: 1 attempt" in out
    out = stack.tallyard(
        "deliveries", "list", "--json", "--automation", "errors", *chosen
    ).stdout
    assert json.loads(out)["id"] == listed["id"]
    out = stack.tallyard("deliveries", "show", listed["webhook_id"]).stdout
    assert "answered 204" in out
    assert receiver.requests[0].body.decode() in out
    out = stack.tallyard(
        "deliveries", "redeliver", "--automation", "errors", "--since", "1h", *chosen
    ).stdout
    assert out.startswith("1 delivery is sent again")
    stack.wait_until(lambda: len(receiver.requests) == 2, deadline_s=60)
    stack.tallyard("deliveries", "redeliver", listed["webhook_id"])
    stack.wait_until(lambda: len(receiver.requests) == 3, deadline_s=60)
    assert len(set(receiver.message_ids)) == 1


def test_the_command_names_what_it_needs(stack):
    for arguments in (
        ("redeliver",), ("redeliver", "msg_x"), ("show", "nothing"),
        ("redeliver", "x", "--automation", "y"),
    ):
        done = stack.tallyard("deliveries", *arguments)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
