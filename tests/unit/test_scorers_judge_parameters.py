"""What is left out of a request after its refusal, and what is not."""

from __future__ import annotations

import pytest

from scorers.judge.parameters import MODELS_MAX, Dialect
from scorers.judge.problems import Cause, Problem

CHAT = "/chat/completions"
BODY = {"model": "m", "messages": [], "temperature": 0, "top_p": 1, "max_tokens": 9,
        "tools": [], "tool_choice": {"type": "function"}}


def refusal(message="", parameter=None, cause=Cause.UNSUPPORTED):
    return Problem(cause=cause, message=message, parameter=parameter)


@pytest.mark.parametrize(
    ("problem", "left_out"),
    [
        (refusal("no", "temperature"), {"temperature"}),
        (refusal("'temperature' and top_p are not supported"), {"temperature", "top_p"}),
        (refusal("temperatures are not supported"), set()),
        (refusal("not supported", "reasoning.effort"), set()),
        (refusal("no", "messages"), set()), (refusal("no", "model"), set()),
        (refusal("tools are not supported", "tools"), set()),
        (refusal("no", "temperature", Cause.OTHER), set()),
        (refusal("x" * 2000 + " temperature"), set()),
    ],
)
def test_only_what_is_refused_by_name_and_not_essential_is_left_out(problem, left_out):
    dialect = Dialect("e")

    assert dialect.learns(CHAT, BODY, problem) is bool(left_out)

    assert BODY.keys() - dialect.adapted(CHAT, BODY).keys() == left_out


def test_what_one_model_refuses_is_sent_to_others_and_over_other_paths():
    dialect = Dialect("e")
    dialect.learns(CHAT, BODY, refusal("no", "temperature"))

    assert "temperature" in dialect.adapted(CHAT, {**BODY, "model": "other"})
    assert "temperature" in dialect.adapted("/responses", BODY)


def test_a_call_that_was_under_way_when_a_refusal_came_is_made_again_too():
    dialect = Dialect("e")
    dialect.learns(CHAT, BODY, refusal("no", "temperature"))

    assert dialect.learns(CHAT, BODY, refusal("no", "temperature"))
    adapted = dialect.adapted(CHAT, BODY)
    assert not dialect.learns(CHAT, adapted, refusal("no", "temperature"))


def test_where_nothing_may_be_dropped_a_limit_is_renamed_and_the_rest_stays():
    dialect = Dialect("e", may_drop=False)

    assert dialect.learns(CHAT, BODY, refusal("no", "max_tokens"))
    for name in ("temperature", "tool_choice"):
        assert dialect.learns(CHAT, dialect.adapted(CHAT, BODY), refusal("no", name)) is False

    adapted = dialect.adapted(CHAT, BODY)
    assert adapted == {**{n: v for n, v in BODY.items() if n != "max_tokens"},
                       "max_completion_tokens": 9}
    dialect.learns(CHAT, adapted, refusal("no", "max_completion_tokens"))
    assert {"max_tokens", "max_completion_tokens"} & dialect.adapted(CHAT, BODY).keys()


def test_the_memory_of_an_endpoint_is_bounded():
    dialect = Dialect("e")
    for number in range(MODELS_MAX + 1):
        body = {**BODY, "model": f"m{number}"}
        dialect.learns(CHAT, body, refusal("no", "temperature"))
        dialect.answers_at(f"m{number}", CHAT)

    assert "temperature" in dialect.adapted(CHAT, {**BODY, "model": "m0"})
    assert "temperature" not in dialect.adapted(CHAT, {**BODY, "model": f"m{MODELS_MAX}"})
    assert dialect.api_of("m0") is None
