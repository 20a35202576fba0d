"""A span that kills its workers gets an error after three deaths; other spans get scores."""

from __future__ import annotations

from collections.abc import Callable

from checker import CheckedRule, Checker, number, query
from fakes.judge import FakeJudge
from load import span
from stack import Stack

NEIGHBOURS = 20
KILLS_MAX = 12
MATCHING = "select count(*) from outbox where owner is not null"
# While somebody tries it, how often it was taken up: by match workers, then by heavy ones. Who
# takes it up after its third death only marks it, and has its neighbours in hand as well.
TRIES = """
    select (select coalesce(sum(attempts), 0) from outbox)
         + (select coalesce(sum(attempts), 0) from match_record)
         + (select coalesce(sum(attempts), 0) from shown_outcome where subject_id = 'poison')
     where exists (select from outbox where owner is not null)
        or exists (select from shown_outcome
                    where subject_id = 'poison' and owner is not null and deaths < 3)
    union all select 0 order by 1 desc limit 1"""
# Backtracks for longer than the universe has been there.
ENDLESS = {"type": "string", "pattern": "^(a+)+$"}
LONG_S = 60.0
POISON = "select state, error_class, deaths from shown_outcome where subject_id = 'poison'"


def test_a_span_that_kills_its_worker_is_poisoned_after_three_deaths_and_alone(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    stack = make_stack()
    stack.start("api", "match", "beat")
    project = stack.project()
    rule = stack.rule(project, "ValidJSON")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("ValidJSON",)),),
        error_classes=frozenset({"poisoned"}),
    )
    checker.watch()
    events = [
        span(f"n{place}", output='"aaa"', metadata={"schema": ENDLESS})
        for place in range(NEIGHBOURS)
    ]
    poison = span(
        "poison", output=f'"{"a" * 60}!"', metadata={"schema": ENDLESS}
    )
    events.insert(NEIGHBOURS // 2, poison)
    request = checker.log.send(events)
    stack.insert(project, *events)
    checker.log.acknowledge(request)
    stack.start("heavy")

    kill_whoever_tries_the_poison(stack)

    stack.wait_until(checker.is_quiet, deadline_s=LONG_S, what="quiet")
    assert query(stack.database_url, POISON) == [
        {"state": "errored", "error_class": "poisoned", "deaths": 3}
    ]
    (told,) = stack.explain(project, "poison")["rules"]
    assert told["status"] == "poisoned"
    others = query(
        stack.database_url,
        "select state, count(*) from shown_outcome where subject_id <> 'poison' "
        "group by state",
    )
    assert others == [{"state": "completed", "count": NEIGHBOURS}]
    checker.assert_holds()


def test_a_span_that_kills_the_match_worker_keeps_no_other_from_its_scores(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    """Ten seconds of Levenshtein run while matching, since no cost bound forbids it here."""
    stack = make_stack(cost_limit="1e12", lease_s="60")
    stack.start("api", "match", "heavy", "beat")
    project = stack.project()
    rule = stack.rule(project, "Levenshtein")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Levenshtein",)),),
        error_classes=frozenset({"poisoned"}),
    )
    checker.watch()
    dear = {"output": "a" * 300_000, "expected": "b" * 300_000}
    events = [span("n0"), span("poison", **dear), span("n1")]
    request = checker.log.send(events)
    stack.insert(project, *events)
    checker.log.acknowledge(request)

    for kills in range(KILLS_MAX):
        stack.wait_until(
            lambda kills=kills: checker.is_quiet() or number(stack.database_url, TRIES) > kills,
            deadline_s=LONG_S, what="the poison to be tried",
        )
        if checker.is_quiet():
            break
        is_matching = number(stack.database_url, MATCHING)
        stack.kill_pool("match" if is_matching else "heavy")

    stack.wait_until(checker.is_quiet, deadline_s=30, what="quiet")
    states = query(
        stack.database_url,
        "select subject_id, state, error_class from shown_outcome order by subject_id",
    )
    assert [tuple(row.values()) for row in states] == [
        ("n0", "completed", None), ("n1", "completed", None), ("poison", "errored", "poisoned"),
    ]
    checker.assert_holds()


def kill_whoever_tries_the_poison(stack: Stack) -> None:
    """Three times; the fourth worker is not to try it."""
    for attempt in range(1, 4):
        stack.wait_until(
            lambda attempt=attempt: query(
                stack.database_url,
                "select from shown_outcome where subject_id = 'poison' "
                "and owner is not null and attempts = %s", attempt,
            ),
            deadline_s=LONG_S, what=f"attempt {attempt} at the poison",
        )
        stack.kill_pool("heavy")
