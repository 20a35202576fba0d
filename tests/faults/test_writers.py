"""Concurrent writers of the same rows, and writers of a row that is being scored."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from checker import CheckedRule, Checker, query
from fakes.judge import FakeJudge
from load import span
from stack import Stack

ROWS = 40
ROUNDS = 12


def test_concurrent_writers_of_the_same_rows_in_any_order_are_all_answered(
    make_stack: Callable[..., Stack], check_project: Callable[..., Checker], judge: FakeJudge
) -> None:
    stack = make_stack()
    stack.start("api", "match", "match-2", "beat")
    checker = check_project(stack, judge)
    ids = [f"row{number}" for number in range(ROWS)]

    def write(writer: int) -> None:
        dice = random.Random(writer)
        for turn in range(ROUNDS):
            order = list(ids) if writer % 2 else ids[::-1]
            if writer > 2:
                dice.shuffle(order)
            events = [
                span(row_id, output=f"{writer} {turn}", _is_merge=bool(turn % 2))
                for row_id in order
            ]
            request = checker.log.send(events)
            answer = stack.http("POST", f"/v1/project_logs/{checker.project}/insert",
                                {"events": events})
            if answer.status != 200:
                checker.log.surprise(f"answered {answer.status}: {answer.body!r}")
            checker.log.acknowledge(request)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    stack.wait_until(checker.is_quiet, deadline_s=60, what="quiet")
    last = {f"{writer} {ROUNDS - 1}" for writer in range(4)}
    rows = query(stack.database_url, "select id, output from shown_span "
                 "where span_attributes is null order by id")
    assert [row["id"] for row in rows] == sorted(ids)
    assert {row["output"] for row in rows} <= last
    checker.log.sent = [
        (request, row["id"], {**span(row["id"]), "output": row["output"]})
        for row in rows for request in checker.log.acknowledged[:1]
    ]   # which of the four came last is not ours to know
    checker.assert_holds()


@pytest.mark.parametrize("matches_first", [True, False])
def test_content_that_changes_under_a_judge_supersedes_its_late_result(
    make_stack: Callable[..., Stack], judge: FakeJudge, matches_first: bool
) -> None:
    stack = make_stack(lease_s="30")
    stack.start("api", "match", "judge", "beat")
    project = stack.project()
    rule = stack.rule(project, "Factuality")
    checker = Checker(
        stack.database_url, project, rules=(CheckedRule(id=rule, scorers=("Factuality",)),),
        judge=judge,
    )
    checker.watch()
    judge.then("ok;delay=4;choice=D", "ok;delay=1;choice=C")   # 0 and 1
    log(checker, stack, span("one"))
    stack.wait_until(lambda: judge.calls, deadline_s=30, what="the call")
    if not matches_first:
        stack.stop("match")

    log(checker, stack, {"id": "one", "output": "5", "_is_merge": True})

    if not matches_first:
        stack.wait_until(
            lambda: query(stack.database_url, "select from outcome where state <> 'pending'"),
            deadline_s=30, what="the late result",
        )
        stack.start("match")
    stack.wait_until(
        lambda: len(judge.calls) == 2 and checker.is_quiet() and not judge.in_flight,
        deadline_s=30, what="quiet",
    )
    checker.assert_holds()
    outcomes = query(
        stack.database_url,
        "select state, scores is not null as has_scores from outcome order by subject_version",
    )
    assert outcomes == [
        {"state": "superseded", "has_scores": not matches_first},
        {"state": "completed", "has_scores": True},
    ]
    row = stack.row(project, "one")
    assert row is not None
    assert row["scores"] == {"Factuality": 1}
    assert len(stack.score_spans(project, "one")) == 1


def log(checker: Checker, stack: Stack, event: dict) -> None:
    request = checker.log.send([event])
    stack.insert(checker.project, event)
    checker.log.acknowledge(request)
