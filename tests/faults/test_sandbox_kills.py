"""Each span gets one correct outcome, whichever process dies while users' code runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
from checker import WAITING, number, query
from stack import Stack

SEED = 31
BATCH = 100
"""Rows that take three seconds together: long enough to be hit in the middle."""

QUIET_S = 60.0
HELD = "select count(*) from outcome where owner is not null and queue = 'sandbox'"
SLOW = """
    import time
    def handler(output):
        time.sleep(0.03)
        return output / 1000
"""


def jailed(stack: Stack) -> dict[str, list[psutil.Process]]:
    """The processes of the worker's sandboxes, by what they are."""
    found: dict[str, list[psutil.Process]] = {"bwrap": [], "zygote": [], "child": []}
    worker = psutil.Process(stack.children["sandbox"].process.pid)
    for process in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            parent = process.parent()
            if process.name() == "bwrap":
                found["bwrap"].append(process)
            elif parent is not None and parent.name() == "bwrap":
                found["zygote"].append(process)
            elif not process.children():
                found["child"].append(process)
    return found


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("victim", ["bwrap", "zygote", "child", "worker"])
def test_a_kill_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    make_stack: Callable[..., Stack], victim: str, kills: int
) -> None:
    stack = make_stack(retry_hours="0.1", backoff_max_s="0.5")
    stack.start("api", "match", "sandbox", "beat")
    project = stack.project()
    function = stack.function(project, SLOW, slug="share")
    rule = stack.function_rule(project, {"id": function["id"]})
    dice = random.Random(SEED)
    ids: list[str] = []
    for begin in range(0, kills * BATCH, BATCH):
        ids += stack.insert(
            project,
            *({"output": begin + one, "metrics": {"end": 1.0}} for one in range(BATCH)),
        )
        kill(stack, victim, dice)
        stack.start("sandbox")

    stack.wait_until(
        lambda: number(stack.database_url, WAITING) == 0, deadline_s=QUIET_S, what="quiet"
    )
    stack.ok("POST", f"/v1/project_logs/{project}/outcomes/retry", {})
    stack.wait_until(
        lambda: number(stack.database_url, WAITING) == 0, deadline_s=QUIET_S, what="quiet"
    )

    outcomes = query(
        stack.database_url,
        "select subject_id, state, error_class, scores -> 0 -> 'score' as score "
        "from shown_outcome where origin_id = %s", rule,
    )
    assert sorted(one["subject_id"] for one in outcomes) == sorted(ids)
    wrong = [
        one for one in outcomes
        if one["score"] != ids.index(one["subject_id"]) / 1000
        # What ends a child from outside looks like what a scorer does to itself.
        and not (victim == "child" and one["error_class"] == "killed")
    ]
    assert wrong == []
    shown = {row["id"]: row["scores"] for row in stack.rows(project) if row["id"] in set(ids)}
    right = [one for one in outcomes if one["state"] == "completed"]
    assert all(shown[one["subject_id"]] == {"share": one["score"]} for one in right)


def kill(stack: Stack, victim: str, dice: random.Random) -> None:
    """SIGKILL, once the worker holds something and the victim is there."""

    def victims() -> list[psutil.Process]:
        if not number(stack.database_url, HELD):
            return []
        found = jailed(stack)
        if victim == "worker":
            worker = psutil.Process(stack.children["sandbox"].process.pid)
            return [worker] if found["child"] else []
        return found[victim] if found["child"] else []

    def is_killed() -> bool:
        if not (found := victims()):
            return False
        if victim == "worker":
            stack.kill("sandbox")
            return True
        try:
            dice.choice(found).kill()
        except psutil.NoSuchProcess:
            return False   # a child may end by itself just then: the next one is killed
        return True

    stack.wait_until(is_killed, deadline_s=30, what=f"a {victim} at work")


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that only waits for init to be told has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_worker_leaves_no_process_behind(
    make_stack: Callable[..., Stack]
) -> None:
    stack = make_stack()
    stack.start("api", "match", "sandbox", "beat")
    project = stack.project()
    function = stack.function(project, SLOW)
    stack.function_rule(project, {"id": function["id"]})
    stack.insert(project, *({"output": 1, "metrics": {"end": 1.0}} for _ in range(200)))
    stack.wait_until(lambda: jailed(stack)["child"], deadline_s=30, what="a child at work")
    family = psutil.Process(stack.children["sandbox"].process.pid).children(recursive=True)

    stack.kill("sandbox")

    assert family
    stack.wait_until(
        lambda: not [one for one in family if is_alive(one)], deadline_s=10,
        what="the sandbox's processes to end",
    )
