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

MATCHED = "select from match_record"
REFUSED = "select from counter where name = 'stale_fences'"
MATCHING = "select from outbox where owner is not null"
READING = (
    "select from pg_stat_activity where datname = current_database() "
    "and wait_event_type = 'Lock' and application_name like 'tallyard %%'"
)
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
    stack = make_stack(lease_s="1", match_processes="1")
    stack.start("api", "beat")
    checker = logging_to_a_rule(stack)
    log(stack, checker, "one")

    child = frozen_over_a_batch(stack, entries=1)
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
    stack = make_stack(lease_s="1", match_processes="1")
    stack.start("api", "beat")
    checker = logging_to_a_rule(stack)
    log(stack, checker, "one")
    log(stack, checker, "two")

    child = frozen_over_a_batch(stack, entries=2)
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


def logging_to_a_rule(stack: Stack) -> Checker:
    """A checker of a new project with one rule."""
    project = stack.project()
    rule = stack.rule(project, "Levenshtein")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Levenshtein",)),)
    )
    checker.watch()
    return checker


def log(stack: Stack, checker: Checker, row_id: str) -> None:
    request = checker.log.send([span(row_id)])
    stack.insert(checker.project, span(row_id))
    checker.log.acknowledge(request)


def frozen_over_a_batch(stack: Stack, *, entries: int) -> int:
    """Starts a match worker, and freezes it once it holds all entries and reads the rules.

    Returns the id of the frozen process. A lock keeps the rules from it until then, so that it
    is never frozen in the middle of a write.
    """
    with connect(stack.database_url) as connection, connection.transaction():
        connection.execute("lock table rule_set in access exclusive mode")
        stack.start("match")
        stack.wait_until(
            lambda: (
                len(query(stack.database_url, MATCHING)) == entries
                and query(stack.database_url, READING)
            ),
            deadline_s=30, what="one worker to hold all entries and to read the rules",
        )
        _, child, *_ = stack.pids("match")
        os.kill(child, signal.SIGSTOP)
    return child
