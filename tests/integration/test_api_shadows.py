"""A shadow's outcomes, compared with those of the version in force."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from load import span
from stack import Stack

PROMPT = {
    "prompt": {"type": "completion", "content": "{{input}} {{output}}"},
    "options": {"model": "gpt-4o"},
    "parser": {"type": "llm_classifier", "use_cot": True, "choice_scores": {"A": 1, "B": 0.25}},
}

NOTHING = {
    "run_ms": 0, "calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "errors": 0,
}


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def judge(stack: Stack, project: str, second: float, **more: Any) -> dict[str, Any]:
    """A classifier whose choice B is worth `second`, or its next version."""
    parser = {**PROMPT["parser"], "choice_scores": {"A": 1, "B": second}}
    return dict(stack.ok("PUT", "/v1/function", {
        "project_id": project, "name": "polite", "slug": "polite", "function_type": "scorer",
        "function_data": {"type": "prompt"}, "prompt_data": {**PROMPT, "parser": parser},
        **more,
    }))


def compared(stack: Stack, function: dict[str, Any], query: str = "", **more: Any) -> Any:
    return stack.ok("GET", f"/v1/function/{function['id']}/shadow{query}", **more)


def test_a_shadow_is_compared_with_the_version_in_force(stack: Stack, project: str) -> None:
    made = judge(stack, project, 0.25)
    beside = judge(stack, project, 0.75, rollout={"shadow": 1})["rollout"]
    for _ in range(2):      # rules that share a run are no second pair
        stack.function_rule(project, {"id": made["id"]})
    stack.rule(project, "ExactMatch")
    stack.insert(
        project, *(span(f"good {n}", input="i") for n in range(2)),
        span("turns", input="judge!ok;choice=B "), span("bad", input="judge!unknown_choice"),
    )
    for row in ("good 0", "good 1", "turns", "bad"):
        stack.scored(project, row)

    told = compared(stack, made, key=stack.key("read"))

    assert (told["role"], told["rate"]) == ("shadow", 1)
    assert (told["from"], told["to"]) == (made["_xact_id"], beside["version"])
    assert (told["rows"], told["agreement"], told["flip_count"]) == (4, 0.75, 1)
    assert told["mean_difference"] == pytest.approx(0.5 / 3)
    (flip,) = told["flips"]
    assert (flip["id"], flip["from"]["scores"], flip["to"]["scores"]) == (
        "turns", {"polite": 0.25}, {"polite": 0.75}
    )
    assert stack.ok("GET", flip["link"].removeprefix(stack.api_url))["id"] == "turns"
    for cost in told["cost"].values():
        assert (cost["calls"], cost["errors"]) == (3, 1)
        assert cost["prompt_tokens"] > 0
        assert cost["run_ms"] > 0
    assert compared(stack, made, "?last=2")["rows"] <= 2


def test_what_one_version_alone_has_scored_is_no_pair(stack: Stack, project: str) -> None:
    made = judge(stack, project, 0.25)
    stack.function_rule(project, {"id": made["id"]})
    stack.insert(project, span("before", input="i"))
    stack.scored(project, "before")
    judge(stack, project, 0.75, rollout={"shadow": 1})
    assert compared(stack, made)["rows"] == 0

    stack.insert(project, span("beside", input="i"))
    stack.scored(project, "beside")
    assert compared(stack, made)["rows"] == 1
    # The next shadow has said nothing yet.
    judge(stack, project, 0.5, rollout={"shadow": 1})
    assert compared(stack, made) | {"to": None} == {
        "role": "shadow", "from": made["_xact_id"], "to": None, "rate": 1, "rows": 0,
        "agreement": None, "mean_difference": None, "flip_count": 0, "flips": [],
        "cost": {"from": NOTHING, "to": NOTHING},
    }


def test_a_key_of_a_project_sees_that_projects_spans_alone(stack: Stack, project: str) -> None:
    made = judge(stack, project, 0.25)
    judge(stack, project, 0.75, rollout={"shadow": 1})
    other = stack.project()
    for each in (project, other):
        stack.function_rule(each, {"id": made["id"]})
        stack.insert(each, span("a", input="i judge!ok;choice=B "))
        stack.scored(each, "a")

    flips = compared(stack, made)["flips"]
    assert {flip["link"].split("/")[5] for flip in flips} == {project, other}
    (own,) = compared(stack, made, key=stack.key("read", project=project))["flips"]
    assert project in own["link"]
    path = f"/v1/function/{made['id']}/shadow"
    assert stack.http("GET", path, key=stack.key("read", project=other)).status == 404


def test_without_a_shadow_there_is_nothing_to_compare(stack: Stack, project: str) -> None:
    made = judge(stack, project, 0.25)
    path = f"/v1/function/{made['id']}/shadow"
    answer = stack.http("GET", path)
    assert (answer.status, "has no shadow" in answer.error) == (404, True)
    for last in ("0", "10001", "x"):
        refused = stack.http("GET", f"{path}?last={last}")
        assert (refused.status, "last" in refused.error) == (400, True)


def test_the_command_shows_it(stack: Stack) -> None:
    name = f"shadows {uuid.uuid4().hex[:8]}"
    project = stack.project(name)
    made = judge(stack, project, 0.25)
    judge(stack, project, 0.75, rollout={"shadow": 1})
    stack.function_rule(project, {"id": made["id"]})
    stack.insert(project, span("turns", input="judge!ok;choice=B "))
    stack.scored(project, "turns")

    def ran(*arguments: str) -> str:
        done = stack.tallyard("scorers", "shadow", *arguments, "--project", name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = ran("polite")
    assert f"{made['_xact_id']} in force" in shown
    assert "its shadow (rate 1)" in shown
    assert "turns  polite 0.25  ->  polite 0.75" in shown
    assert json.loads(ran("polite", "--json"))["flip_count"] == 1
    refused = stack.tallyard("scorers", "shadow", "nobody", "--project", name)
    assert (refused.returncode, "no function 'nobody'" in refused.stderr) == (1, True)
