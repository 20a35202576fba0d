"""A worker that is asked to stop leaves no claims that other workers must wait for."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
from checker import query
from fakes.judge import FakeJudge
from load import span
from stack import Stack


def test_a_judge_worker_asked_to_stop_holds_nothing_and_counts_as_no_death(
    own_stack: Stack, stack_judge: FakeJudge
) -> None:
    own_stack.start("api", "match", "judge")
    project = own_stack.project()
    own_stack.rule(project, "Factuality")
    own_stack.insert(project, span("stopping", input="<stopping> judge!ok;delay=1"))
    own_stack.wait_until(
        lambda: asked(stack_judge, "stopping"), deadline_s=30, what="the call"
    )

    own_stack.kill("judge", signal.SIGTERM)
    own_stack.wait_until(
        lambda: not own_stack.is_running("judge"), deadline_s=15, what="the worker's end"
    )

    assert query(own_stack.database_url, "select owner, deaths from outcome") == [
        {"owner": None, "deaths": 0}
    ]
    own_stack.start("judge")
    assert own_stack.scored(project, "stopping")["scores"].keys() == {"Factuality"}


def asked(judge: FakeJudge, row_id: str) -> int:
    return sum(f"<{row_id}>" in call.prompt for call in judge.calls)


def test_a_sandbox_worker_asked_to_stop_waits_for_no_code_and_counts_as_no_death(
    own_stack: Stack,
) -> None:
    own_stack.start("api", "match", "sandbox")
    project = own_stack.project()
    function = own_stack.function(
        project, "import time\ndef handler():\n    time.sleep(20)\n    return 1\n",
        metadata={"sandbox": {"time_s": 25}},
    )
    own_stack.function_rule(project, {"id": function["id"]})
    own_stack.insert(project, span("stopping"))
    worker = psutil.Process(own_stack.children["sandbox"].process.pid)
    own_stack.wait_until(
        lambda: query(own_stack.database_url, HELD) and depth(worker) >= CHILD_DEPTH,
        deadline_s=30, what="the code to run",
    )
    family = worker.children(recursive=True)

    own_stack.kill("sandbox", signal.SIGTERM)
    own_stack.wait_until(
        lambda: not own_stack.is_running("sandbox"), deadline_s=15, what="the worker's end"
    )

    _, alive = psutil.wait_procs(family, timeout=15)
    # One that only waits for init to be told has ended.
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert query(own_stack.database_url, "select owner, deaths, state from outcome") == [
        {"owner": None, "deaths": 0, "state": "pending"}
    ]


def test_a_sandbox_worker_asked_to_stop_hands_its_calls_over(own_stack: Stack) -> None:
    own_stack.start("api", "sandbox")
    project = own_stack.project()
    function = own_stack.function(
        project, "import time\ndef handler():\n    time.sleep(3)\n    return 1\n"
    )
    worker = psutil.Process(own_stack.children["sandbox"].process.pid)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            own_stack.http, "POST", f"/v1/function/{function['id']}/invoke", {"input": {}}
        )
        own_stack.wait_until(
            lambda: depth(worker) >= CHILD_DEPTH, deadline_s=30, what="the code to run"
        )
        own_stack.kill("sandbox", signal.SIGTERM)
        own_stack.wait_until(
            lambda: not own_stack.is_running("sandbox"), deadline_s=15, what="the worker's end"
        )
        own_stack.start("sandbox-2")
        answer = waiting.result(timeout=30)     # no beat rings here: it was the one that ended

    assert (answer.status, answer.json["score"]) == (200, 1)
    assert query(own_stack.database_url, TIMES_TAKEN) == [{"attempts": 2}]


TIMES_TAKEN = "select attempts from invocation where request ->> 'kind' = 'run'"
HELD = "select from outcome where owner is not null and queue = 'sandbox'"
CHILD_DEPTH = 5
"""Wall, its inner process, zygote, supervisor, child: the last runs the code."""


def depth(process: psutil.Process) -> int:
    """How many generations there are below a process."""
    try:
        return max((1 + depth(child) for child in process.children()), default=0)
    except psutil.NoSuchProcess:
        return 0
