"""The judged scorers against a judge that answers, refuses, lies and hangs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.judge import FakeJudge
from judges import judge_at

from scorers.arguments import ScoringFields
from scorers.catalog import ScorerKind, names, resolve
from scorers.judge.client import score_judged
from spans.errors import (
    BadResult,
    JudgeRefused,
    JudgeUnavailable,
    JudgeUnpaid,
    MissingArgument,
    PromptTooLong,
    RateLimited,
    ScorerFailed,
    SetupError,
    Timeout,
)
from spans.scoring import Usage

KEY = "sk-very-secret"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
CHAT, RESPONSES = "gpt-4o", "gpt-5-mini"
METADATA = {"context": ["first", "second"], "criteria": "short", "language": "French",
            "instructions": "sort a list"}
EVERYTHING = ScoringFields(
    input="question", output="answer", expected="truth", metadata=METADATA
)
JUDGED = [name for name in names() if resolve(name).kind is ScorerKind.JUDGED]

# autoevals drops coroutines that it made too early when the first of two calls fails.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")


@pytest.fixture
def fake(judge_server):
    judge_server.forget()
    yield judge_server
    gc.collect()  # what was never awaited is to be reported here, where it is expected


def run(url, *jobs, timeout_s=5.0, key=KEY, model=CHAT, in_flight=256):
    """Each job, a (scorer, fields) or (scorer, fields, model), at once; what each gave."""

    async def all_at_once():
        judge = judge_at(
            url, key=key, model=model, timeout_s=timeout_s, in_flight=in_flight,
            clock=lambda: NOW,
        )
        try:
            return await asyncio.gather(*(
                score_judged(judge, resolve(job[0]), job[1], model=(*job, None)[2])
                for job in jobs
            ))
        finally:
            await judge.close()

    return asyncio.run(all_at_once())


def score(fake, name="Factuality", fields=EVERYTHING, **settings):
    (result,) = run(fake.url, (name, fields), **settings)
    return result


@pytest.mark.parametrize("name", JUDGED)
def test_every_judged_scorer_runs_on_what_the_catalog_says_it_needs(fake, name):
    spec = resolve(name)
    fields = ScoringFields(
        **{each: getattr(EVERYTHING, each) for each in spec.required if each not in METADATA},
        metadata={each: METADATA[each] for each in spec.required if each in METADATA},
    )
    result = score(fake, name, fields)
    assert [each.name for each in result.scores] == [name]
    assert 0 <= result.scores[0].value <= 1
    assert set(result.arguments) == set(spec.required)
    assert result.usage.calls == len(fake.calls)


@pytest.mark.parametrize("name", JUDGED)
def test_a_judged_scorer_without_one_of_its_arguments_makes_no_call(fake, name):
    for missing in resolve(name).required:
        kept = {each: getattr(EVERYTHING, each) for each in ("input", "output", "expected")}
        fields = ScoringFields(
            **(kept | {missing: None} if missing in kept else kept),
            metadata={each: value for each, value in METADATA.items() if each != missing},
        )
        with pytest.raises(MissingArgument, match=f"{name} needs '{missing}'"):
            score(fake, name, fields)
    assert len(fake.calls) == 0


@pytest.mark.parametrize("model", [CHAT, RESPONSES])
def test_the_choice_becomes_the_score_and_is_kept_with_its_rationale(fake, model):
    fake.then("ok;choice=B;reasons=subset")
    result = score(fake, model=model)
    assert result.scores[0].value == 0.6
    assert result.scores[0].metadata == {"choice": "B", "rationale": "subset"}


@pytest.mark.parametrize(
    ("model", "path"), [(CHAT, "/chat/completions"), (RESPONSES, "/responses")]
)
def test_models_are_asked_where_autoevals_would_ask_them(fake, model, path):
    score(fake, model=model)
    (call,) = fake.calls
    assert (call.path, call.model, call.key) == (path, model, KEY)


def test_the_model_of_the_call_overrides_the_judges(fake):
    result = run(fake.url, ("Humor", EVERYTHING, "other"))[0]
    assert fake.calls[0].model == "other"
    assert result.usage.model == "other"


def test_usage_sums_all_calls_of_the_execution(fake):
    result = score(fake, "Faithfulness")
    tokens = sum(len(call.prompt) // 4 for call in fake.calls)
    assert result.usage == Usage(
        calls=2, prompt_tokens=tokens, completion_tokens=14, model=CHAT
    )


def test_embeddings_count_too_and_always_use_the_judges_embedding_model(fake):
    usage = score(fake, "AnswerCorrectness").usage
    embedded = [call for call in fake.calls if call.path == "/embeddings"]
    assert [call.model for call in embedded] == ["small", "small"]
    assert usage.calls == 3


def test_a_text_is_embedded_once_in_an_execution_and_again_in_the_next(fake):
    same = ScoringFields(output="same", expected="same")
    assert score(fake, "EmbeddingSimilarity", same).scores[0].value == pytest.approx(1)
    assert len(fake.calls) == 1
    score(fake, "EmbeddingSimilarity", same)
    assert len(fake.calls) == 2


def test_moderation_heeds_the_threshold(fake):
    fake.then("ok;flagged=0.3", "ok;flagged=0.3")
    fields = ScoringFields(output="o", metadata={"threshold": 0.2})
    assert score(fake, "Moderation", fields).scores[0].value == 0.0
    assert score(fake, "Moderation", ScoringFields(output="o")).scores[0].value == 1.0


def test_a_threshold_that_is_no_number_is_the_authors_error_before_any_call(fake):
    with pytest.raises(ScorerFailed, match=r"metadata\.threshold is 'high', not a number"):
        score(fake, "Moderation", ScoringFields(output="o", metadata={"threshold": "high"}))
    assert len(fake.calls) == 0


@pytest.mark.parametrize("model", ["o3", RESPONSES, "openai/gpt-5-mini", "gpt-6"])
def test_a_temperature_that_is_refused_is_left_out_from_then_on(fake, model):
    fake.refuses.add("temperature")
    results = run(fake.url, *[("AnswerRelevancy", EVERYTHING, model)] * 3)
    assert all(0 <= result.scores[0].value <= 1 for result in results)
    asked = [call for call in fake.calls if call.path != "/embeddings"]
    assert sum("temperature" not in call.body for call in asked) == 9   # three in each run


def test_the_prompt_shows_json_for_what_is_no_text(fake):
    fields = ScoringFields(input={"q": None, "n": True}, output=False, expected=0)
    score(fake, "Factuality", fields)
    prompt = fake.calls[0].prompt
    assert '[Question]: {"q": null, "n": true}' in prompt
    assert "[Submission]: false" in prompt
    assert "[Expert]: 0" in prompt


def test_templates_in_the_data_are_not_filled_in(fake):
    score(fake, fields=ScoringFields(input="{{expected}}", output="<b>&", expected="truth"))
    assert "[Question]: {{expected}}" in fake.calls[0].prompt
    assert "[Submission]: <b>&" in fake.calls[0].prompt


@pytest.mark.parametrize("name", ["Faithfulness", "ContextRecall", "AnswerRelevancy"])
def test_several_contexts_stand_one_below_the_other(fake, name):
    score(fake, name)
    assert any("first\nsecond" in call.prompt for call in fake.calls)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Faithfulness", "the answer makes no statement"),
        ("AnswerCorrectness", "neither the answer nor the expected one makes a statement"),
        ("ContextRelevancy", "the span's metadata.context is empty"),
    ],
)
def test_where_there_is_nothing_to_count_it_says_what_is_missing(fake, name, said):
    fake.then(*["ok;repeat=0"] * 4)
    fields = ScoringFields(input="q", output="", expected="", metadata={"context": ""})
    with pytest.raises(BadResult) as refused:
        score(fake, name, fields)
    assert said in str(refused.value)
    assert "ZeroDivisionError" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["ContextRecall", "ContextPrecision", "ContextEntityRecall", "AnswerRelevancy"]
)
def test_empty_texts_and_empty_answers_are_scores_elsewhere(fake, name):
    fake.then(*["ok;repeat=0"] * 8)
    fields = ScoringFields(input="", output="", expected="", metadata={"context": []})
    (found,) = score(fake, name, fields).scores
    assert 0 <= found.value <= 1


@pytest.mark.parametrize("name", ["Factuality", "EmbeddingSimilarity", "Faithfulness"])
def test_a_text_that_is_too_long_is_not_posted_and_named(fake, name):
    fields = ScoringFields(
        input="q", output="x" * (2 * 2**20), expected="e", metadata={"context": "c"}
    )
    with pytest.raises(PromptTooLong, match="output alone has 2097152"):
        score(fake, name, fields)
    assert len(fake.calls) == 0


def test_a_text_that_a_prompt_uses_again_and_again_is_not_posted_either(fake):
    fake.then("ok;text=" + "y" * 400_000)
    fields = ScoringFields(input="q", output="o", metadata={"context": "c" * 700_000})
    with pytest.raises(PromptTooLong):
        score(fake, "Faithfulness", fields)
    assert len(fake.calls) == 1


RIGHT_CLASS = [
    ("429", RateLimited),
    ("408", JudgeUnavailable),
    ("500", JudgeUnavailable),
    ("503", JudgeUnavailable),
    ("html;status=502", JudgeUnavailable),
    ("huge;status=500", JudgeUnavailable),
    ("reset", JudgeUnavailable),
    ("reset_after_headers", JudgeUnavailable),
    ("not_http", JudgeUnavailable),
    ("hang", Timeout),
    ("hang_after_headers", Timeout),
    ("drip", Timeout),
    ("400", JudgeRefused),
    ("401", JudgeRefused),
    ("403", JudgeRefused),
    ("404", JudgeRefused),
    ("422", JudgeRefused),
    ("402", JudgeUnpaid),
    ("413", PromptTooLong),
    ("499", JudgeUnavailable),
    ("520", JudgeUnavailable),
    ("529", JudgeUnavailable),
    ("redirect", JudgeRefused),
    ("bad_json", JudgeUnavailable),
    ("html", JudgeRefused),
    ("list_body", BadResult),
    ("unknown_choice", BadResult),
    ("bad_arguments", BadResult),
    ("empty_choices", JudgeUnavailable),
    ("refusal", BadResult),
    ("huge", BadResult),
    ("huge;length=1", BadResult),
]


# Where a server seems to lack /responses, the other API is asked, which is a second call.
LACKS_RESPONSES = {"404", "html", "redirect"}


@pytest.mark.parametrize(
    ("behaviour", "error", "model"),
    [
        (behaviour, error, model)
        for behaviour, error in RIGHT_CLASS for model in (CHAT, RESPONSES)
        if model == CHAT or behaviour not in LACKS_RESPONSES
    ],
)
def test_each_failure_is_named_and_costs_exactly_one_call(fake, behaviour, error, model):
    fake.then(behaviour)
    with pytest.raises(error) as raised:
        score(fake, model=model, timeout_s=0.3)
    assert type(raised.value) is error
    assert len(fake.calls) == 1
    assert len(str(raised.value)) < 1000


def test_nothing_listening_is_a_judge_that_is_unavailable():
    with pytest.raises(JudgeUnavailable, match="could not be reached"):
        run("http://127.0.0.1:9/v1", ("Humor", EVERYTHING))


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("retry-after=7", 7.0),
        ("retry-after=0.5", 0.5),
        ("retry-after-ms=250", 0.25),
        ("retry-after=Fri,_20_Nov_2026_12:00:30_GMT", 30.0),
        ("retry-after=Fri,_20_Nov_2026_11:00:00_GMT", 0.0),
        ("retry-after=999999999", 3600.0),
        ("retry-after=inf", 3600.0),
        ("retry-after=-5", 0.0),
        ("retry-after=soon", None),
        ("retry-after=nan", None),
        ("message=slow", None),
    ],
)
@pytest.mark.parametrize(("status", "error"), [("429", RateLimited), ("503", JudgeUnavailable)])
def test_the_pause_that_the_judge_asks_for_is_passed_on(fake, status, error, header, wait_s):
    fake.then(f"{status};{header}")
    with pytest.raises(error) as raised:
        score(fake)
    assert raised.value.retry_after_s == wait_s


def test_a_refusal_says_what_the_server_said_and_what_to_check(fake):
    fake.then("401;message=no-such-key")
    with pytest.raises(JudgeRefused, match=r"no-such-key.*TALLYARD_JUDGE_API_KEY"):
        score(fake)


@pytest.mark.parametrize("behaviour", ["401;echo=1", "429;echo=1", "500;echo=1"])
def test_the_key_is_in_no_message_even_if_the_server_repeats_it(fake, behaviour):
    fake.then(behaviour)
    with pytest.raises((JudgeRefused, RateLimited, JudgeUnavailable)) as raised:
        score(fake)
    assert "***" in str(raised.value)
    assert KEY not in str(raised.value)


def test_an_answer_without_a_score_is_quoted(fake):
    fake.then("refusal")
    with pytest.raises(BadResult, match=r"Factuality found no score.*I cannot help with that"):
        score(fake)


@pytest.mark.parametrize("name", ["ContextPrecision", "EmbeddingSimilarity"])
def test_nan_from_the_judge_is_no_score(fake, name):
    fake.then("nan", "nan")
    with pytest.raises(BadResult, match=f"{name} returned nan"):
        score(fake, name)


def test_a_verdict_outside_0_to_1_is_no_score(fake):
    fake.then("ok;number=5")
    with pytest.raises(BadResult, match="must be between 0 and 1"):
        score(fake, "ContextPrecision")


def test_without_a_key_openai_is_not_asked():
    with pytest.raises(JudgeRefused, match="set TALLYARD_JUDGE_API_KEY"):
        run("https://api.openai.com/v1", ("Humor", EVERYTHING), key=None)


def test_without_a_key_another_endpoint_is_asked_without_one(fake):
    score(fake, key=None)
    assert fake.calls[0].key is None


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://host/v1", "https://u:p@host/v1", "https://host/v1?k=1",
     "http://[::1/v1", "http://host:99999/v1", ""],
)
def test_a_base_url_that_cannot_work_is_refused_at_the_start(url):
    with pytest.raises(SetupError, match="TALLYARD_JUDGE_BASE_URL") as raised:
        run(url, ("Humor", EVERYTHING))
    assert "u:p" not in str(raised.value)


def test_a_key_that_no_header_can_carry_is_refused_at_the_start():
    with pytest.raises(SetupError, match="TALLYARD_JUDGE_API_KEY"):
        run("https://host/v1", ("Humor", EVERYTHING), key="two\nlines")


def test_a_hundred_executions_at_once_do_not_mix(fake):
    choices = {"A": 0.4, "B": 0.6, "C": 1.0, "D": 0.0, "E": 1.0}
    wanted = [list(choices)[n % 5] for n in range(100)]
    jobs = [
        ("Factuality", ScoringFields(
            input=f"judge!ok;choice={choice};reasons=r{n};delay=0.0{n % 7} " + "x" * n * 4,
            output="o", expected="e",
        ))
        for n, choice in enumerate(wanted)
    ]
    results = run(fake.url, *jobs)
    for n, (choice, result) in enumerate(zip(wanted, results, strict=True)):
        assert result.scores[0].metadata == {"choice": choice, "rationale": f"r{n}"}
        assert result.scores[0].value == choices[choice]
        assert result.usage.calls == 1
        (prompt,) = (call.prompt for call in fake.calls if f"reasons=r{n};" in call.prompt)
        assert result.usage.prompt_tokens == len(prompt) // 4


def test_executions_of_several_calls_do_not_mix_their_usage(fake):
    results = run(fake.url, *[("AnswerRelevancy", EVERYTHING), ("Faithfulness", EVERYTHING),
                              ("AnswerSimilarity", EVERYTHING)] * 10)
    calls = [result.usage.calls for result in results]
    assert calls[1::3] == [2] * 10
    assert calls[2::3] == [2] * 10
    assert sum(calls) == len(fake.calls)


def test_256_calls_are_in_flight_at_once(fake):
    slow = ScoringFields(output="judge!ok;delay=4")
    run(fake.url, *[("Humor", slow)] * 256)
    assert fake.in_flight_max > 200


def test_no_more_calls_are_in_flight_than_allowed():
    with FakeJudge(delay_s=0.02) as fake:
        run(fake.url, *[("Humor", EVERYTHING)] * 20, in_flight=3)
        assert fake.in_flight_max == 3


def test_a_cancelled_execution_leaves_the_judge_usable(fake):
    async def cancel_then_score():
        judge = judge_at(fake.url, model=CHAT)
        fake.then("hang")
        hanging = asyncio.create_task(score_judged(judge, resolve("Humor"), EVERYTHING))
        while not fake.calls:
            await asyncio.sleep(0.01)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        result = await score_judged(judge, resolve("Humor"), EVERYTHING)
        await judge.close()
        return result

    assert asyncio.run(cancel_then_score()).scores[0].value == 1.0


def test_the_environment_is_not_heeded(fake, monkeypatch):
    with FakeJudge() as elsewhere:
        for name in ("OPENAI_BASE_URL", "BRAINTRUST_AI_GATEWAY_URL", "BRAINTRUST_API_URL",
                     "BRAINTRUST_APP_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.url)
        for name in ("OPENAI_API_KEY", "BRAINTRUST_API_KEY", "OPENAI_ORG_ID"):
            monkeypatch.setenv(name, "from-the-environment")
        run(fake.url, *[(name, EVERYTHING) for name in JUDGED], key=None)
        assert len(elsewhere.calls) == 0
    for call in fake.calls:
        assert "from-the-environment" not in str(call.headers)


def test_judging_does_not_load_the_openai_client(fake):
    script = (
        "import asyncio, sys; from scorers.judge.client import Judge, score_judged;"
        "from scorers.judge.endpoints import Endpoint, Endpoints;"
        "from scorers.arguments import ScoringFields; from scorers.catalog import resolve;\n"
        f"at = Endpoint(base_url={fake.url!r}, api_key='k', timeout_s=9, in_flight=9)\n"
        "judge = Judge(Endpoints(at), model='gpt-5', embedding_model='m')\n"
        "async def main():\n"
        "    await score_judged(judge, resolve('Humor'), ScoringFields(output='o'))\n"
        "    await judge.close()\n"
        "asyncio.run(main())\n"
        "print('openai' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )
    assert done.stdout.strip() == "False"


def test_entities_are_embedded_once_each_and_paired(fake):
    fake.then("ok;text=Paris", "ok;text=Paris")
    result = score(fake, "ContextEntityRecall")
    assert result.scores[0].value == pytest.approx(1)
    assert result.scores[0].metadata == {
        "context_entities": ["Paris"], "expected_entities": ["Paris"]
    }
    assert result.usage.calls == 3


def test_an_execution_has_a_most_of_calls(fake):
    fake.then("ok;repeat=300", "ok;repeat=300")
    with pytest.raises(BadResult, match="more than 256 calls"):
        score(fake, "ContextEntityRecall")
    assert len(fake.calls) == 256
