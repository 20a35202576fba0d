"""The file of judges' endpoints, and the endpoint that each model gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from judges import endpoint_at

from scorers.judge.endpoints import Endpoint, Endpoints
from scorers.judge.prices import Prices
from spans.errors import SetupError
from wiring.judges.endpoints import read_endpoints
from wiring.settings import read_settings

SECRET = "sk-very-secret"
TWO = """
judges:
  - name: local
    url: http://gpu:8000/v1
    key_env: LOCAL_KEY
    models: [qwen3-32b, llama-*]
    api: chat
    in_flight: 8
    timeout_s: 120
  - name: mini
    models: [gpt-5-mini]
    prices: {prompt: 0.25, cached: 0.025, completion: 2}
"""
DEFAULT = endpoint_at("https://api.openai.com/v1", key="sk-default")


def read(folder: Path, text: str, **environment: str) -> tuple[Endpoint, ...]:
    file = folder / "judges.yaml"
    file.write_text(text, encoding="utf-8")
    return read_endpoints(file, DEFAULT, environment)


def test_an_entry_has_what_it_says_and_the_rest_of_the_default(tmp_path):
    local, mini = read(tmp_path, TWO, LOCAL_KEY=SECRET)

    assert local == Endpoint(
        name="local", base_url="http://gpu:8000/v1", api_key=SECRET, timeout_s=120.0,
        in_flight=8, models=("qwen3-32b", "llama-*"), api="chat",
    )
    assert (mini.base_url, mini.api_key) == (DEFAULT.base_url, "sk-default")
    assert mini.prices == Prices(prompt=0.25, cached=0.025, completion=2.0)


def test_the_default_key_is_sent_to_no_other_server(tmp_path):
    (other,) = read(tmp_path, "judges: [{name: a, url: 'http://h/v1', models: [m]}]")

    assert other.api_key is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("judges: [{name: a, models: [m], urll: x}]", r"judges\[0\]\.urll: no such field"),
        ("judges: [{name: A b, models: [m]}]", r"judges\[0\]\.name: must be 1 to 40 lower"),
        ("judges: [{name: 7, models: m}]", r"\.name: must .*judges\[0\]\.models: must be a"),
        ("judges: [{name: default, models: [m]}]",
         r"judges\[0\]\.name: default is reserved"),
        ("judges: [{name: a, models: [m, 7, '']}]",
         r"judges\[0\]\.models\[1\]: must .*judges\[0\]\.models\[2\]: must "),
        ("judges: [{name: a, models: [m], key: 123}]",
         r"judges\[0\]\.key: must be text: put it in quotes"),
        ("judges: [a, {name: a, models: [m], prices: 2}]",
         r"judges\[0\]: must be an object with.*judges\[1\]\.prices: must be an object"),
        ("judges: []\njudge: []", "judge: no such field"),
        ("judges: [{name: a, models: [m]}, {name: a, models: [n]}]", r"judges\[1\]\.name"),
        ("judges: [{name: a, models: [m]}, {name: b, models: [n, m]}]",
         r"judges\[1\]\.models\[1\]: m stands twice"),
        ("judges: [{name: a, models: []}]", r"judges\[0\]\.models: "),
        ("judges: [{name: a, models: ['a*b']}]", r"judges\[0\]\.models\[0\]: \* may only"),
        ("judges: [{name: a}]", r"judges\[0\]\.models: is missing, and must be a list"),
        ("judges: [{name: a, models: [m], url: 'ftp://h'}]", r"judges\[0\]\.url: must start"),
        ("judges: [{name: a, models: [m], key_env: NONE_SUCH}]",
         r"judges\[0\]\.key_env: the environment variable that it names is not set"),
        (f"judges: [{{name: a, models: [m], key_env: {SECRET}}}]",
         r"judges\[0\]\.key_env: the environment variable that it names is not set"),
        (f"judges: [{{name: a, models: [m], url: 'http://u:{SECRET}/x@h/v1'}}]",
         r"judges\[0\]\.url: is not a URL, or its port is no number"),
        (f"judges: [{{name: a, models: [m], key: !!int {SECRET}}}]",
         r"judges\.yaml:1: the value is not of the type int"),
        (f"judges: [{{name: a, models: [m], key: {SECRET}, key_env: X}}]",
         r"judges\[0\]\.key: give either key or key_env"),
        ('judges: [{name: a, models: [m], key: "sk\\n-very-secret"}]',
         r"judges\[0\]\.key: holds a character"),
        ("judges: [{name: a, models: [m], prices: {prompt: -1, completion: 1}}]",
         r"judges\[0\]\.prices\.prompt: "),
        ("judges: [{name: a, models: [m], prices: {prompt: 1}}]",
         r"judges\[0\]\.prices\.completion: "),
        ("judges: [{name: a, models: [m], in_flight: 0}]", r"judges\[0\]\.in_flight: "),
        ("judges: [{name: a, models: [m], timeout_s: .inf}]", r"judges\[0\]\.timeout_s: "),
        ("judges: [{name: a, models: [m], api: grpc}]", r"judges\[0\]\.api: "),
        ("judges: {name: a}", r"judges: "), ("[]", "the file: "), ("", "the file: "),
        ("judges: [", r"judges\.yaml:1: not valid YAML"),
        ("judges: []\njudges: []", "judges.yaml:2: .*given twice"),
    ],
)
def test_a_mistake_is_named_by_its_path_and_shows_no_key(tmp_path, text, problem):
    with pytest.raises(SetupError, match=f"(?s)TALLYARD_JUDGES: .*{problem}") as raised:
        read(tmp_path, text)

    assert "very-secret" not in str(raised.value)


def test_all_mistakes_are_named_at_once(tmp_path):
    text = (
        "judges: [{name: a, models: [m], url: x, key_env: Y, nam: b}, {name: a, models: [m]},"
        " {name: default, models: [], in_flight: no, prices: {prompt: x}, key: a, key_env: Y}]"
    )

    with pytest.raises(SetupError) as raised:
        read(tmp_path, text)

    said = str(raised.value)
    for place in ("[0].url", "[0].key_env", "[0].nam", "[1].name", "[1].models[0]", "[2].name",
                  "[2].models", "[2].in_flight", "[2].prices.prompt", "[2].prices.completion",
                  "[2].key", "[2].key_env"):
        assert said.count(f"judges{place}: ") == 1
    for word in ("Input", "Value error", "pattern", "valid "):
        assert word not in said


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SetupError, match=r"nowhere\.yaml cannot be read: No such file"):
        read_endpoints(tmp_path / "nowhere.yaml", DEFAULT, {})


def test_settings_have_the_endpoints_of_their_file(tmp_path):
    file = tmp_path / "judges.yaml"
    file.write_text(TWO, encoding="utf-8")
    given = {"TALLYARD_JUDGES": str(file), "TALLYARD_JUDGE_IN_FLIGHT": "7", "LOCAL_KEY": SECRET}

    settings = read_settings(given)

    names = [(each.name, each.in_flight) for each in settings.judge_endpoints]
    assert names == [("default", 7), ("local", 8), ("mini", 7)]
    assert SECRET not in repr(settings) + repr(settings.judge_endpoints)
    assert [each.name for each in read_settings({}).judge_endpoints] == ["default"]


def named(name: str, *models: str) -> Endpoint:
    return Endpoint(name=name, models=models, base_url="http://h", api_key=None, timeout_s=1,
                    in_flight=1)


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        ("gpt-4o", "default"), ("llama-3", "local"), ("llama-", "local"), ("llama", "default"),
        ("llama-4-70b", "large"), ("llama-3-tiny", "tiny"), ("Llama-3", "default"),
        ("", "default"),
    ],
)
def test_a_model_is_asked_where_it_is_named_or_its_longest_beginning_is(model, endpoint):
    endpoints = Endpoints(DEFAULT, [
        named("local", "llama-*"), named("large", "llama-4*"), named("tiny", "llama-3-tiny"),
        named("tinier", "llama-3-ti*"),
    ])

    assert endpoints.of(model).name == endpoint


def test_an_endpoint_for_all_models_leaves_the_default_none():
    assert Endpoints(DEFAULT, [named("all", "*")]).of("anything").name == "all"


@pytest.mark.parametrize(
    ("tokens", "cost"),
    [((1_000_000, 0, 0), 2.0), ((1_000_000, 1_000_000, 0), 0.5), ((0, 0, 1_000_000), 8.0),
     ((1000, 400, 10), 0.00148), ((0, 0, 0), 0.0)],
)
def test_a_call_costs_what_its_tokens_cost(tokens: tuple[Any, ...], cost: float):
    prices = Prices(prompt=2.0, cached=0.5, completion=8.0)

    assert prices.cost(*tokens) == pytest.approx(cost)
