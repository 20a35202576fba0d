"""No work is done twice if bells are duplicated, reordered or rung by anyone at any time."""

from __future__ import annotations

import random
from collections.abc import Callable

import redis
from checker import Checker, number
from fakes.judge import FakeJudge
from load import Load
from stack import Stack

from spans.queues import HEAVY, JUDGE, MATCH, QUEUES
from wiring.celery import make_celery

TASKS = {
    queue.name: queue.task for queue in QUEUES if queue.name in {MATCH, JUDGE, HEAVY}
}
COPIES = 20


def test_two_beats_and_doubled_and_reordered_bells_make_no_extra_outcomes_or_calls(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker],
    judge: FakeJudge, fresh_redis_url: str,
) -> None:
    stack = make_stack(lease_s="30")
    stack.start("api", "match", "match-2", "judge", "judge-2", "heavy", "beat", "beat-2")
    checker = check_project(stack, judge)
    dice = random.Random(6)

    with Load(stack, checker.project, checker.log, seed=6, requests_max=12) as load:
        while not load.is_over():
            ring(fresh_redis_url, dice)
            answered = load.answered
            stack.wait_until(
                lambda answered=answered: load.is_over() or load.answered > answered,
                deadline_s=30,
            )
    stack.wait_until(checker.is_quiet, deadline_s=60, what="quiet")
    checker.assert_holds()
    asked = len(judge.calls)
    steps = number(stack.database_url, "select count(*) from checker_history")
    assert asked > 0
    assert number(stack.database_url, "select max(fence) from outcome") == 1
    assert number(stack.database_url, "select max(attempts) from match_record") == 1

    ring(fresh_redis_url, dice)
    with redis.Redis.from_url(fresh_redis_url) as client:
        stack.wait_until(
            lambda: not (client.hlen("unacked") or any(client.llen(queue) for queue in TASKS)),
            deadline_s=30, what="every bell to be heard",
        )
    assert number(stack.database_url, "select count(*) from checker_history") == steps
    assert len(judge.calls) == asked


def ring(redis_url: str, dice: random.Random) -> None:
    """Copies of every queue's task, in any order."""
    with make_celery(redis_url) as celery:
        rings = list(TASKS) * COPIES
        dice.shuffle(rings)
        for queue in rings:
            celery.send_task(TASKS[queue], queue=queue)
