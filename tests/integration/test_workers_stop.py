"""A worker that is asked to stop ends what it has in hand, and leaves nothing behind."""

from __future__ import annotations

import signal

from checker import query
from fakes.judge import FakeJudge
from load import span
from stack import Stack


def test_a_judge_worker_asked_to_stop_records_what_it_has_asked(
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

    assert query(own_stack.database_url, "select state, attempts from outcome") == [
        {"state": "completed", "attempts": 1}
    ]
    assert asked(stack_judge, "stopping") == 1


def asked(judge: FakeJudge, row_id: str) -> int:
    return sum(f"<{row_id}>" in call.prompt for call in judge.calls)
