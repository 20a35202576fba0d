"""A worker that sleeps past the end of its lease has lost its claims when it wakes up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from checker import CheckedRule, Checker, connect, query
from fakes.judge import FakeJudge
from load import span
from stack import Stack
from zombies import judge_zombie

MATCHED = "select from outbox where matched_at is not null"
REFUSED = "select from counter where name = 'stale_fences'"
MATCHING = "select from outbox where owner is not null"
STALE = "select coalesce(sum(value), 0) as sum from counter where name = 'stale_fences'"


def test_a_frozen_judge_worker_that_wakes_up_late_is_refused_by_the_fence(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    stack = make_stack(lease_s="1")

    checker = judge_zombie(stack, judge)

    checker.assert_holds()
    outcomes = query(stack.database_url, "select state, attempts, fence from outcome")
    assert outcomes == [{"state": "completed", "attempts": 2, "fence": 2}]
    assert query(stack.database_url, STALE) == [{"sum": 1}]


def test_a_frozen_match_worker_that_wakes_up_late_is_refused_by_the_fence(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    """A second of Levenshtein while matching leaves the time to freeze it."""
    stack = make_stack(lease_s="1", cost_limit="1e12")
    stack.start("api", "match", "heavy", "beat")
    project = stack.project()
    rule = stack.rule(project, "Levenshtein")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Levenshtein",)),)
    )
    checker.watch()
    dear = span("one", output="a" * 150_000, expected="b" * 150_000)
    request = checker.log.send([dear])
    stack.insert(project, dear)
    checker.log.acknowledge(request)

    stack.wait_until(
        lambda: query(stack.database_url, MATCHING),
        deadline_s=30, what="matching",
    )
    _, child, *_ = stack.pids("match")
    os.kill(child, signal.SIGSTOP)
    stack.start("match-2")
    stack.wait_until(
        lambda: query(stack.database_url, MATCHED),
        deadline_s=30, what="another worker to match",
    )
    os.kill(child, signal.SIGCONT)
    stack.wait_until(
        lambda: query(stack.database_url, REFUSED), deadline_s=30, what="the late end"
    )

    stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")
    checker.assert_holds()
    assert query(stack.database_url, "select state from outcome") == [{"state": "completed"}]


def test_a_late_match_worker_that_lost_part_of_its_batch_leaves_the_rest_to_others(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    stack = make_stack(lease_s="1", cost_limit="1e12")
    stack.start("api", "heavy", "beat")
    project = stack.project()
    rule = stack.rule(project, "Levenshtein")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Levenshtein",)),)
    )
    checker.watch()
    for event in (span("one", output="a" * 150_000, expected="b" * 150_000), span("two")):
        request = checker.log.send([event])
        stack.insert(project, event)
        checker.log.acknowledge(request)
    stack.start("match")
    stack.wait_until(
        lambda: len(query(stack.database_url, MATCHING)) == 2,
        deadline_s=30, what="one worker to hold both entries",
    )
    _, child, *_ = stack.pids("match")
    os.kill(child, signal.SIGSTOP)

    with connect(stack.database_url) as connection, connection.transaction():
        # Whoever claims now passes the second entry over.
        connection.execute("select from outbox order by seq desc limit 1 for update")
        stack.start("match-2")
        stack.wait_until(
            lambda: query(stack.database_url, MATCHED),
            deadline_s=30, what="another worker to match the first",
        )
        stack.kill("match-2")
    os.kill(child, signal.SIGCONT)
    stack.wait_until(
        lambda: query(stack.database_url, REFUSED), deadline_s=30, what="the late end"
    )

    stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")
    checker.assert_holds()
