"""Automations while beat, workers and databases fail: every match is reported, under one id."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import pytest
from fakes.webhook_receiver import WebhookReceiver
from stack import Stack

WORKER = "automations"
INTERVAL_S = 2


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


@dataclass
class Watched:
    """An automation for every row of a project of its own, and what its receiver was told."""

    stack: Stack
    receiver: WebhookReceiver
    logged: int = 0

    def __post_init__(self) -> None:
        self.project = self.stack.project()
        self.automation = self.stack.ok("POST", "/v1/project_automation", {
            "project_id": self.project, "name": "all", "config": {
                "event_type": "logs", "btql_filter": "", "interval_seconds": INTERVAL_S,
                "action": {"type": "webhook", "url": self.receiver.url},
            },
        })

    def log(self, rows: int = 5) -> None:
        self.stack.insert(self.project, *({"input": "x"} for _ in range(rows)))
        self.logged += rows

    def log_until(self, is_enough: Callable[[], bool]) -> None:
        """Logs a few rows again and again."""
        def log_more() -> bool:
            self.log()
            return is_enough()

        self.stack.wait_until(log_more, deadline_s=60)

    def told(self) -> list[dict[str, Any]]:
        """The details of each message, once for each id, in the order of their windows."""
        bodies = {each.headers["webhook-id"]: each.body for each in self.receiver.requests}
        details = [orjson.loads(body)["details"] for body in bodies.values()]
        return sorted(details, key=lambda one: one["time_end"])

    def reported(self) -> int:
        return sum(one["count"] for one in self.told())

    def wait_until_all_are_reported(self) -> None:
        self.stack.wait_until(lambda: self.reported() >= self.logged, deadline_s=90)
        assert self.reported() == self.logged


def is_apart(told: list[dict[str, Any]]) -> bool:
    """Whether no two windows overlap."""
    ends = [(one["time_start"], one["time_end"]) for one in told]
    return all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


def test_two_beats_and_two_workers_report_each_match_once(
    make_stack: Callable[..., Stack], receiver: WebhookReceiver
) -> None:
    stack = make_stack()
    stack.start("api", WORKER, f"{WORKER}-2", "beat", "beat-2")
    watched = Watched(stack, receiver)
    watched.log_until(lambda: len(watched.told()) == 4)
    watched.wait_until_all_are_reported()
    assert is_apart(watched.told())


def test_workers_that_are_killed_again_and_again_lose_and_double_no_match(
    make_stack: Callable[..., Stack], receiver: WebhookReceiver
) -> None:
    stack = make_stack()
    stack.start("api", WORKER, "beat")
    watched = Watched(stack, receiver)
    for _ in range(4):
        told = len(watched.told())
        watched.log_until(lambda told=told: len(watched.told()) > told)
        stack.kill(WORKER, signal.SIGKILL)
        watched.log()
        stack.start(WORKER)
    watched.wait_until_all_are_reported()
    assert is_apart(watched.told())


def test_without_beat_nothing_is_told_and_then_all_at_once(
    make_stack: Callable[..., Stack], receiver: WebhookReceiver
) -> None:
    stack = make_stack()
    stack.start("api", WORKER, "beat")
    watched = Watched(stack, receiver)
    watched.log()
    watched.wait_until_all_are_reported()
    stack.stop("beat")
    back_at = time.monotonic() + 3.5 * INTERVAL_S
    watched.log_until(lambda: time.monotonic() > back_at)

    stack.start("beat")
    watched.wait_until_all_are_reported()
    before, caught_up = watched.told()[-2:]
    assert caught_up["time_start"] == before["time_end"]
    lasted = datetime.fromisoformat(caught_up["time_end"]) - datetime.fromisoformat(
        caught_up["time_start"]
    )
    assert lasted.total_seconds() > 3 * INTERVAL_S


def test_a_score_that_a_rule_gives_later_fires_an_alert(
    make_stack: Callable[..., Stack], receiver: WebhookReceiver
) -> None:
    stack = make_stack()
    stack.start("api", WORKER, "beat", "match")
    project = stack.project()
    stack.rule(project, "Levenshtein")
    stack.ok("POST", "/v1/project_automation", {
        "project_id": project, "name": "low", "config": {
            "event_type": "logs", "btql_filter": "scores.Levenshtein < 0.5",
            "interval_seconds": 3600,
            "action": {"type": "webhook", "url": receiver.url},
        },
    })
    ended = {"metrics": {"start": 1, "end": 2}, "expected": "kitten"}
    stack.insert(
        project, {"id": "good", "output": "kitten", **ended},
        {"id": "bad", "output": "dog", **ended},
    )
    stack.wait_until(lambda: receiver.requests, deadline_s=60)
    details = orjson.loads(receiver.requests[0].body)["details"]
    assert details["count"] == 1
