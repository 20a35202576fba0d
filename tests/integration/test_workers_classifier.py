"""The users' own judges, and models lent to their code, through the whole pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checker import query
from fakes.judge import FakeJudge
from load import span
from postgres_servers import PostgresServers
from stack import Stack

from ops.servers.postgres import MAJOR_VERSION
from ops.servers.valkey import start_valkey

MODEL = "gpt-4o-mini"
PROMPT: dict[str, Any] = {
    "prompt": {"type": "chat", "messages": [
        {"role": "user", "content": "To {{input}} it said {{output}}. Is that kind?"}]},
    "options": {"model": "gpt-4o", "params": {"temperature": 0}},
    "parser": {"type": "llm_classifier", "use_cot": True, "choice_scores": {"A": 1, "B": 0.25}},
}
JUDGES = """
judges:
  - name: priced
    url: {url}
    key: sk-of-the-file
    models: ["priced-*"]
    prices: {{prompt: 2, cached: 0.5, completion: 8}}
"""
OUTCOMES = """
    select state, error_class, error_message, label, calls, prompt_tokens, completion_tokens,
           model, is_cached, scorer_version
      from shown_outcome where project_id = %s and subject_id = %s"""
ASKS = """
    from tallyard import llm
    def handler(input, output):
        said = llm.chat(model="gpt-4o-mini", messages=[{"role": "user", "content": output}])
        return {"score": 1, "metadata": {"said": said["choices"][0]["message"]["content"]}}
"""


@pytest.fixture(scope="module")
def judge() -> Iterator[FakeJudge]:
    """A judge of this module's own: its calls are counted."""
    with FakeJudge() as own:
        yield own


@pytest.fixture(scope="module")
def judging(postgres_servers: PostgresServers, judge: FakeJudge) -> Iterator[Stack]:
    """A stack that keeps answers, and lends code one model."""
    url = postgres_servers[MAJOR_VERSION].create("classifying")
    with tempfile.TemporaryDirectory(prefix="tallyard-test-") as folder:
        path = Path(folder)
        (path / "judges.yaml").write_text(JUDGES.format(url=judge.url), encoding="utf-8")
        valkey, redis_url = start_valkey(path / "valkey", log=path / "valkey.log")
        with Stack(
            database_url=url, redis_url=redis_url,
            folder=path / "stack", judge_base_url=judge.url, judge_api_key="sk-judge",
            judge_model="gpt-4o", judge_timeout_s="2", judge_cache_days="1",
            judges=str(path / "judges.yaml"),
            sandbox_models=MODEL, backoff_max_s="1",
        ) as stack:
            stack.start("api", "match", "judge", "sandbox", "beat")
            yield stack
        valkey.stop(patience_s=2)


def classifier(stack: Stack, project: str, **changes: Any) -> dict[str, Any]:
    """A classifier called Kindness, or its next version."""
    return dict(stack.ok("PUT", "/v1/function", {
        "project_id": project, "name": "Kindness", "slug": "kindness",
        "function_type": "scorer", "function_data": {"type": "prompt"},
        "prompt_data": {**PROMPT, **changes},
    }))


def outcome(stack: Stack, project: str, row_id: str) -> dict[str, Any]:
    """The one outcome of the span, settled."""
    stack.scored(project, row_id)
    (found,) = query(stack.database_url, OUTCOMES, project, row_id)
    return dict(found)


def calls(judge: FakeJudge, words: str) -> int:
    return sum(words in call.prompt for call in judge.calls)


def test_a_classifier_scores_spans_and_shows_what_it_asked_and_what_it_cost(
    judging: Stack, judge: FakeJudge
) -> None:
    project = judging.project()
    made = classifier(judging, project)
    judging.function_rule(project, {"id": made["id"]})

    judging.insert(project, span("a", input="hello", output="judge!ok;choice=B;reasons=curt "))

    found = outcome(judging, project, "a")
    assert (found["state"], found["label"]) == ("completed", "Kindness")
    assert found["scorer_version"] == made["_xact_id"]
    assert (found["calls"], found["model"], found["completion_tokens"]) == (1, "gpt-4o", 7)
    assert not found["is_cached"]
    row = judging.row(project, "a")
    assert row is not None
    assert row["scores"] == {"Kindness": 0.25}
    (shown,) = judging.score_spans(project, "a")
    assert shown["metadata"] == {"choice": "B", "rationale": "curt"}
    assert shown["metrics"]["tokens"] == found["prompt_tokens"] + 7
    assert set(shown["input"]) == {"input", "output"}
    rule, asked = shown["context"]["prompt"]
    assert rule["role"] == "system"
    assert asked["role"] == "user"
    assert asked["content"].endswith("Is that kind?")
    (call,) = [call for call in judge.calls if "Is that kind?" in call.prompt]
    assert call.body["messages"] == [rule, asked]


def test_an_identical_span_is_judged_from_the_cache_and_its_outcome_says_so(
    judging: Stack, judge: FakeJudge
) -> None:
    project = judging.project()
    judging.function_rule(project, {"id": classifier(judging, project)["id"]})
    judging.insert(project, span("first", input="twice", output="the same"))
    first = outcome(judging, project, "first")

    judging.insert(project, span("again", input="twice", output="the same"))

    again = outcome(judging, project, "again")
    assert (first["is_cached"], again["is_cached"]) == (False, True)
    assert (again["state"], again["calls"]) == ("completed", 0)
    assert calls(judge, "the same") == 1
    rows = [judging.row(project, each) for each in ("first", "again")]
    assert [row and row["scores"] for row in rows] == [{"Kindness": 1.0}] * 2


def test_a_prompt_may_use_the_conversation_of_the_trace(
    judging: Stack, judge: FakeJudge
) -> None:
    project = judging.project()
    prompt = {"type": "completion", "content": "{{thread_count}} in all:\n{{thread}}"}
    made = classifier(judging, project, prompt=prompt)
    judging.function_rule(project, {"id": made["id"]}, apply_to_root_span=True)
    llm = span("llm", input=[{"role": "user", "content": "good day"}], output="and to you")
    llm |= {"span_attributes": {"type": "llm"}, "span_parents": ["t"], "root_span_id": "t"}
    judging.insert(project, llm)

    judging.insert(project, span("root") | {"span_id": "t", "root_span_id": "t"})

    assert outcome(judging, project, "root")["state"] == "completed"
    (call,) = [call for call in judge.calls if "in all" in call.prompt]
    assert "User:\n  good day\n\nAssistant:\n  and to you" in call.prompt


def test_a_judges_refusal_to_choose_is_skipped(judging: Stack) -> None:
    project = judging.project()
    made = classifier(judging, project, parser={**PROMPT["parser"], "allow_skip": True})
    judging.function_rule(project, {"id": made["id"]})

    judging.insert(project, span("skipped", input="judge!ok;choice=Skip "))

    assert outcome(judging, project, "skipped")["state"] == "skipped"


def test_a_scorer_of_autoevals_scores_under_the_name_that_its_user_gave_it(
    judging: Stack
) -> None:
    project = judging.project()
    made = judging.ok("PUT", "/v1/function", {
        "project_id": project, "name": "Truth", "slug": "truth", "function_type": "scorer",
        "function_data": {"type": "global", "name": "Factuality"},
    })
    judging.function_rule(project, {"id": made["id"]})

    judging.insert(project, span("true", input="judge!ok;choice=C"))

    assert outcome(judging, project, "true")["state"] == "completed"
    row = judging.row(project, "true")
    assert row is not None
    assert row["scores"] == {"Truth": 1.0}


def test_code_is_lent_the_model_that_both_allow_and_its_outcome_tells_the_cost(
    judging: Stack, judge: FakeJudge
) -> None:
    project = judging.project()
    made = judging.function(
        project, ASKS, slug="asks", metadata={"sandbox": {"models": [MODEL]}}
    )
    judging.function_rule(project, {"id": made["id"]})

    judging.insert(project, span("lent", output="lend me your ear"))

    found = outcome(judging, project, "lent")
    assert found["state"] == "completed", found
    assert (found["calls"], found["model"], found["completion_tokens"]) == (1, MODEL, 7)
    (shown,) = judging.score_spans(project, "lent")
    assert shown["metadata"] == {"said": "as you say"}
    (call,) = [call for call in judge.calls if "lend me" in call.prompt]
    assert (call.key, call.body["max_tokens"]) == ("sk-judge", 4096)
    (spent,) = query(
        judging.database_url, "select tokens from scorer_tokens where scorer_id = %s",
        made["id"],
    )
    assert spent["tokens"] == found["prompt_tokens"] + 7


def test_code_that_did_not_ask_for_a_model_has_none(judging: Stack) -> None:
    project = judging.project()
    made = judging.function(project, ASKS, slug="asks-not")
    judging.function_rule(project, {"id": made["id"]})

    judging.insert(project, span("alone", output="nobody hears"))

    found = outcome(judging, project, "alone")
    assert found["error_class"] == "error"
    assert "its author must list the model in metadata.sandbox.models" in found["error_message"]


def test_a_models_own_endpoint_is_asked_and_its_prices_tell_the_cost(
    judging: Stack, judge: FakeJudge
) -> None:
    project = judging.project()
    made = classifier(judging, project, options={"model": "priced-1"})
    judging.function_rule(project, {"id": made["id"]})

    judging.insert(project, span("dear", input="judge!ok;cached=40 dearly bought"))

    found = outcome(judging, project, "dear")
    assert (found["state"], found["model"]) == ("completed", "priced-1")
    (call,) = [call for call in judge.calls if "dearly bought" in call.prompt]
    assert call.key == "sk-of-the-file"
    cost = (found["prompt_tokens"] - 40) * 2.0 + 40 * 0.5 + 7 * 8.0
    (answer,) = judging.explain(project, "dear")["rules"]
    (told,) = answer["outcomes"]
    assert told["cached_tokens"] == 40
    assert told["cost"] == pytest.approx(cost / 1e6)
    (shown,) = judging.score_spans(project, "dear")
    assert shown["metrics"]["prompt_cached_tokens"] == 40
    assert shown["metrics"]["estimated_cost"] == pytest.approx(cost / 1e6)
    metrics = judging.http("GET", "/metrics").body.decode()
    assert 'tallyard_judge_cached_tokens_total{model="priced-1"} 40.0' in metrics
    assert 'tallyard_judge_cost_total{model="priced-1",scorer="' in metrics
