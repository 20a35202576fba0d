"""Reads the file that names endpoints of judges beside the default one.

    judges:
      - name: local
        url: http://gpu:8000/v1
        key_env: LOCAL_JUDGE_KEY
        models: [qwen3-32b, llama-*]
        prices: {prompt: 0.1, cached: 0.05, completion: 0.4}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from scorers.judge.endpoints import (
    DEFAULT_ENDPOINT,
    Api,
    Endpoint,
    key_problem,
    url_problem,
)
from scorers.judge.prices import ANY, PRICE_MAX
from spans.errors import BadInput, SetupError
from spans.json import Json, JsonObject
from wiring.judges.prices import PRICE, PricesEntry
from wiring.yaml_files import read_yaml_file

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
_Model = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _JudgePrices(PricesEntry):
    completion: float = Field(ge=0, le=PRICE_MAX, allow_inf_nan=False)


class _Judge(BaseModel):
    """One entry. Without a `url` it is the default endpoint's, with its key."""

    model_config = _STRICT

    name: _Name
    models: list[_Model] = Field(min_length=1)
    url: str | None = None
    key: SecretStr | None = None
    key_env: str | None = None
    api: Api = "auto"
    prices: _JudgePrices | None = None
    in_flight: int | None = Field(None, ge=1, le=4096)
    timeout_s: float | None = Field(None, gt=0, allow_inf_nan=False)


class _File(BaseModel):
    model_config = _STRICT

    judges: list[_Judge]


_MUST = {
    "": "must be an object with the list `judges`",
    "judges": "must be a list of judges",
    "judges[]": "must be an object with a name and models",
    "name": "must be 1 to 40 lower case letters, digits, - or _, the first a letter or digit",
    "models": "must be a list of at least one name of a model",
    "models[]": "must be text of 1 to 200 characters",
    "url": "must be text",
    "key": "must be text: put it in quotes",   # a number or a date, else
    "key_env": "must be the name of an environment variable",
    "api": "must be auto, chat or responses",
    "prices": "must be an object: {prompt, completion, cached}",
    "prompt": PRICE, "completion": PRICE, "cached": PRICE,
    "in_flight": "must be a whole number from 1 to 4096",
    "timeout_s": "must be a number of seconds above 0",
}
"""What each field must be, and each item of a list."""


def read_endpoints(
    file: Path, default: Endpoint, environment: Mapping[str, str]
) -> tuple[Endpoint, ...]:
    """The endpoints that the file describes. What an entry leaves out is as in `default`.

    Keys named by `key_env` are taken from `environment`. Raises SetupError, which names every
    mistake by its path in the file, and never a key.
    """
    try:
        content = read_yaml_file(file)
    except OSError as error:
        raise SetupError(f"TALLYARD_JUDGES: {file} cannot be read: {error.strerror}") from error
    except BadInput as error:
        raise SetupError(f"TALLYARD_JUDGES: {error}") from error
    judges: list[_Judge] = []
    problems: list[str] = []
    try:
        judges = _File.model_validate(content).judges
    except ValidationError as error:
        problems += [_sentence(each["type"], each["loc"]) for each in error.errors()]
    # What the models do not tell, also of entries in which they found a mistake.
    entries = _entries(content)
    for index, entry in entries:
        wrong = _wrong(entry, environment)
        problems += [f"judges[{index}].{field}: {problem}" for field, problem in wrong]
    problems += _repeated(entries)
    if problems:
        raise SetupError(f"TALLYARD_JUDGES: {file}: {'; '.join(problems)}")
    return tuple(_endpoint(judge, default, environment) for judge in judges)


def _endpoint(judge: _Judge, default: Endpoint, environment: Mapping[str, str]) -> Endpoint:
    key = judge.key.get_secret_value() if judge.key else None
    if judge.key_env is not None:
        key = environment[judge.key_env]
    elif key is None and judge.url is None:
        key = default.api_key   # which is sent to no other server
    return Endpoint(
        name=judge.name, models=tuple(judge.models), api=judge.api, api_key=key,
        base_url=judge.url or default.base_url,
        prices=None if judge.prices is None else judge.prices.with_cached(),
        in_flight=judge.in_flight or default.in_flight,
        timeout_s=judge.timeout_s or default.timeout_s,
    )


def _entries(content: Json) -> list[tuple[int, JsonObject]]:
    """The entries that are objects, with their places in the list."""
    judges = content.get("judges") if isinstance(content, dict) else None
    if not isinstance(judges, list):
        return []
    return [(index, entry) for index, entry in enumerate(judges) if isinstance(entry, dict)]


def _models(entry: JsonObject) -> Iterator[tuple[int, str]]:
    models = entry.get("models")
    for number, model in enumerate(models if isinstance(models, list) else ()):
        if isinstance(model, str) and model:
            yield number, model


def _wrong(entry: JsonObject, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The fields of an entry whose values have the right type and are wrong, and why."""
    key, key_env, url = (entry.get(name) for name in ("key", "key_env", "url"))
    if entry.get("name") == DEFAULT_ENDPOINT:
        yield "name", f"{DEFAULT_ENDPOINT} is reserved for the endpoint of the settings"
    for number, model in _models(entry):
        if ANY in model[:-1]:
            yield f"models[{number}]", f"{ANY} may only stand at the end"
    if isinstance(url, str) and (problem := url_problem(url)):
        yield "url", problem
    if key is not None and key_env is not None:
        yield "key", "give either key or key_env"
    if isinstance(key, str) and (problem := key_problem(key)):
        yield "key", problem
    if isinstance(key_env, str):
        if not (named := environment.get(key_env)):
            # Its name is not shown: the key itself may stand there by mistake.
            yield "key_env", "the environment variable that it names is not set"
        elif problem := key_problem(named):
            yield "key_env", f"the environment variable that it names {problem}"


def _repeated(entries: Sequence[tuple[int, JsonObject]]) -> Iterator[str]:
    """Names and models that stand twice, so that a choice would be arbitrary."""
    names, models = set[str](), set[str]()
    for index, entry in entries:
        name = entry.get("name")
        if isinstance(name, str):
            if name in names:
                yield f"judges[{index}].name: another judge has that name"
            names.add(name)
        for number, model in _models(entry):
            if model in models:
                yield f"judges[{index}].models[{number}]: {model:.60} stands twice"
            models.add(model)


def _sentence(kind: str, where: Sequence[int | str]) -> str:
    """A mistake that the models found, in words of our own. `kind` is pydantic's."""
    place = _path(where)
    if kind == "extra_forbidden":
        return f"{place}: no such field"
    last = where[-1] if where else ""
    must = _MUST[f"{where[-2]}[]" if isinstance(last, int) else last]
    return f"{place}: {'is missing, and ' * (kind == 'missing')}{must}"


def _path(where: Sequence[int | str]) -> str:
    """A place in the file, as in `judges[1].prices.prompt`."""
    path = ""
    for part in where:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "the file"
