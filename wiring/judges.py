"""Reads the file that names endpoints of judges beside the default one.

    judges:
      - name: local
        url: http://gpu:8000/v1
        key_env: LOCAL_JUDGE_KEY
        models: [qwen3-32b, llama-*]
        prices: {prompt: 0.1, cached: 0.05, completion: 0.4}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from scorers.judge.endpoints import (
    ANY,
    DEFAULT_ENDPOINT,
    Api,
    Endpoint,
    Prices,
    key_problem,
    url_problem,
)
from spans.errors import BadInput, SetupError
from wiring.yaml_files import read_yaml_file

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
_Model = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Prices(BaseModel):
    """Prices of a million tokens. `cached` is by default the price of the prompt."""

    model_config = _STRICT

    prompt: _Price
    completion: _Price
    cached: _Price | None = None

    def with_cached(self) -> Prices:
        cached = self.prompt if self.cached is None else self.cached
        return Prices(prompt=self.prompt, completion=self.completion, cached=cached)


class _Judge(BaseModel):
    """One entry. Without a `url` it is the default endpoint's, with its key."""

    model_config = _STRICT

    name: _Name
    models: list[_Model] = Field(min_length=1)
    url: str | None = None
    key: SecretStr | None = None
    key_env: str | None = None
    api: Api = "auto"
    prices: _Prices | None = None
    in_flight: int | None = Field(None, ge=1, le=4096)
    timeout_s: float | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_key(self) -> _Judge:
        if self.key is not None and self.key_env is not None:
            raise ValueError("give either key or key_env")
        return self


class _File(BaseModel):
    model_config = _STRICT

    judges: list[_Judge]


def read_endpoints(
    file: Path, default: Endpoint, environment: Mapping[str, str]
) -> tuple[Endpoint, ...]:
    """The endpoints that the file describes. What an entry leaves out is as in `default`.

    Keys named by `key_env` are taken from `environment`. Raises SetupError, which names every
    mistake by its path in the file, and never a key.
    """
    try:
        content = read_yaml_file(file)
        judges = _File.model_validate(content).judges
    except OSError as error:
        raise SetupError(f"TALLYARD_JUDGES: {file} cannot be read: {error.strerror}") from error
    except BadInput as error:
        raise SetupError(f"TALLYARD_JUDGES: {error}") from error
    except ValidationError as error:
        problems = [f"{_path(each['loc'])}: {each['msg']}" for each in error.errors()]
        raise _refused(file, problems) from error
    problems = [*_repeated(judges)]
    endpoints: list[Endpoint] = []
    for index, judge in enumerate(judges):
        endpoint, wrong = _endpoint(judge, default, environment)
        endpoints.append(endpoint)
        problems += [f"judges[{index}].{field}: {problem}" for field, problem in wrong.items()]
    if problems:
        raise _refused(file, problems)
    return tuple(endpoints)


def _endpoint(
    judge: _Judge, default: Endpoint, environment: Mapping[str, str]
) -> tuple[Endpoint, dict[str, str]]:
    """The endpoint of an entry, and what is wrong with it, by the field."""
    wrong: dict[str, str] = {}
    key = judge.key.get_secret_value() if judge.key else None
    if judge.key_env is not None:
        key = environment.get(judge.key_env) or None
        if key is None:
            # Its name is not shown: the key itself may stand there by mistake.
            wrong["key_env"] = "the environment variable that it names is not set"
    elif key is None and judge.url is None:
        key = default.api_key   # which is sent to no other server
    if judge.url is not None and (problem := url_problem(judge.url)):
        wrong["url"] = problem
    if problem := key_problem(key):
        wrong["key_env" if judge.key_env else "key"] = problem
    for number, model in enumerate(judge.models):
        if ANY in model[:-1]:
            wrong[f"models[{number}]"] = f"{ANY} may only stand at the end"
    return Endpoint(
        name=judge.name, models=tuple(judge.models), api=judge.api, api_key=key,
        base_url=judge.url or default.base_url,
        prices=None if judge.prices is None else judge.prices.with_cached(),
        in_flight=judge.in_flight or default.in_flight,
        timeout_s=judge.timeout_s or default.timeout_s,
    ), wrong


def _repeated(judges: Sequence[_Judge]) -> list[str]:
    """Names and models that stand twice, so that a choice would be arbitrary."""
    problems: list[str] = []
    names, models = {DEFAULT_ENDPOINT}, set[str]()
    for index, judge in enumerate(judges):
        if judge.name in names:
            problems.append(f"judges[{index}].name: {judge.name} is taken")
        names.add(judge.name)
        for number, model in enumerate(judge.models):
            if model in models:
                problems.append(f"judges[{index}].models[{number}]: {model} stands twice")
            models.add(model)
    return problems


def _path(where: Sequence[int | str]) -> str:
    """A place in the file, as in `judges[1].prices.prompt`."""
    path = ""
    for part in where:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "the file"


def _refused(file: Path, problems: Sequence[str]) -> SetupError:
    return SetupError(f"TALLYARD_JUDGES: {file}: " + "; ".join(problems))
