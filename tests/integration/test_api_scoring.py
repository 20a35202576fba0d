"""When a span is scored, rescored or not scored, and how `explain` describes it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.judge import FakeJudge
from stack import Stack

DONE: dict[str, Any] = {"metrics": {"start": 1.0, "end": 2.0}}
SCORE = "ExactMatch"
TOO_MUCH = [0] * 10_001   # more values than a span may have


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def span(row_id: str, **fields: Any) -> dict[str, Any]:
    """A finished span whose output is right."""
    return {"id": row_id, "input": "q", "output": "o", "expected": "o", **DONE, **fields}


def answer_of(stack: Stack, project: str, row_id: str, rule: str | None = None) -> Any:
    """What explain says of the rule with this name, or of the only one."""
    rules = stack.explain(project, row_id)["rules"]
    (found,) = [each for each in rules if rule in {None, each["rule_name"]}]
    return found


# --- what is scored


def test_a_span_is_scored_once_it_has_ended(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, {"id": "a", "output": "o", "metrics": {"start": 1.0}})
    assert stack.statuses(project, "a").popitem()[1] == "not_finished"
    stack.insert(project, {"id": "b", **span("b")})
    stack.scored(project, "b")   # later ones have been, so this one has had its chance
    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] is None

    stack.logs3(project, {"id": "a", "_is_merge": True, "expected": "o",
                          "metrics": {"end": 2.0}})

    assert stack.scored(project, "a")["scores"] == {SCORE: 1}


def test_two_rules_with_one_scorer_have_an_outcome_and_a_score_span_each(
    stack: Stack, project: str
) -> None:
    for name in ("one", "two"):
        stack.rule(project, SCORE, name=name)
    stack.insert(project, span("a"))

    assert stack.scored(project, "a")["scores"] == {SCORE: 1}
    spans = stack.score_spans(project, "a")
    assert len({each["id"] for each in spans}) == 2
    outcomes = [rule["outcomes"] for rule in stack.explain(project, "a")["rules"]]
    assert [len(each) for each in outcomes] == [1, 1]


def test_a_rule_with_several_scorers_gives_each_score(stack: Stack, project: str) -> None:
    stack.rule(project, "ExactMatch", "Levenshtein", "JSONDiff")
    stack.insert(project, span("a", output="oo"))

    scores = stack.scored(project, "a")["scores"]
    assert set(scores) == {"ExactMatch", "Levenshtein", "JSONDiff"}
    assert scores["ExactMatch"] == 0
    assert scores["Levenshtein"] == pytest.approx(0.5)


def test_a_rule_that_is_paused_scores_nothing_until_it_goes_on(
    stack: Stack, project: str
) -> None:
    rule = stack.rule(project, SCORE, name="paused")
    stack.rule(project, "Levenshtein", name="other")
    config: dict[str, Any] = {"online": {
        "sampling_rate": 1, "scorers": [{"type": "global", "name": SCORE}],
    }}

    config["online"]["status"] = "paused"
    stack.ok("PATCH", f"/v1/project_score/{rule}", {"config": config})
    stack.insert(project, span("while paused"))
    assert stack.scored(project, "while paused")["scores"] == {"Levenshtein": 1}

    config["online"]["status"] = "active"
    stack.ok("PATCH", f"/v1/project_score/{rule}", {"config": config})
    stack.insert(project, span("after"))
    assert set(stack.scored(project, "after")["scores"]) == {SCORE, "Levenshtein"}
    assert answer_of(stack, project, "while paused", "paused")["status"] == "paused"


def test_sampling_takes_whole_traces_and_explain_shows_the_number(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE, sampling_rate=0.5)
    spans = [
        span(f"{trace} {n}", span_id=f"{trace}-{n}", root_span_id=f"trace {trace}")
        for trace in range(40) for n in range(3)
    ]
    stack.insert(project, *spans)

    by_trace: dict[str, set[str]] = {}
    for each in spans:
        stack.scored(project, each["id"])
        told = answer_of(stack, project, each["id"])
        by_trace.setdefault(each["root_span_id"], set()).add(told["status"])
        if told["status"] == "sampled_out":
            assert told["detail"]["sampling_number"] >= 0.5 == told["detail"]["sampling_rate"]
    assert all(len(statuses) == 1 for statuses in by_trace.values())
    # Of 40 traces at one half, fewer than 6 or more than 34 come once in a million.
    assert 6 <= sum(statuses == {"completed"} for statuses in by_trace.values()) <= 34


def test_skip_logging_keeps_the_score_and_leaves_the_score_span_out(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE, skip_logging=True)
    stack.insert(project, span("a"))

    assert stack.scored(project, "a")["scores"] == {SCORE: 1}
    assert stack.score_spans(project) == []


def test_what_scorers_made_is_never_scored(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE)
    stack.insert(
        project, span("a"),
        span("theirs", span_attributes={"name": "x", "type": "score", "purpose": "scorer"}),
        span("inherited", span_attributes={"name": "x", "purpose": "scorer"}),
    )

    stack.scored(project, "a")
    assert len(stack.rows(project)) == 4
    for row_id in ("theirs", "inherited", stack.score_spans(project, "a")[0]["id"]):
        assert stack.statuses(project, row_id).popitem()[1] == "is_score_span"


@pytest.mark.parametrize(("value", "score"), [(False, 1), (0, 1), ("", 1)])
def test_false_zero_and_the_empty_text_are_values(
    stack: Stack, project: str, value: Any, score: float
) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a", output=value, expected=value))

    assert stack.scored(project, "a")["scores"] == {SCORE: score}


def test_null_is_a_missing_argument_that_the_outcome_names(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a", expected=None))

    assert stack.scored(project, "a")["scores"] is None
    (score_span,) = stack.score_spans(project, "a")
    assert score_span["error"].startswith("missing_argument: ")
    assert "expected" in score_span["error"]


def test_a_judge_gives_its_score_its_tokens_and_its_reason(stack: Stack, project: str) -> None:
    stack.rule(project, "Factuality")
    stack.insert(project, span("a"))

    assert stack.scored(project, "a")["scores"] == {"Factuality": pytest.approx(0.4)}
    (outcome,) = answer_of(stack, project, "a")["outcomes"]
    assert outcome["model"] == "gpt-4o"
    assert outcome["prompt_tokens"] > 0
    assert outcome["completion_tokens"] == 7


# --- what changes after scoring


def test_changed_content_is_scored_again_and_the_old_score_goes(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a"))
    stack.scored(project, "a")

    stack.logs3(project, {"id": "a", "_is_merge": True, "output": "wrong"})

    stack.wait_until(
        lambda: (stack.row(project, "a") or {}).get("scores") == {SCORE: 0}, deadline_s=20
    )
    (score_span,) = stack.score_spans(project, "a")
    assert score_span["scores"] == {SCORE: 0}
    told = answer_of(stack, project, "a")
    assert len(told["outcomes"]) == 2   # the old one is history
    assert told["text"].count("scored") == 1


@pytest.mark.parametrize("field", ["input", "output", "expected", "error"])
def test_each_field_of_the_content_counts(stack: Stack, project: str, field: str) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a"))
    stack.scored(project, "a")

    stack.logs3(project, {"id": "a", "_is_merge": True, field: "changed"})

    stack.wait_until(
        lambda: len(answer_of(stack, project, "a")["outcomes"]) == 2, deadline_s=20
    )


@pytest.mark.parametrize(
    "change",
    [{"metadata": {"m": 2}}, {"tags": ["t"]}, {"scores": {"human": 1}},
     {"metrics": {"end": 3.0}}, {"span_attributes": {"name": "renamed"}}, {"extra": 1},
     {"output": "o"}],
    ids=str,
)
def test_other_changes_do_not_score_again(
    stack: Stack, project: str, change: dict[str, Any]
) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a", metadata={"m": 1}))
    stack.scored(project, "a")

    stack.logs3(project, {"id": "a", "_is_merge": True, **change})
    stack.insert(project, span("later"))
    stack.scored(project, "later")

    told = answer_of(stack, project, "a")
    assert (told["status"], len(told["outcomes"])) == ("completed", 1)
    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"][SCORE] == 1


def test_a_rule_that_no_longer_selects_a_row_withdraws_its_score(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE, btql_filter="output = 'o'", name="only o")
    stack.rule(project, "Levenshtein", name="all")
    stack.insert(project, span("a"))
    assert set(stack.scored(project, "a")["scores"]) == {SCORE, "Levenshtein"}

    stack.logs3(project, {"id": "a", "_is_merge": True, "output": "p"})

    stack.wait_until(
        lambda: (stack.row(project, "a") or {}).get("scores") == {"Levenshtein": 0},
        deadline_s=20, what=lambda: str(stack.explain(project, "a")),
    )
    assert answer_of(stack, project, "a", "only o")["status"] == "filter_false"
    assert [each["span_attributes"]["name"] for each in stack.score_spans(project, "a")] == [
        "Levenshtein"
    ]


def test_a_clients_replacement_does_not_wipe_computed_scores(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a", scores={"mine": 0.5}))
    assert stack.scored(project, "a")["scores"] == {"mine": 0.5, SCORE: 1}

    stack.insert(project, span("a", metadata={"replaced": True}))

    assert stack.scored(project, "a")["scores"] == {SCORE: 1}


def test_a_value_of_a_person_wins_over_a_computed_one_of_the_same_name(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a"))
    stack.scored(project, "a")

    path = f"/v1/project_logs/{project}/feedback"
    stack.ok("POST", path, {"feedback": [{"id": "a", "scores": {SCORE: 0.25}}]})

    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] == {SCORE: 0.25}


def test_feedback_does_not_score_again(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a"))
    stack.scored(project, "a")

    path = f"/v1/project_logs/{project}/feedback"
    item = {"id": "a", "expected": "something else", "scores": {"human": 0}}
    stack.ok("POST", path, {"feedback": [item]})
    stack.insert(project, span("later"))
    stack.scored(project, "later")

    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] == {SCORE: 1, "human": 0}
    assert row["expected"] == "something else"
    assert len(answer_of(stack, project, "a")["outcomes"]) == 1


def test_feedback_that_corrects_expected_while_a_judge_thinks_loses_no_score(
    stack: Stack, project: str
) -> None:
    stack.rule(project, "Factuality")
    stack.insert(project, span("a", input="judge!ok;delay=1"))
    stack.wait_until(
        lambda: answer_of(stack, project, "a")["status"] == "pending", deadline_s=20
    )

    path = f"/v1/project_logs/{project}/feedback"
    item = {"id": "a", "expected": "corrected", "tags": ["seen"]}
    stack.ok("POST", path, {"feedback": [item]})

    assert stack.scored(project, "a")["scores"] == {"Factuality": pytest.approx(0.4)}


def test_content_that_changes_while_a_judge_thinks_gets_the_new_contents_score(
    stack: Stack, project: str
) -> None:
    stack.rule(project, "Factuality")
    stack.insert(project, span("a", input="judge!ok;delay=1", output="old"))
    stack.wait_until(
        lambda: answer_of(stack, project, "a")["status"] == "pending", deadline_s=20
    )

    stack.logs3(project, {"id": "a", "_is_merge": True, "input": "x", "output": "new"})

    row = stack.scored(project, "a")
    assert row["scores"] == {"Factuality": pytest.approx(0.4)}
    stack.wait_until(
        lambda: [each["input"]["output"] for each in stack.score_spans(project, "a")]
        == ["new"],
        deadline_s=20,
    )
    states = sorted(each["state"] for each in answer_of(stack, project, "a")["outcomes"])
    assert states == ["completed", "superseded"]


def test_a_deleted_rule_keeps_its_scores_and_scores_no_more(
    stack: Stack, project: str
) -> None:
    rule = stack.rule(project, SCORE)
    stack.insert(project, span("a"))
    stack.scored(project, "a")

    stack.ok("DELETE", f"/v1/project_score/{rule}")
    stack.rule(project, "Levenshtein")
    stack.insert(project, span("b"))

    assert stack.scored(project, "b")["scores"] == {"Levenshtein": 1}
    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] == {SCORE: 1}


# --- the row's own controls


def test_skip_async_scoring_skips_that_write_alone(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("a", _skip_async_scoring=True), span("b"))
    stack.scored(project, "b")
    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] is None
    assert "_skip_async_scoring" not in row
    assert answer_of(stack, project, "a")["status"] == "skip_requested"

    stack.logs3(project, {"id": "a", "_is_merge": True, "output": "p"})

    assert stack.scored(project, "a")["scores"] == {SCORE: 0}


def test_a_disabled_row_is_never_scored_and_shows_its_state(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE)
    control = {"kind": "state_override", "state": {"status": "disabled"}}
    stack.insert(project, span("a", _async_scoring_control=control), span("b"))
    stack.scored(project, "b")
    stack.wait_until(
        lambda: answer_of(stack, project, "a")["status"] == "scoring_disabled", deadline_s=20
    )

    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] is None
    assert row["_async_scoring_state"] == {"status": "disabled"}
    stack.logs3(project, {"id": "a", "_is_merge": True, "output": "changed"})
    stack.insert(project, span("c"))
    stack.scored(project, "c")
    assert answer_of(stack, project, "a")["outcomes"] == []


def test_a_disabled_row_that_is_set_free_is_scored(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE)
    control: dict[str, Any] = {"kind": "state_override", "state": {"status": "disabled"}}
    stack.insert(project, span("a", _async_scoring_control=control))

    control["state"] = None
    stack.logs3(project, {"id": "a", "_is_merge": True, "_async_scoring_control": control})
    stack.logs3(project, {"id": "a", "_is_merge": True,
                          "_async_scoring_control": {"kind": "state_force_reselect"}})

    assert stack.scored(project, "a")["scores"] == {SCORE: 1}
    row = stack.row(project, "a")
    assert row is not None
    assert row["_async_scoring_state"] is None


def test_force_reselect_runs_the_rules_of_today(stack: Stack, project: str) -> None:
    stack.rule(project, "Levenshtein", name="old")
    stack.insert(project, span("a"))
    stack.scored(project, "a")
    stack.rule(project, SCORE, name="new")
    assert answer_of(stack, project, "a", "new")["status"] == "rule_made_later"

    stack.logs3(project, {"id": "a", "_is_merge": True,
                          "_async_scoring_control": {"kind": "state_force_reselect"}})

    stack.wait_until(
        lambda: (stack.row(project, "a") or {}).get("scores")
        == {SCORE: 1, "Levenshtein": 1}, deadline_s=20,
    )


# --- explain


def test_explain_says_what_each_rule_did(stack: Stack, project: str) -> None:
    stack.rule(project, SCORE, name="completed")
    stack.rule(project, SCORE, name="other name", apply_to_span_names=["other"])
    stack.rule(project, SCORE, name="false", btql_filter="metadata.n > 5 and tags is null")
    stack.rule(project, SCORE, name="null", btql_filter="metadata.missing > 5")
    stack.rule(project, SCORE, name="sampled", sampling_rate=0)
    stack.rule(project, SCORE, name="paused", status="paused")
    stack.rule(project, "JSONDiff", name="errored", btql_filter="metadata.n = 3")
    stack.insert(project, {"id": "a", "output": 1, "expected": 1, "metadata": {"n": 3},
                           "span_attributes": {"name": "this"}, "span_id": "span-a",
                           "root_span_id": "root-a", **DONE})
    stack.scored(project, "a")
    later = stack.rule(project, SCORE, name="later")

    told = stack.explain(project, "a")
    answers = {rule["rule_name"]: rule for rule in told["rules"]}

    assert (told["id"], told["span_id"], told["root_span_id"]) == ("a", "span-a", "root-a")
    assert told["is_finished"] is True
    assert answers["completed"]["status"] == "completed"
    (outcome,) = answers["completed"]["outcomes"]
    assert outcome["scores"] == [{"name": SCORE, "score": 1, "metadata": {}}]
    assert outcome["scorer_version"]
    assert outcome["finished_at"]
    assert outcome["scorer_version"] in answers["completed"]["text"]
    assert answers["other name"]["status"] == "wrong_target"
    assert answers["other name"]["detail"] == {
        "apply_to": ["other"], "is_root": True, "name": "this"
    }
    assert answers["false"]["status"] == "filter_false"
    assert answers["false"]["detail"]["filter"] == "metadata.n > 5 and tags is null"
    assert answers["false"]["detail"]["values"] == {"metadata.n": 3, "tags": None}
    assert answers["null"]["status"] == "filter_null"
    assert answers["null"]["detail"]["values"] == {"metadata.missing": None}
    assert answers["sampled"]["status"] == "sampled_out"
    assert 0 <= answers["sampled"]["detail"]["sampling_number"] < 1
    assert answers["sampled"]["detail"]["sampling_rate"] == 0
    assert answers["paused"]["status"] == "paused"
    assert answers["later"]["rule_id"] == later
    assert answers["later"]["status"] == "rule_made_later"
    assert "it would select the span" in answers["later"]["text"]


def test_a_row_is_scored_when_its_base_comes_and_not_before(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE, name="rule")
    stack.insert(project, {"id": "a", "_is_merge": True, **DONE})
    bad = {"id": "a", "project_id": project, "input": TOO_MUCH}
    assert stack.http("POST", "/logs3", {"rows": [bad]}).status == 400

    told = stack.explain(project, "a")
    assert stack.statuses(project, "a") == {"rule": "waiting_for_base"}
    assert told["notes"] == [told["rules"][0]["text"]]
    assert ["TALLYARD_NODES_MAX" in part["reason"] for part in told["rejected"]] == [True]
    assert stack.count("outbox", project) == stack.count("outcome", project) == 0

    stack.insert(project, {"id": "a", "output": "x", "expected": "x"})
    stack.scored(project, "a")
    assert stack.explain(project, "a")["notes"] == []


def test_explain_tells_what_was_decided_then_not_what_would_be_now(
    stack: Stack, project: str
) -> None:
    rule = stack.rule(project, SCORE, btql_filter="metadata.n = 5")
    stack.insert(project, span("a", metadata={"n": 3}))
    stack.wait_until(
        lambda: answer_of(stack, project, "a")["status"] == "filter_false", deadline_s=20
    )

    config = {"online": {"sampling_rate": 1, "btql_filter": "metadata.n = 3",
                         "scorers": [{"type": "global", "name": SCORE}]}}
    stack.ok("PATCH", f"/v1/project_score/{rule}", {"config": config})

    told = answer_of(stack, project, "a")
    assert told["status"] == "filter_false"
    assert told["detail"]["filter"] == "metadata.n = 5"


def test_explain_finds_a_span_by_its_row_id_and_by_its_span_id(
    stack: Stack, project: str
) -> None:
    stack.rule(project, SCORE)
    stack.insert(project, span("row", span_id="the span", root_span_id="the trace"))
    by_row = stack.scored(project, "row")

    assert by_row["id"] == "row"
    assert stack.explain(project, "the%20span") == stack.explain(project, "row")
    assert stack.http("GET", f"/v1/project_logs/{project}/explain?id=no").status == 404
    assert stack.http("GET", f"/v1/project_logs/{project}/explain").status == 400


def test_an_id_that_could_be_several_spans_lists_them(stack: Stack, project: str) -> None:
    stack.insert(
        project,
        {"id": "one", "span_id": "same", "root_span_id": "t1",
         "span_attributes": {"name": "1"}},
        {"id": "two", "span_id": "same", "root_span_id": "t2",
         "span_attributes": {"name": "2"}},
        {"id": "same", "span_id": "three", "root_span_id": "t3"},
    )

    told = stack.explain(project, "same")

    assert told["ambiguous"] is True
    assert {(each["id"], each["name"]) for each in told["candidates"]} == {
        ("one", "1"), ("two", "2"), ("same", None)
    }
    assert stack.explain(project, "one")["id"] == "one"


def test_explain_shows_a_pending_attempt_and_when_the_next_is(
    stack: Stack, stack_judge: FakeJudge, project: str
) -> None:
    stack.rule(project, "Factuality")
    stack.insert(project, span("a", input="judge!503;times=2"))

    told = stack.wait_until(
        lambda: (
            answer if (answer := answer_of(stack, project, "a"))["status"] == "pending"
            and answer["outcomes"][0]["error_class"] else None
        ),
        deadline_s=20,
    )

    assert "pending, attempt" in told["text"]
    assert told["outcomes"][0]["error_class"] == "judge_unavailable"
    assert told["outcomes"][0]["next_attempt_at"]
    assert stack.scored(project, "a")["scores"] == {"Factuality": pytest.approx(0.4)}
    (outcome,) = answer_of(stack, project, "a")["outcomes"]
    assert outcome["attempts"] == 3


@pytest.mark.parametrize(
    ("behaviour", "error_class"),
    [("401", "judge_refused"), ("404", "judge_refused"), ("unknown_choice", "bad_result"),
     ("bad_arguments", "bad_result"), ("refusal", "bad_result")],
)
def test_what_a_judge_does_wrong_is_an_errored_outcome_with_its_class(
    stack: Stack, project: str, behaviour: str, error_class: str
) -> None:
    stack.rule(project, "Factuality")
    stack.insert(project, span("a", input=f"judge!{behaviour}"))

    assert stack.scored(project, "a")["scores"] is None
    told = answer_of(stack, project, "a")
    assert told["status"] == "errored"
    (outcome,) = told["outcomes"]
    assert (outcome["error_class"], outcome["attempts"]) == (error_class, 1)
    (score_span,) = stack.score_spans(project, "a")
    assert score_span["error"].startswith(f"{error_class}: ")
    assert score_span["scores"] is None
    assert "sk-judge" not in score_span["error"]


def test_a_transient_error_is_final_once_it_was_tried_for_long_enough(
    stack: Stack, project: str
) -> None:
    stack.rule(project, "Factuality")
    stack.insert(project, span("a", input="judge!500"))

    stack.scored(project, "a", deadline_s=60)
    (outcome,) = answer_of(stack, project, "a")["outcomes"]
    assert (outcome["state"], outcome["error_class"]) == ("errored", "judge_unavailable")
    assert outcome["attempts"] > 1
    assert outcome["failing_since"] is not None


def test_a_scorer_that_declines_is_skipped_and_says_so(stack: Stack, project: str) -> None:
    # EmbeddingSimilarity and the like never decline; a list of nothing does.
    stack.rule(project, "ListContains")
    stack.insert(project, span("a", output=[], expected=[]))

    row = stack.scored(project, "a")
    told = answer_of(stack, project, "a")
    assert told["status"] in {"skipped", "completed"}
    assert (told["status"] == "skipped") == (row["scores"] is None)


# --- after a wrong key


def test_a_wrong_judge_key_is_seen_mended_and_its_outcomes_run_again(
    stack: Stack, stack_judge: FakeJudge, project: str
) -> None:
    rule = stack.rule(project, "Factuality", name="judged")
    stack_judge.forget()
    stack.insert(project, *(span(f"a{n}", input=f"judge!401;times=1 {n}") for n in range(3)))
    for n in range(3):
        stack.scored(project, f"a{n}")
    (summary,) = stack.ok("GET", f"/v1/project_logs/{project}/errors")["errors"]
    assert (summary["count"], summary["error_class"]) == (3, "judge_refused")
    assert (summary["rule_id"], summary["scorer"]) == (rule, "Factuality")
    assert summary["role"] == "live"
    assert "401" in summary["last_message"] or "key" in summary["last_message"]
    path = f"/v1/project_logs/{project}/outcomes/retry"

    assert stack.ok("POST", path, {"class": "timeout"}) == {"retried": 0}
    assert stack.ok("POST", path, {"class": "judge_refused", "since": "1h"}) == {"retried": 3}

    for n in range(3):
        row = stack.scored(project, f"a{n}")
        assert row["scores"] == {"Factuality": pytest.approx(0.4)}
        (score_span,) = stack.score_spans(project, f"a{n}")
        assert score_span["error"] is None
    assert stack.ok("GET", f"/v1/project_logs/{project}/errors")["errors"] == []
    assert stack.ok("POST", path, {"class": "judge_refused"}) == {"retried": 0}


def test_a_retry_may_name_a_rule(stack: Stack, project: str) -> None:
    one = stack.rule(project, SCORE, name="one")
    stack.rule(project, SCORE, name="two")
    stack.insert(project, span("a", expected=None))
    stack.scored(project, "a")
    path = f"/v1/project_logs/{project}/outcomes/retry"

    assert stack.ok("POST", path, {"rule_id": one}) == {"retried": 1}
    nobody = "00000000-0000-4000-8000-000000000000"
    assert stack.http("POST", path, {"rule_id": "nothing"}).status == 404
    assert stack.http("POST", path, {"rule_id": nobody}).status == 404
    assert stack.http("POST", path, {"rule": one}).status == 400   # a misspelt name is no "all"


def test_outcomes_are_listed_and_run_again_on_the_command_line(
    stack: Stack, stack_judge: FakeJudge
) -> None:
    project = stack.project("retried by hand")
    stack.rule(project, "Factuality")
    stack_judge.forget()
    stack.insert(project, span("a", input="judge!401;times=1 by hand"))
    stack.scored(project, "a")
    of_project = ("--project", "retried by hand")

    errors = stack.tallyard("outcomes", "errors", *of_project)
    assert "judge_refused" in errors.stdout
    done = stack.tallyard(
        "outcomes", "retry", "--class", "judge_refused", "--since", "1h", *of_project
    )

    assert "1 outcomes are pending again" in done.stdout
    assert stack.scored(project, "a")["scores"] == {"Factuality": pytest.approx(0.4)}
    wrong = stack.tallyard("outcomes", "retry", "--class", "nonsense", *of_project)
    assert wrong.returncode == 1
    assert "judge_refused" in wrong.stderr


# --- rows that are there already


def ended(stack: Stack, job: str) -> dict[str, Any]:
    """The re-score job, once all of its outcomes are there."""
    def completed() -> dict[str, Any] | None:
        told = stack.ok("GET", f"/v1/rescore/{job}")
        return told if told["state"] == "completed" else None

    told = stack.wait_until(completed, deadline_s=30)
    assert told is not None
    return told


def test_score_recent_runs_a_new_rule_on_the_latest_rows(stack: Stack, project: str) -> None:
    stack.insert(project, *(span(f"a{n}", metadata={"n": n}) for n in range(10)))
    stack.insert(project, {"id": "unfinished", "output": "o", "expected": "o"})
    rule = stack.rule(project, SCORE, btql_filter="metadata.n < 8", sampling_rate=0)
    path = f"/v1/project_score/{rule}/score_recent"

    first = ended(stack, stack.ok("POST", path, {"last": 3})["id"])
    again = ended(stack, stack.ok("POST", path, {"last": 3})["id"])

    assert (first["progress"]["records"], first["progress"]["completed"]) == (3, 3)
    for row_id in ("a7", "a6", "a5"):
        assert stack.scored(project, row_id)["scores"] == {SCORE: 1}
    # Those have their score: the next ones are taken.
    assert again["progress"]["completed"] == 3
    assert stack.scored(project, "a2")["scores"] == {SCORE: 1}
    row = stack.row(project, "a1")
    assert row is not None
    assert row["scores"] is None


def test_score_recent_runs_a_paused_rule_but_no_slider(stack: Stack, project: str) -> None:
    stack.insert(project, span("a"))
    rule = stack.rule(project, SCORE, status="paused")
    slider = {"project_id": project, "name": "by hand", "score_type": "slider"}
    hand = stack.ok("POST", "/v1/project_score", slider)["id"]

    job = stack.ok("POST", f"/v1/project_score/{rule}/score_recent", {})
    assert ended(stack, job["id"])["progress"]["completed"] == 1
    assert stack.http("POST", f"/v1/project_score/{hand}/score_recent", {}).status == 400


def test_score_recent_takes_judges_and_the_command_line(stack: Stack) -> None:
    project = stack.project("scored lately")
    stack.rule(project, SCORE)
    stack.insert(project, span("a"), span("b"))
    stack.scored(project, "b")
    stack.rule(project, "Factuality", name="judged lately")

    done = stack.tallyard(
        "rules", "score-recent", "judged lately", "--last", "1", "--project", "scored lately"
    )

    assert "started the job" in done.stdout, done.stderr
    both = {SCORE: 1, "Factuality": pytest.approx(0.4)}
    stack.wait_until(
        lambda: (stack.row(project, "b") or {})["scores"] == both, deadline_s=30
    )
    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] == {SCORE: 1}


# --- the command line


def test_explain_on_the_command_line_says_the_same(stack: Stack) -> None:
    project = stack.project("explained by hand")
    stack.rule(project, SCORE, name="the rule")
    row_id = f"explained-{time.time_ns()}"
    stack.insert(project, span(row_id, span_id=f"s-{row_id}", root_span_id="r"))
    stack.scored(project, row_id)

    text = stack.tallyard("explain", f"s-{row_id}")
    told = stack.tallyard("explain", row_id, "--project", "explained by hand", "--json")

    assert "the rule" in text.stdout
    assert "completed" in text.stdout
    assert json.loads(told.stdout)["id"] == row_id
    assert json.loads(told.stdout)["rules"][0]["status"] == "completed"
    missing = stack.tallyard("explain", "no such span")
    assert missing.returncode == 1
    assert missing.stderr.startswith("tallyard: no span has the row id or span id")


def test_rows_that_were_not_stored_are_listed_on_the_command_line(stack: Stack) -> None:
    project = stack.project("loses rows")
    places = ({}, {"project_id": project})
    lost = [{"id": f"lost-{time.time_ns()}", **place} for place in places]
    for row in lost:
        answer = stack.http("POST", "/logs3", {"rows": [{**row, "input": TOO_MUCH}]})
        assert answer.status == 400

    everything = stack.tallyard("rejected", "--last", "1000").stdout
    of_one = json.loads(stack.tallyard("rejected", "--project", "loses rows", "--json").stdout)
    told = stack.tallyard("explain", str(lost[0]["id"])).stdout

    assert all(str(row["id"]) in everything for row in lost)
    assert [row["id"] for row in of_one["rejected"]] == [lost[1]["id"]]
    assert "these writes were rejected" in told
    assert "must name its project" in told


RULES_FILE = """\
project: {project}
rules:
  - name: first
    description: the first
    scorers: [Levenshtein]
    filter: metadata.topic = 'geography'
    sampling_rate: 0.5
"""


def exported(stack: Stack, project: str) -> str:
    done = stack.tallyard("rules", "export", "--project", project)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rules_as_code_apply_is_idempotent_and_export_writes_them_back(
    stack: Stack, tmp_path: Path
) -> None:
    name = f"as code {time.time_ns()}"
    project = stack.project(name)
    stack.rule(
        project, "Levenshtein", name="first", btql_filter="metadata.topic = 'geography'",
        sampling_rate=0.5, apply_to_root_span=True,
    )
    stack.rule(project, "ExactMatch", "Factuality", name="second", status="paused",
               apply_to_span_names=["a", "b"], skip_logging=True)
    listed = f"/v1/project_score?project_id={project}"
    made = stack.ok("GET", listed)["objects"]
    file = tmp_path / "scoring.yaml"
    file.write_text(exported(stack, name))

    same = stack.tallyard("rules", "apply", str(file))
    assert same.returncode == 0, same.stderr
    assert "no changes" in same.stdout
    assert stack.ok("GET", listed)["objects"] == made

    file.write_text(file.read_text().replace("geography", "cooking"))
    dry = stack.tallyard("rules", "apply", str(file), "--dry-run")
    assert "~ first" in dry.stdout
    assert "cooking" in dry.stdout
    assert stack.ok("GET", listed)["objects"] == made
    done = stack.tallyard("rules", "apply", str(file))
    assert "~ first" in done.stdout
    assert "cooking" in str(stack.ok("GET", listed)["objects"])
    assert "no changes" in stack.tallyard("rules", "apply", str(file)).stdout
    assert exported(stack, name) == file.read_text()


def test_rules_as_code_make_a_project_and_delete_only_when_told(
    stack: Stack, tmp_path: Path
) -> None:
    name = f"from a file {time.time_ns()}"
    template = f"from another file {time.time_ns()}"
    for rule in ("keep", "drop"):
        stack.rule(made := stack.project(template), SCORE, name=rule)
    assert made == stack.project(template)
    file = tmp_path / "scoring.yaml"
    file.write_text(exported(stack, template).replace(template, name))

    assert "(new)" in stack.tallyard("rules", "apply", str(file), "--dry-run").stdout
    assert name not in stack.projects()
    assert stack.tallyard("rules", "apply", str(file)).returncode == 0
    assert name in stack.projects()

    stack.rule(stack.project(name), SCORE, name="by hand")
    kept = stack.tallyard("rules", "apply", str(file))
    assert "by hand  (not in the file: kept; --prune deletes it)" in kept.stdout
    assert "by hand" in exported(stack, name)
    pruned = stack.tallyard("rules", "apply", str(file), "--prune")
    assert pruned.returncode == 0, pruned.stderr
    assert "by hand" not in exported(stack, name)


def test_a_rules_file_that_cannot_be_used_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    name = f"never made {time.time_ns()}"
    file = tmp_path / "scoring.yaml"
    for text in ("rules: [", f"project: {name}\nrules: [{{name: x}}]", "[]", "project: 7"):
        file.write_text(text)
        done = stack.tallyard("rules", "apply", str(file))
        assert done.returncode == 1
        assert done.stderr.startswith("tallyard: ")
        assert "Traceback" not in done.stderr
    assert name not in stack.projects()
