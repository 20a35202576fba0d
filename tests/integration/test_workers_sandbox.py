"""Users' own code, from the rule that names it to the score that is read."""

from __future__ import annotations

from typing import Any

import pytest
from stack import Stack

ENDED = {"metrics": {"end": 1.0}}
LENGTH = """
    def handler(output, expected):
        return 1.0 if output == expected else 0.25
"""


def span(**fields: Any) -> dict[str, Any]:
    return {"input": "q", "output": "a", "expected": "a", **ENDED, **fields}


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def scored_by(
    stack: Stack, project: str, code: str, *, event: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """The only outcome of a span under a rule with this code."""
    function = stack.function(project, code, **fields)
    stack.function_rule(project, {"id": function["id"]})
    (row_id,) = stack.insert(project, event or span())
    stack.scored(project, row_id)
    (rule,) = stack.explain(project, row_id)["rules"]
    (outcome,) = rule["outcomes"]
    return {**outcome, "row_id": row_id, "function": function}


def test_code_scores_a_finished_span_under_its_functions_name(
    stack: Stack, project: str
) -> None:
    outcome = scored_by(stack, project, LENGTH, slug="equal")

    row = stack.row(project, outcome["row_id"])
    assert row is not None
    assert row["scores"] == {"equal": 1.0}
    (score_span,) = stack.score_spans(project)
    assert score_span["span_attributes"]["name"] == "equal"
    assert score_span["input"] == {"output": "a", "expected": "a"}
    assert score_span["context"]["scorer_version"] == outcome["function"]["_xact_id"]
    assert outcome["scorer_version"] == outcome["function"]["_xact_id"]


@pytest.mark.parametrize(
    ("returned", "scores"),
    [
        ("0.5", {"it": 0.5}),
        ("True", {"it": 1.0}),
        ("{'score': 0.25, 'metadata': {'why': 'so'}}", {"it": 0.25}),
        ("{'score': 1, 'name': 'other'}", {"other": 1.0}),
        ("[{'name': 'a', 'score': 0}, {'name': 'b', 'score': 1}]", {"a": 0.0, "b": 1.0}),
        ("__import__('autoevals').Score(name='s', score=0.75)", {"s": 0.75}),
    ],
)
def test_what_a_handler_may_return(
    stack: Stack, project: str, returned: str, scores: dict[str, float]
) -> None:
    outcome = scored_by(
        stack, project, f"def handler(**given):\n    return {returned}\n", slug="it"
    )
    assert outcome["state"] == "completed"
    row = stack.row(project, outcome["row_id"])
    assert row is not None
    assert row["scores"] == scores


def test_none_is_skipped(stack: Stack, project: str) -> None:
    assert scored_by(stack, project, "def handler():\n    return None\n")["state"] == "skipped"


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        ("raise ValueError('no such thing')", "error"),
        ("return float('nan')", "bad_result"),
        ("return 7", "bad_result"),
        ("return '1'", "bad_result"),
        ("import os; os._exit(0)", "no_result"),
        ("import os; os.kill(os.getpid(), 9); import ctypes; ctypes.string_at(0)", "killed"),
        ("\n    while True: pass", "timeout"),
        ("return 'y' * 3_000_000", "result_too_large"),
    ],
)
def test_what_a_handler_does_wrong_is_an_outcome_of_its_own_class(
    stack: Stack, project: str, body: str, error_class: str
) -> None:
    outcome = scored_by(
        stack, project, f"def handler():\n    {body}\n",
        metadata={"sandbox": {"time_s": 1}},
    )
    assert (outcome["state"], outcome["error_class"]) == ("errored", error_class)
    assert outcome["attempts"] == 1


def test_metadata_that_cannot_be_stored_is_named_in_the_log_and_costs_no_score(
    stack: Stack, project: str
) -> None:
    outcome = scored_by(
        stack, project,
        "def handler():\n"
        "    print('looked')\n"
        "    beside = {'x': float('nan'), 'y': 1}\n"
        "    return {'score': 1.0000000000000002, 'metadata': beside, 'why': 'so'}\n",
    )
    assert (outcome["state"], outcome["error_class"]) == ("completed", None)
    assert outcome["log"].splitlines() == [
        "looked", "[metadata.x is nan, which JSON has no form for: null is stored]",
        "[why is stored as metadata.why]",
    ]


def test_an_error_names_its_class_its_message_and_its_line(stack: Stack, project: str) -> None:
    outcome = scored_by(
        stack, project, "def handler():\n    raise KeyError('colour')\n"
    )
    assert "KeyError: 'colour'" in outcome["error_message"]
    assert "scorer.py:2" in outcome["error_message"]


def test_what_a_handler_prints_is_kept_with_its_outcome(stack: Stack, project: str) -> None:
    code = """
        import sys
        def handler(output):
            print("looking at", output)
            print("\\x1b[31mred", file=sys.stderr)
            return 1
    """
    outcome = scored_by(stack, project, code)
    assert "looking at a" in outcome["log"]
    assert "red" in outcome["log"]
    assert "\x1b" not in outcome["log"]


def test_a_rule_follows_the_latest_version_or_keeps_the_one_that_it_pins(
    stack: Stack, project: str
) -> None:
    first = stack.function(project, "def handler():\n    return 0\n", slug="followed")
    stack.function_rule(project, {"id": first["id"]}, name="follows")
    pinned = stack.function(project, "def handler():\n    return 0\n", slug="pinned")
    stack.function_rule(
        project, {"id": pinned["id"], "version": pinned["_xact_id"]}, name="pins"
    )
    (before,) = stack.insert(project, span())
    assert stack.scored(project, before)["scores"] == {"followed": 0.0, "pinned": 0.0}

    second = stack.function(project, "def handler():\n    return 1\n", slug="followed")
    stack.function(project, "def handler():\n    return 1\n", slug="pinned")
    assert second["id"] == first["id"]
    assert second["_xact_id"] > first["_xact_id"]
    (after,) = stack.insert(project, span(input="another"))

    assert stack.scored(project, after)["scores"] == {"followed": 1.0, "pinned": 0.0}
    assert stack.scored(project, before)["scores"] == {"followed": 0.0, "pinned": 0.0}


def test_a_shadow_version_is_stored_and_compared_and_never_shown(
    stack: Stack, project: str
) -> None:
    first = stack.function(project, "def handler():\n    return 0\n", slug="shadowed")
    second = stack.function(
        project, "def handler():\n    return 1\n", slug="shadowed",
        rollout={"shadow": 1.0},
    )
    assert second["id"] == first["id"]
    stack.function_rule(project, {"id": first["id"]})
    (row_id,) = stack.insert(project, span())

    def by_role() -> dict[str, Any]:
        (rule,) = stack.explain(project, row_id)["rules"]
        return {one["role"]: one for one in rule["outcomes"] if one["state"] == "completed"}

    stack.wait_until(lambda: len(by_role()) == 2, deadline_s=30, what="both versions")
    row = stack.row(project, row_id)
    assert row is not None
    assert row["scores"] == {"shadowed": 0.0}
    assert by_role()["shadow"]["scores"][0]["score"] == 1.0
    assert len(stack.score_spans(project, row_id)) == 1


def test_a_handler_that_takes_the_trace_gets_its_spans_and_its_thread(
    stack: Stack, project: str
) -> None:
    code = """
        async def handler(trace):
            spans = await trace.get_spans(span_type=["llm"])
            thread = trace.get_thread()
            said = [message["content"] for message in thread]
            return {"score": 1, "metadata": {"llm": len(spans), "said": said}}
    """
    function = stack.function(project, code)
    stack.function_rule(project, {"id": function["id"]}, apply_to_root_span=True)
    llm = {
        "span_id": "c" * 16, "root_span_id": "d" * 32, "span_parents": ["d" * 16],
        "input": [{"role": "user", "content": "hello"}],
        "output": [{"role": "assistant", "content": "good day"}],
        "span_attributes": {"type": "llm"}, **ENDED,
    }
    root = span(span_id="d" * 16, root_span_id="d" * 32)
    _, row_id = stack.insert(project, llm, root)

    stack.scored(project, row_id)

    (outcome,) = stack.explain(project, row_id)["rules"][0]["outcomes"]
    assert outcome["scores"][0]["metadata"] == {"llm": 1, "said": ["hello", "good day"]}


def test_records_of_one_batch_each_get_their_own_score(stack: Stack, project: str) -> None:
    function = stack.function(project, "def handler(output):\n    return output / 250\n")
    stack.function_rule(project, {"id": function["id"]})
    ids = stack.insert(project, *(span(output=number) for number in range(250)))

    stack.wait_until(
        lambda: len(stack.score_spans(project)) == 250, deadline_s=30, what="250 scores"
    )
    values = {row["id"]: row["scores"] for row in stack.rows(project)}
    assert [next(iter(values[row_id].values())) for row_id in ids] == [
        number / 250 for number in range(250)
    ]


def test_one_record_that_kills_its_process_costs_its_neighbours_nothing(
    stack: Stack, project: str
) -> None:
    code = """
        import os
        def handler(output):
            if output == 7:
                os._exit(1)
            return 1
    """
    function = stack.function(project, code)
    stack.function_rule(project, {"id": function["id"]})
    ids = stack.insert(project, *(span(output=number) for number in range(20)))
    for row_id in ids:
        stack.scored(project, row_id)
    states = [
        stack.explain(project, row_id)["rules"][0]["outcomes"][0]["state"] for row_id in ids
    ]
    assert states == ["errored" if number == 7 else "completed" for number in range(20)]


def test_readiness_tells_whether_code_is_contained(stack: Stack) -> None:
    (worker,) = stack.ok("GET", "/health/ready")["sandbox"]
    assert worker["is_ok"] is True
    assert worker["tier"] == "bubblewrap"
    assert set(worker["probes"].values()) == {"ok"}
    metrics = stack.http("GET", "/metrics").body.decode()
    assert 'tallyard_sandbox_workers{contains="yes",tier="bubblewrap"} 1.0' in metrics


def test_a_worker_that_may_run_no_code_says_so_and_takes_none(own_stack: Stack) -> None:
    stack = own_stack
    stack.environment["TALLYARD_SANDBOX"] = "off"
    stack.start("api", "match", "sandbox", "beat")
    (worker,) = stack.wait_until(
        lambda: stack.ok("GET", "/health/ready")["sandbox"], deadline_s=20
    )
    assert worker["is_ok"] is False
    assert "sandbox unavailable" in worker["sentence"]
    project = stack.project()
    body = {
        "project_id": project, "name": "n", "slug": "n", "function_type": "scorer",
        "function_data": {"type": "code", "data": {
            "type": "inline", "code": LENGTH,
            "runtime_context": {"runtime": "python", "version": "3.11"},
        }},
    }
    answer = stack.http("POST", "/v1/function", body)
    assert answer.status == 503
    assert "sandbox unavailable" in answer.error


def test_explain_tells_what_code_waits_for(own_stack: Stack) -> None:
    stack = own_stack
    stack.start("api", "match", "sandbox", "beat")
    project = stack.project()
    function = stack.function(project, LENGTH)
    stack.function_rule(project, {"id": function["id"]})
    stack.stop("sandbox")
    stack.environment["TALLYARD_SANDBOX"] = "off"
    stack.start("sandbox")
    (row_id,) = stack.insert(project, span())

    def told() -> str:
        (rule,) = stack.explain(project, row_id)["rules"]
        return str(rule["text"])

    stack.wait_until(
        lambda: "pending, attempt 1, no worker can run code: sandbox unavailable" in told(),
        deadline_s=20, what=told,
    )
    stack.stop("sandbox")
    stack.environment["TALLYARD_SANDBOX"] = "auto"
    stack.start("sandbox")
    assert len(stack.scored(project, row_id)["scores"]) == 1


def test_what_code_did_wrong_is_run_again_by_its_class(stack: Stack, project: str) -> None:
    outcome = scored_by(stack, project, "def handler():\n    raise ValueError('once')\n")
    path = f"/v1/project_logs/{project}/outcomes/retry"
    assert stack.ok("POST", path, {"class": "killed"})["retried"] == 0
    assert stack.ok("POST", path, {"class": "error"})["retried"] == 1
    stack.scored(project, outcome["row_id"])
