"""A re-score job scores each row once, whoever is killed, and does at once what it is told."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from checker import number, query
from fakes.judge import FakeJudge
from load import span
from stack import Stack

SEED = 23
ROWS_EACH = 1000
WORKERS = ("match", "heavy", "judge", "automations")
EVERYTHING = ("api", *WORKERS, "beat")
ACTIONS = 20
AT_ONCE_S = 2.0
"""How soon an action must hold."""


SLOW_CALL_S = 0.02

ENDED = "select state from rescore_job where id = %s"
DONE = """
    select count(*) from outcome
      join rescore_job using (job_no) where rescore_job.id = %s and outcome.state <> 'pending'
"""
CLAIMABLE = """
    select count(*) from outcome join rescore_job using (job_no)
     where rescore_job.id = %s and outcome.state = 'pending' and owner is null
       and not starts_with(outcome.queue, 'held:')
"""
BEGUN = """
    select coalesce(sum(records) filter (where step_no < next_step), 0) + max(next_row)
      from rescore_job join rescore_step using (job_no) where rescore_job.id = %s
"""


def log_rows(stack: Stack, project: str, many: int) -> None:
    """Log rows, and wait until they are matched: no rule scores them."""
    for first in range(0, many, ROWS_EACH):
        stack.insert(project, *(
            span(f"row{place}") for place in range(first, min(many, first + ROWS_EACH))
        ))
    stack.wait_until(
        lambda: not number(stack.database_url, "select count(*) from outbox"), deadline_s=60
    )


def rescore(stack: Stack, project: str, *scorers: str, **more: object) -> str:
    """The id of a new job over all rows of the project."""
    answer = stack.http("POST", "/v1/rescore", {
        "project_id": project, "filter": "", "scorers": list(scorers), **more,
    })
    assert answer.status in {200, 201, 202}, answer.body
    return str(answer.json["id"])


def state(stack: Stack, job: str) -> str:
    return str(number(stack.database_url, ENDED, job))


@pytest.mark.parametrize(
    "rows", [20_000, pytest.param(100_000, marks=pytest.mark.long)]
)
def test_a_job_during_which_everything_is_killed_twice_scores_each_row_once(
    make_stack: Callable[..., Stack], judge: FakeJudge, rows: int
) -> None:
    stack = make_stack()
    stack.start(*EVERYTHING)
    project = stack.project()
    log_rows(stack, project, rows)
    job = rescore(stack, project, "Levenshtein")

    for share in (0.2, 0.6):
        stack.wait_until(
            lambda share=share: number(stack.database_url, DONE, job) > rows * share,
            deadline_s=120, what="a part of the rows",
        )
        for name in EVERYTHING:
            stack.kill(name)
        assert state(stack, job) == "running"
        stack.start(*EVERYTHING)
    stack.wait_until(
        lambda: state(stack, job) == "completed", deadline_s=240,
        what=lambda: str(query(stack.database_url, "select * from rescore_job")),
    )

    (counts,) = query(
        stack.database_url,
        """select count(*) as outcomes, count(distinct subject_seq) as rows,
                  count(*) filter (where state = 'completed') as completed,
                  (select count(*) from span where scored_use is not null) as score_spans,
                  (select count(distinct scored_seq) from span) as scored,
                  (select count(*) from span_head where computed_by is not null) as shown
             from outcome""",
    )
    assert counts == dict.fromkeys(counts, rows)
    assert number(stack.database_url, "select sum(records) from rescore_step") == rows
    progress = stack.ok("GET", f"/v1/rescore/{job}")["progress"]
    assert (progress["completed"], progress["unreached"]) == (rows, 0)


def test_whatever_a_job_is_told_holds_within_two_seconds(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    stack = make_stack()
    judge.delay_s = SLOW_CALL_S
    stack.start(*EVERYTHING)
    project = stack.project()
    log_rows(stack, project, 10_000)
    job = rescore(stack, project, "Levenshtein", "Factuality", max_per_second=100)
    stack.wait_until(lambda: number(stack.database_url, DONE, job), deadline_s=30)
    dice = random.Random(SEED)
    told: Counter[str] = Counter()

    for _ in range(ACTIONS):
        is_paused = state(stack, job) == "paused"
        action = dice.choice(["resume", "resume", "rate"] if is_paused else
                             ["pause", "pause", "rate"])
        told[action] += 1
        if action == "pause":
            stack.ok("POST", f"/v1/rescore/{job}/pause")
            assert_stands_still(stack, judge, job)
        elif action == "resume":
            stack.ok("POST", f"/v1/rescore/{job}/resume")
            done = number(stack.database_url, DONE, job)
            stack.wait_until(
                lambda done=done: number(stack.database_url, DONE, job) > done,
                deadline_s=AT_ONCE_S, what="a row that is scored after the job was resumed",
            )
        else:
            rate = dice.choice([20, 60, 200])
            stack.ok("PATCH", f"/v1/rescore/{job}", {"max_per_second": rate})
            if not is_paused:
                assert_keeps_rate(stack, job, rate)

    if state(stack, job) == "paused":
        stack.ok("POST", f"/v1/rescore/{job}/resume")
    stack.ok("POST", f"/v1/rescore/{job}/cancel")
    stack.wait_until(
        lambda: state(stack, job) == "cancelled", deadline_s=AT_ONCE_S, what="its end"
    )
    calls = len(judge.calls)
    time.sleep(1)  # noqa: TID251 no state tells that nothing begins any more
    assert len(judge.calls) == calls
    counted = query(
        stack.database_url,
        """select state, count(*) as n, count(distinct (subject_seq, use_no)) as once
             from outcome group by state""",
    )
    assert {one["state"] for one in counted} <= {"completed", "superseded"}
    assert all(one["n"] == one["once"] for one in counted)
    assert {"pause", "resume", "rate"} <= told.keys()
    assert judge.calls


def assert_stands_still(stack: Stack, judge: FakeJudge, job: str) -> None:
    """Within two seconds nothing of the job can be claimed, and no call begins any more."""
    stack.wait_until(
        lambda: not number(stack.database_url, CLAIMABLE, job) and not judge.in_flight,
        deadline_s=AT_ONCE_S, what="a job that stands still",
    )
    stood = len(judge.calls), number(stack.database_url, BEGUN, job)
    time.sleep(0.3)  # noqa: TID251 no state tells that nothing begins any more
    assert (len(judge.calls), number(stack.database_url, BEGUN, job)) == stood


def assert_keeps_rate(stack: Stack, job: str, rate: int) -> None:
    """Within two seconds the job begins so many rows in a second, and not many more."""
    time.sleep(0.5)  # noqa: TID251 what is measured is a rate
    before, began = number(stack.database_url, BEGUN, job), time.monotonic()
    time.sleep(1.0)  # noqa: TID251 what is measured is a rate
    rows = number(stack.database_url, BEGUN, job) - before
    seconds = time.monotonic() - began
    assert rate * seconds * 0.3 <= rows <= rate * (seconds + 1.2)


def test_live_spans_are_scored_while_a_job_runs(
    make_stack: Callable[..., Stack], judge: FakeJudge
) -> None:
    stack = make_stack()
    stack.start(*EVERYTHING)
    project = stack.project()
    log_rows(stack, project, 10_000)
    stack.rule(project, "ExactMatch")
    job = rescore(stack, project, "Levenshtein")
    stack.wait_until(lambda: number(stack.database_url, DONE, job), deadline_s=30)

    waits = []
    for place in range(5):
        began = time.monotonic()
        stack.insert(project, span(f"live{place}"))
        stack.wait_until(
            lambda place=place: "ExactMatch" in (
                (stack.row(project, f"live{place}") or {}).get("scores") or {}
            ),
            deadline_s=10, what="a live score",
        )
        waits.append(time.monotonic() - began)

    assert state(stack, job) == "running"
    assert sorted(waits)[2] < 1.0
