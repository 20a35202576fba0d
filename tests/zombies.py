"""A judge worker that sleeps past its lease, and wakes while another does its work."""

from __future__ import annotations

import signal

from checker import CheckedRule, Checker, query
from fakes.judge import FakeJudge
from load import span
from stack import Stack

HELD = "select owner, fence, state from outcome"


def judge_zombie(stack: Stack, judge: FakeJudge) -> Checker:
    """A judge worker is frozen over a call until another one has taken over, and wakes up while
    that one still waits for its own answer. Returns after quiet."""
    stack.start("api", "match", "judge", "beat")
    project = stack.project()
    rule = stack.rule(project, "Factuality")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Factuality",)),),
        judge=judge,
    )
    checker.watch()
    judge.then("ok;delay=2;choice=A", "ok;delay=8;choice=B")
    request = checker.log.send([span("one")])
    stack.insert(project, span("one"))
    checker.log.acknowledge(request)

    stack.wait_until(lambda: judge.calls, deadline_s=30, what="the first call")
    stack.kill("judge", signal.SIGSTOP)
    stack.start("judge-2")
    stack.wait_until(
        lambda: len(judge.calls) == 2 and judge.in_flight == 1, deadline_s=30,
        what=lambda: f"the second call: {query(stack.database_url, HELD)}",
    )
    stack.kill("judge", signal.SIGCONT)
    stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")
    return checker
