"""Deliveries while workers, receivers and stores fail: at least once, and under one id."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.webhook_receiver import Answering, WebhookReceiver, never_answer, status
from stack import Stack

WORKER = "automations"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    made = make_stack()
    made.start("api", WORKER, "beat")
    return made


def automation(stack: Stack, project: str, name: str, url: str) -> dict[str, Any]:
    return stack.ok("POST", "/v1/project_automation", {
        "project_id": project, "name": name,
        "config": {
            "event_type": "logs", "btql_filter": "", "interval_seconds": 3600,
            "action": {"type": "webhook", "url": url},
        },
    })


def states(stack: Stack, made: dict[str, Any]) -> list[str]:
    listed = stack.ok("GET", f"/v1/project_automation/{made['id']}/deliveries")["objects"]
    return [each["state"] for each in listed]


def attempts(stack: Stack, made: dict[str, Any]) -> list[dict[str, Any]]:
    (listed,) = stack.ok("GET", f"/v1/project_automation/{made['id']}/deliveries")["objects"]
    return stack.ok("GET", f"/v1/automation_delivery/{listed['id']}")["attempt_log"]


def test_a_worker_that_dies_while_it_waits_for_an_answer_sends_again_under_the_same_id(
    stack: Stack, receiver: WebhookReceiver
) -> None:
    receiver.behave(never_answer, status(204))
    project = stack.project()
    made = automation(stack, project, "a", receiver.url)
    stack.insert(project, {"id": "row"})
    stack.wait_until(lambda: len(receiver.requests) == 1, deadline_s=60)

    stack.kill(WORKER, signal.SIGKILL)
    stack.start(WORKER)

    stack.wait_until(lambda: states(stack, made) == ["delivered"], deadline_s=60)
    assert len(receiver.requests) == 2
    assert len(set(receiver.message_ids)) == 1
    assert len({each.body for each in receiver.requests}) == 1
    assert [each["status"] for each in attempts(stack, made)] == [None, 204]


def test_a_worker_that_dies_after_its_receiver_took_it_leaves_one_delivery(
    stack: Stack, receiver: WebhookReceiver
) -> None:
    def take_then_kill(to: Answering) -> None:
        stack.kill(WORKER, signal.SIGKILL)
        status(204)(to)

    receiver.behave(take_then_kill, status(204))
    project = stack.project()
    made = automation(stack, project, "a", receiver.url)
    stack.insert(project, {"id": "row"})
    stack.wait_until(
        lambda: len(receiver.requests) == 1 and not stack.is_running(WORKER), deadline_s=60
    )
    stack.start(WORKER)

    stack.wait_until(lambda: states(stack, made) == ["delivered"], deadline_s=60)
    assert len(set(receiver.message_ids)) == 1


def test_a_slow_receiver_and_a_dead_one_delay_no_other(
    stack: Stack, receiver: WebhookReceiver
) -> None:
    with WebhookReceiver() as slow, WebhookReceiver() as gone:
        slow.behave(never_answer)
        dead = gone.url
        gone.stop()
        for number in range(6):
            for name, url in (("slow", slow.url), ("dead", dead)):
                project = stack.project()
                automation(stack, project, name, f"{url}/{number}")
                stack.insert(project, {"id": "row"})
        stack.wait_until(lambda: slow.in_flight == 6, deadline_s=60)
        held: list[int] = []

        def look_then_take(to: Answering) -> None:
            held.append(slow.in_flight)
            status(204)(to)

        receiver.behave(look_then_take)
        project = stack.project()
        made = automation(stack, project, "good", receiver.url)
        stack.insert(project, {"id": "row"})
        stack.wait_until(lambda: states(stack, made) == ["delivered"], deadline_s=60)
        assert held[0] > 0   # the slow ones were still waited for


def test_a_worker_that_is_told_to_stop_leaves_nothing_behind(
    stack: Stack, receiver: WebhookReceiver
) -> None:
    receiver.behave(never_answer, status(204))
    project = stack.project()
    made = automation(stack, project, "a", receiver.url)
    stack.insert(project, {"id": "row"})
    stack.wait_until(lambda: len(receiver.requests) == 1, deadline_s=60)

    stack.stop(WORKER)
    stack.start(WORKER)

    stack.wait_until(lambda: states(stack, made) == ["delivered"], deadline_s=60)
    assert len(set(receiver.message_ids)) == 1
