"""Automations are tested before and after they are stored, and their alerts arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fakes.webhook_receiver import WebhookReceiver, status
from stack import Stack
from standardwebhooks import Webhook

from ops.servers.children import wait_until

ALL = "/v1/project_automation"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def alert(project: str, receiver: WebhookReceiver, **config: Any) -> dict[str, Any]:
    return {"project_id": project, "name": "errors", "config": {
        "event_type": "logs", "btql_filter": "error is not null", "interval_seconds": 3600,
        "action": {"type": "webhook", "url": receiver.url}, **config,
    }}


def details_of(receiver: WebhookReceiver) -> list[Any]:
    return [orjson.loads(each.body)["details"] for each in receiver.requests]


def test_a_test_before_saving_is_delivered_and_stores_nothing(
    stack: Stack, project: str, receiver: WebhookReceiver
) -> None:
    stack.insert(project, {"id": "a", "error": "x"}, {"id": "b", "error": "y"}, {"id": "c"})

    done = stack.ok("POST", f"{ALL}/test", alert(project, receiver))

    assert (done["delivered"], done["error"], done["count"]) == (True, None, 2)
    (sent,) = receiver.requests
    assert sent.headers["webhook-id"] == done["delivery_id"]
    Webhook(done["secret"]).verify(sent.body, sent.headers)
    (details,) = details_of(receiver)
    assert (details["is_test"], details["count"]) == (True, 2)
    assert (details["time_start"], details["time_end"]) == (
        done["time_start"], done["time_end"]
    )
    assert stack.ok("GET", f"{ALL}?project_id={project}")["objects"] == []


def test_a_test_of_a_stored_automation_is_signed_with_its_secret(
    stack: Stack, project: str, receiver: WebhookReceiver
) -> None:
    stack.insert(project, {"id": "a", "error": "x"})
    made = stack.ok("POST", ALL, alert(project, receiver))

    done = stack.ok("POST", f"{ALL}/{made['id']}/test")

    assert done["delivered"]
    assert "secret" not in done
    (sent,) = receiver.requests
    Webhook(made["secret"]).verify(sent.body, sent.headers)
    history = stack.ok("GET", f"{ALL}/{made['id']}/history")
    assert [(each["kind"], each["state"]) for each in history["entries"]] == [
        ("test", "delivered")
    ]


def test_a_test_whose_receiver_fails_says_how(
    stack: Stack, project: str, receiver: WebhookReceiver
) -> None:
    receiver.behave(status(500))
    stack.insert(project, {"id": "a", "error": "x"})
    done = stack.ok("POST", f"{ALL}/test", alert(project, receiver))
    assert not done["delivered"]
    assert "500" in done["error"]
    assert len(receiver.requests) == 1


def test_if_no_log_matches_nothing_is_sent_and_the_nearest_are_told(
    stack: Stack, project: str, receiver: WebhookReceiver
) -> None:
    stack.insert(project, {"id": "near", "error": "x", "metadata": {"env": "dev"}})
    asked = alert(
        project, receiver, btql_filter="error is not null and metadata.env = 'prod'"
    )
    refused = stack.http("POST", f"{ALL}/test", asked)
    assert refused.status == 400
    assert refused.error.startswith("no logs match in the last 1 hour")
    assert "metadata.env = 'prod' failed: metadata.env is \"dev\"" in refused.error
    assert receiver.requests == []


def test_a_first_match_is_sent_and_its_history_told(
    stack: Stack, project: str, receiver: WebhookReceiver
) -> None:
    made = stack.ok("POST", ALL, alert(project, receiver))
    stack.insert(project, {"id": "a", "error": "x"}, {"id": "b"})
    assert wait_until(lambda: len(receiver.requests) == 1, deadline_s=30)
    (details,) = details_of(receiver)
    assert (details["is_test"], details["count"]) == (False, 1)

    def told() -> list[Any]:
        entries = stack.ok("GET", f"{ALL}/{made['id']}/history")["entries"]
        return [each for each in entries if each["kind"] == "notification"]

    assert wait_until(
        lambda: [each["state"] for each in told()] == ["delivered"], deadline_s=30
    )
    entries = stack.ok("GET", f"{ALL}/{made['id']}/history")["entries"]
    fired = [each for each in entries if each.get("decision") == "fired"]
    assert [each["delivery_id"] for each in fired] == receiver.message_ids


def test_a_test_on_the_command_line_says_what_became_of_it(
    stack: Stack, project: str, receiver: WebhookReceiver
) -> None:
    name = stack.ok("GET", f"/v1/project/{project}")["name"]
    stack.ok("POST", ALL, alert(project, receiver))
    nothing = stack.tallyard("automations", "test", "errors", "--project", name)
    assert nothing.returncode == 1
    assert "no logs match in the last 1 hour" in nothing.stderr

    stack.insert(project, {"id": "a", "error": "x"})
    done = stack.tallyard("automations", "test", "errors", "--project", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 log matches; delivered the test msg_")

    receiver.behave(status(500))
    failed = stack.tallyard("automations", "test", "errors", "--project", name)
    assert failed.returncode == 1
    assert "failed: " in failed.stderr
