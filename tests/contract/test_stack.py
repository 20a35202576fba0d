"""From a span sent over HTTP to its score, on real processes."""

from __future__ import annotations

import time

import psutil
from stack import Stack


def test_a_finished_span_gets_the_score_of_a_rule(stack: Stack) -> None:
    project = stack.project()
    stack.rule(project, "ExactMatch")

    stack.insert(
        project,
        {"id": "a", "input": "2 + 2", "output": "4", "expected": "4",
         "metrics": {"end": time.time()}},
    )

    assert stack.scored(project, "a")["scores"] == {"ExactMatch": 1}


def test_a_stack_of_ones_own_starts_scores_and_stops(own_stack: Stack) -> None:
    own_stack.start("api", "match")
    pids = own_stack.pids("api") + own_stack.pids("match")
    project = own_stack.project()
    own_stack.rule(project, "ExactMatch")
    own_stack.insert(
        project, {"id": "a", "output": "4", "expected": "5", "metrics": {"end": 1.0}}
    )
    assert own_stack.scored(project, "a")["scores"] == {"ExactMatch": 0}

    own_stack.stop()

    assert not [pid for pid in pids if psutil.pid_exists(pid)]
