"""What `tallyard explain` prints: each scorer on a line of its own, and what it wrote below."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from flows.outcomes.explain import (
    Explanation,
    OutcomeView,
    RejectedPart,
    RuleAnswer,
    explanation_json,
)
from ops.commands.explain import LOG_LINES_MAX, explanation_lines
from spans.ids import RuleId
from spans.outcome import RuleOrigin
from spans.scoring import OutcomeState, Role

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def outcome(label: str, state: OutcomeState, **more: object) -> OutcomeView:
    given = {
        "id": label, "origin": RuleOrigin(RuleId(UUID(int=1))), "role": Role.LIVE,
        "scorer": f"id of {label}",
        "label": label, "scorer_version": "7", "subject_version": 1, "state": state,
        "error_class": None, "error_message": None, "scores": [{"name": label, "score": 0.5}],
        "attempts": 0, "next_attempt_at": None, "failing_since": None, "is_running": False,
        "created": AT,
        "finished_at": AT, "run_ms": 1.0, "prompt_tokens": None, "completion_tokens": None,
        "cached_tokens": None, "cost": None,
        "model": None, "is_cached": False, "log": None,
    }
    return OutcomeView(**{**given, **more})


ERRORED = outcome(
    "b", OutcomeState.ERRORED, error_class="error",
    error_message="ValueError: no\nscorer.py:2 in handler",
)
PENDING = outcome("a", OutcomeState.PENDING)
COMPLETED = outcome("c", OutcomeState.COMPLETED)


def explanation(*told: OutcomeView, status: str = "errored", text: str = "all") -> Explanation:
    rule = RuleAnswer(
        rule_id="r", rule_name="my rule", status=status, text=text, outcomes=told,
        described=told
    )
    return Explanation(
        project_id="p", id="row", span_id="s", root_span_id="t", is_finished=True, scores=None,
        ingest_warnings=["scores.s: left out"], rules=(rule,),
    )


def of_the_rule(told: Explanation) -> list[str]:
    lines = [*explanation_lines(told)]
    return lines[lines.index("my rule") + 1 :]


def test_each_scorer_has_a_line_and_its_error_keeps_to_its_own():
    assert of_the_rule(explanation(ERRORED, COMPLETED, PENDING)) == [
        "  1 errored, 1 pending, 1 completed",
        "    a 7 pending, attempt 1, next at once",
        "    b 7 errored at 2026-01-02T03:04:05.000+00:00: error: ValueError: no",
        "      scorer.py:2 in handler",
        "    c 7 scored 0.5 at 2026-01-02T03:04:05.000+00:00",
    ]


def test_what_was_mended_when_the_span_was_logged_is_told_before_the_rules():
    lines = [*explanation_lines(explanation(COMPLETED))]
    assert lines.index("when it was logged: scores.s: left out") < lines.index("my rule")


def test_scorers_that_all_ended_alike_are_headed_by_that():
    twins = (outcome("y", OutcomeState.COMPLETED), outcome("x", OutcomeState.COMPLETED))
    head, first, second = of_the_rule(explanation(*twins, status="completed"))
    assert head == "  completed"
    assert (first.split()[0], second.split()[0]) == ("x", "y")


def test_versions_of_one_scorer_stand_in_their_order():
    newer = outcome("x", OutcomeState.COMPLETED, scorer_version="8")
    older = outcome("x", OutcomeState.COMPLETED, scorer_version="7")
    _, *lines = of_the_rule(explanation(newer, older, status="completed"))
    assert [line.split()[1] for line in lines] == ["7", "8"]


def test_a_shadow_that_errored_does_not_head_the_rule():
    shadow = outcome(
        "x", OutcomeState.ERRORED, role=Role.SHADOW, error_class="error", error_message="no"
    )
    head, *_ = of_the_rule(explanation(shadow, COMPLETED, status="completed"))
    assert head == "  completed"


@pytest.mark.parametrize("more", [0, 3])
def test_what_a_scorer_printed_stands_below_it_up_to_a_limit(more):
    log = "".join(f"line {n}\n" for n in range(LOG_LINES_MAX + more))
    _, _, *below = of_the_rule(explanation(outcome("x", OutcomeState.COMPLETED, log=log)))
    assert below[0] == "      | line 0"
    assert below[LOG_LINES_MAX - 1] == f"      | line {LOG_LINES_MAX - 1}"
    assert below[LOG_LINES_MAX:] == (["      ... 3 more lines"] if more else [])


def test_a_rule_that_ran_nothing_gives_its_reason():
    told = explanation(status="paused", text="the rule was paused")
    assert of_the_rule(told) == ["  paused: the rule was paused"]


def test_what_is_told_stands_once_in_json():
    (rule,) = explanation_json(explanation(ERRORED))["rules"]
    assert set(rule) == {"rule_id", "rule_name", "status", "text", "detail", "outcomes"}


def test_what_waits_and_what_was_rejected_stands_above_the_rules():
    part = RejectedPart(project_id="p", reason="tags: no list", excerpt='{"id": 1}', created=AT)
    told = replace(explanation(), notes=("waiting for its base",), rejected=(part, part))

    lines = [*explanation_lines(told)]

    start = lines.index("waiting for its base")
    assert lines[start : start + 6] == [
        "waiting for its base", "writes of this row that were rejected:",
        *["  2026-01-02T03:04:05+00:00  tags: no list", '    {"id": 1}'] * 2,
    ]
    assert lines.index("my rule") > start + 5


def test_a_judged_outcome_tells_its_tokens_and_what_they_cost():
    judged = {"model": "m", "prompt_tokens": 900, "completion_tokens": 30}
    given = outcome("a", OutcomeState.COMPLETED, **judged, cached_tokens=800, cost=0.00012345)
    plain = outcome("b", OutcomeState.SKIPPED, **judged)
    again = outcome("c", OutcomeState.COMPLETED, model="m", is_cached=True)
    _, *lines = of_the_rule(explanation(given, plain, again))
    assert [line.split("+00:00")[1] for line in lines] == [
        " (m: 900 tokens of prompt, 800 of them cached, 30 of the answer, cost 0.00012345)",
        " (m: 900 tokens of prompt, 30 of the answer)",
        " (m, answered from the cache)",
    ]


def test_a_held_outcome_gives_its_reason_once():
    held = outcome(
        "a", OutcomeState.PENDING, error_class="timeout", error_message="no answer",
        failing_since=AT, hindrance="held back: it is down (timeout: no answer)",
    )
    assert of_the_rule(explanation(held))[1] == (
        "    a 7 pending, attempt 1, held back: it is down (timeout: no answer); the last said "
        "timeout (failing since 2026-01-02T03:04:05+00:00)"
    )
