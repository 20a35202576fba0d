"""Budgets through the whole pipeline: what they hold back, how it is told, and how it ends."""

from __future__ import annotations

from checker import number, query
from fakes.judge import FakeJudge
from load import span
from stack import Stack

HELD = """
    select count(*) from outcome
     where state = 'pending' and starts_with(queue, 'held:budget:')
"""
DONE = "select count(*) from outcome where state = 'completed'"
SETTLED_S = 60.0
ROWS, CALLS = 6, 2


def test_what_a_budget_holds_back_is_told_with_its_reason_and_runs_when_it_is_raised(
    own_stack: Stack, stack_judge: FakeJudge
) -> None:
    own_stack.start("api", "match", "judge", "automations", "beat")
    project = own_stack.project("capped")
    own_stack.rule(project, "Factuality")
    budget = {"project_id": project, "period": "day", "calls": CALLS}
    own_stack.ok("PUT", "/v1/budget", budget)
    before = len(stack_judge.calls)

    ids = own_stack.insert(project, *(span(f"row {one}") for one in range(ROWS)))
    own_stack.wait_until(
        lambda: number(own_stack.database_url, HELD) == ROWS - CALLS
        and number(own_stack.database_url, DONE) == CALLS,
        deadline_s=SETTLED_S, what="the rest to be held back",
    )

    assert len(stack_judge.calls) - before == CALLS
    (told,) = own_stack.ok("GET", f"/v1/budget?project_id={project}")["objects"]
    assert (told["calls_spent"], told["calls_reserved"]) == (CALLS, 0)
    assert told["held"] == ROWS - CALLS
    assert "holds it back: of 2 calls, " in told["reason"]
    explained = [own_stack.explain(project, one)["rules"][0]["text"] for one in ids]
    assert sum("holds it back: of 2 calls" in text for text in explained) == ROWS - CALLS
    metrics = own_stack.http("GET", "/metrics").body.decode()
    labels = f'budget="{told["id"]}",period="day",subject="project",subject_id="{project}"'
    assert f"tallyard_budget_held_outcomes{{{labels}}} {ROWS - CALLS}.0" in metrics
    assert f'tallyard_budget_cap{{{labels},unit="calls"}} {CALLS}.0' in metrics
    assert f'tallyard_budget_spent{{{labels},unit="calls"}} {CALLS}.0' in metrics
    shown = own_stack.tallyard("budgets", "list", "--project", "capped").stdout
    assert f"holds back {ROWS - CALLS} outcomes" in shown

    raised = own_stack.tallyard(
        "budgets", "set", "--project", "capped", "--calls", "100"
    )
    assert raised.returncode == 0, raised.stderr
    own_stack.wait_until(
        lambda: number(own_stack.database_url, DONE) == ROWS,
        deadline_s=SETTLED_S, what="what was held back to run",
    )
    assert len(stack_judge.calls) - before == ROWS
    attempts = query(own_stack.database_url, "select distinct attempts from outcome")
    assert attempts == [{"attempts": 1}]
