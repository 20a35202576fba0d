"""Servers that refuse parameters, lack an API, or word their answers in their own way."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fakes.judge import FakeJudge
from judges import judge_at

from scorers.arguments import ScoringFields
from scorers.catalog import resolve
from scorers.judge.ask import score_classified
from scorers.judge.classifier import Classifier
from scorers.judge.client import score_judged
from scorers.judge.endpoints import Endpoint
from scorers.judge.prices import Prices
from spans.errors import (
    BadResult,
    ContentRefused,
    JudgeRefused,
    JudgeUnavailable,
    JudgeUnfit,
    JudgeUnpaid,
    PromptTooLong,
    RateLimited,
)
from spans.scoring import ScoringResult

CHAT, RESPONSES = "/chat/completions", "/responses"
RECORD = {"input": "How are you?", "output": "Splendid."}


def kindness(**changes: Any) -> Classifier:
    return Classifier(**{
        "messages": (("user", "Is {{output}} kind?"),),
        "choice_scores": {"kind": 1.0, "2": 0.5}, **changes,
    })


def scores(
    fake: FakeJudge, *classifiers: Classifier, model: str = "m", **settings: Any
) -> list[ScoringResult]:
    """What each classifier gives, one after the other, with one judge."""

    async def one_after_the_other() -> list[ScoringResult]:
        judge = judge_at(fake.url, model=model, **settings)
        try:
            return [
                await score_classified(judge, each, RECORD, name="Kind", version="1")
                for each in classifiers
            ]
        finally:
            await judge.close()

    return asyncio.run(one_after_the_other())


def test_each_refused_parameter_is_left_out_and_the_others_stay(fake, caplog):
    fake.refuses |= {"temperature", "seed", "top_p"}
    judge = kindness(params={"temperature": 0, "seed": 1, "top_p": 1, "top_k": 3})

    with caplog.at_level(logging.WARNING, logger="scorers.judge.parameters"):
        results = scores(fake, judge, judge)

    assert [result.scores[0].value for result in results] == [1.0, 1.0]
    assert len(fake.calls) == 3 + 2   # each is refused once, and never sent again
    assert [call.body.get("top_k") for call in fake.calls] == [3] * 5
    assert set(fake.calls[-1].body) == {"model", "messages", "tools", "tool_choice", "top_k"}
    assert len([line for line in caplog.messages if "refuses temperature" in line]) == 1
    assert [result.usage.calls for result in results] == [1, 1]


def test_calls_that_are_refused_at_the_same_time_are_all_made_again(fake):
    fake.refuses.add("temperature")
    fake.delay_s = 0.1

    async def at_once() -> list[ScoringResult]:
        judge = judge_at(fake.url)
        one = kindness(params={"temperature": 0})
        try:
            return await asyncio.gather(*(
                score_classified(judge, one, RECORD, name="Kind", version="1")
                for _ in range(20)
            ))
        finally:
            await judge.close()

    try:
        assert len(asyncio.run(at_once())) == 20
    finally:
        fake.delay_s = 0.0


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        ({"max_tokens"}, {"max_completion_tokens": 99}),
        ({"max_tokens", "max_completion_tokens"}, {}),
    ],
)
def test_the_token_limit_is_sent_under_its_other_name_first(fake, refused, sent):
    fake.refuses |= refused

    scores(fake, kindness(params={"max_tokens": 99}))

    body = fake.calls[-1].body
    assert {name: body[name] for name in body if "tokens" in name} == sent


@pytest.mark.parametrize(
    ("refused", "sent"),
    [({"tool_choice by name"}, "required"), ({"tool_choice"}, None)],
)
def test_a_tool_choice_that_is_refused_is_sent_in_another_form(fake, refused, sent):
    fake.refuses |= refused

    assert scores(fake, kindness())[0].scores[0].value == 1.0

    assert fake.calls[-1].body.get("tool_choice") == sent


def test_what_a_call_is_about_is_never_left_out(fake):
    fake.refuses.add("tools")

    with pytest.raises(JudgeRefused):
        scores(fake, kindness())

    assert len(fake.calls) == 1


def test_a_server_that_refuses_everything_is_asked_a_few_times_at_most(fake):
    names = [f"p{n}" for n in range(20)]
    fake.refuses |= {*names}

    with pytest.raises(JudgeUnfit):
        scores(fake, kindness(params=dict.fromkeys(names, 1)))

    assert len(fake.calls) < 10


def test_a_value_out_of_range_is_the_authors_and_is_not_left_out(fake):
    fake.reply(400, {"error": {
        "message": "Invalid 'temperature': decimal above maximum value.",
        "param": "temperature", "code": "decimal_above_max_value"}})

    with pytest.raises(JudgeUnfit, match=r"above maximum value.*check the scorer's"):
        scores(fake, kindness(params={"temperature": 9}))

    assert len(fake.calls) == 1


def test_a_model_that_only_one_api_has_is_asked_there_from_then_on(fake):
    fake.lacks.add(RESPONSES)

    scores(fake, kindness(), kindness(), model="gpt-5-mini")

    assert [call.path for call in fake.calls] == [RESPONSES, CHAT, CHAT]


def test_a_server_that_names_the_other_api_is_asked_there(fake):
    fake.reply(404, {"error": {"message": "This model is only supported in v1/responses and "
                               "not in v1/chat/completions.", "code": None}})

    scores(fake, kindness(), kindness(), model="o9-pro")

    assert [call.path for call in fake.calls] == [CHAT, RESPONSES, RESPONSES]


def test_a_server_with_neither_api_is_the_operators(fake):
    fake.lacks |= {CHAT, RESPONSES}

    with pytest.raises(JudgeRefused, match="TALLYARD_JUDGE_BASE_URL"):
        scores(fake, kindness(), model="gpt-5-mini")


@pytest.mark.parametrize(
    ("api", "model", "path"), [("chat", "gpt-5-mini", CHAT), ("responses", "m", RESPONSES)]
)
def test_the_operator_may_say_which_api_models_speak(fake, api, model, path):
    scores(fake, kindness(), model=model, api=api)

    assert [call.path for call in fake.calls] == [path]


# Servers' answers, status and body, to a scorer that names no model.
REFUSALS = [
    (200, {"error": {"code": 429, "message": "busy"}}, RateLimited),
    (200, b"", JudgeUnavailable),
    (200, {"choices": None}, JudgeUnavailable),
    (404, {"error": {"message": "model m is loading"}}, JudgeUnavailable),
    (400, {"error": {"message": "Provider returned error", "code": 400,
                     "metadata": {"raw": "429 Too Many Requests"}}}, RateLimited),
    (429, {"error": {"code": "insufficient_quota", "message": "quota"}}, JudgeUnpaid),
    (400, {"error": {"code": "content_filter", "message": "filtered"}}, ContentRefused),
    (400, {"error": {"code": "context_length_exceeded", "message": "x"}}, PromptTooLong),
    (404, {"error": {"code": "model_not_found", "message": "no m"}}, JudgeRefused),
    (400, {"error": {"message": "m does not support tools"}}, JudgeRefused),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_the_class_of_an_error_says_who_must_act(fake, status, body, kind):
    fake.reply(status, body)

    with pytest.raises(kind) as raised:
        scores(fake, kindness())

    assert type(raised.value) is kind


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_a_scorer_that_names_its_model_is_its_authors(fake, status, body, kind):
    fake.reply(status, body)

    with pytest.raises(JudgeUnfit if kind is JudgeRefused else kind):
        scores(fake, kindness(model="mine"))


def test_a_pause_in_the_header_or_in_the_body_is_kept(fake):
    fake.reply(200, {"error": {"code": 429, "message": "x"}}, **{"Retry-After": "7"})
    fake.reply(429, {"error": {"message": "Please try again in 20s."}})

    for wait_s in (7.0, 20.0):
        with pytest.raises(RateLimited) as raised:
            scores(fake, kindness())
        assert raised.value.retry_after_s == wait_s


def completion(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (completion({"content": None}, "length"), "token limit.*; raise max_tokens"),
        (completion({"content": None, "refusal": "I cannot."}),
         r"refused: 'I cannot\.'; choose another"),
        (completion({"content": "It is kind."}),
         "no tool was called.*'It is kind.'; choose a model that calls tools"),
        (completion({"content": "It is kind. " * 99}),
         r"\.\.\.'; choose a model that calls tools"),
    ],
)
def test_the_message_says_why_there_is_no_verdict(fake, body, words):
    for ask in (lambda: scores(fake, kindness()), lambda: factuality(fake)):
        fake.reply(200, body)
        with pytest.raises(BadResult, match=words):
            ask()


def test_an_answer_that_a_filter_ended_is_the_spans_own(fake):
    for ask in (lambda: scores(fake, kindness()), lambda: factuality(fake)):
        fake.reply(200, completion({"content": ""}, "content_filter"))
        with pytest.raises(ContentRefused, match="the rule's filter"):
            ask()


def factuality(fake: FakeJudge) -> ScoringResult:
    async def once() -> ScoringResult:
        judge = judge_at(fake.url)
        fields = ScoringFields(input="q", output="o", expected="e")
        try:
            return await score_judged(judge, resolve("Factuality"), fields)
        finally:
            await judge.close()

    return asyncio.run(once())


def test_what_local_servers_write_is_read_by_all_judges(fake):
    arguments = {"reasons": ["a", "b"], "choice": " (B) "}
    fake.reply(200, completion({"tool_calls": [
        {"function": {"name": "functions.select_choice", "arguments": arguments}}]}))
    fake.reply(200, completion({"tool_calls": [
        {"function": {"name": "select_choice", "arguments": {"choice": 2}}}]}))
    fake.reply(200, completion({"content": '```json\n{"choice": "Kind"}\n```'}))

    given = factuality(fake).scores[0]
    two, kind = scores(fake, kindness(), kindness())

    assert (given.value, given.metadata["rationale"]) == (0.6, "a\nb")
    assert (two.scores[0].value, kind.scores[0].value) == (0.5, 1.0)


def test_a_scorers_model_chooses_the_endpoint_with_its_key_prices_and_api(fake):
    with FakeJudge() as elsewhere:
        other = Endpoint(
            name="other", base_url=elsewhere.url, api_key="sk-other", timeout_s=5, in_flight=2,
            models=("gpt-5-mini", "llama-*"), api="chat",
            prices=Prices(prompt=1e6, cached=1e6, completion=0),
        )
        ours, theirs, too = scores(
            fake, kindness(), kindness(model="llama-3"), kindness(model="gpt-5-mini"),
            others=[other],
        )
        asked = [(call.key, call.path, call.model) for call in elsewhere.calls]

    assert asked == [("sk-other", CHAT, "llama-3"), ("sk-other", CHAT, "gpt-5-mini")]
    assert [(call.key, call.model) for call in fake.calls] == [("sk-judge", "m")]
    assert ours.usage.cost is None
    assert theirs.usage.cost == theirs.usage.prompt_tokens > 0
    assert too.usage.cost == too.usage.prompt_tokens


def test_an_endpoint_in_a_message_is_named_and_no_key_is(fake):
    with FakeJudge() as elsewhere:
        other = Endpoint(
            name="other", base_url=elsewhere.url, api_key="sk-other", timeout_s=5, in_flight=2,
            models=("x",),
        )
        elsewhere.then("401;echo=1")
        with pytest.raises(JudgeRefused, match=r"the key of the endpoint other") as raised:
            scores(fake, kindness(model="x"), others=[other])

    assert "sk-other" not in str(raised.value)


def test_no_more_calls_are_in_flight_to_an_endpoint_than_it_allows(fake):
    with FakeJudge(delay_s=0.02) as elsewhere:
        other = Endpoint(
            name="other", base_url=elsewhere.url, api_key=None, timeout_s=5, in_flight=2,
            models=("x",),
        )

        async def at_once() -> None:
            judge = judge_at(fake.url, others=[other])
            await asyncio.gather(*(
                score_classified(judge, kindness(model=model), RECORD, name="K", version="1")
                for model in ["x", "m"] * 10
            ))
            await judge.close()

        asyncio.run(at_once())
        assert elsewhere.in_flight_max == 2
