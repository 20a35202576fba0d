"""A worker that is asked to stop leaves nothing behind that others would have to wait for."""

from __future__ import annotations

import signal

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
