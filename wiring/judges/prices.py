"""Reads the file of prices that replaces the table that comes with Tallyard.

    as_of: 2026-11-01
    prices:
      gpt-5-mini: {prompt: 0.25, cached: 0.025, completion: 2}
      llama-*: {prompt: 0.1, completion: 0.4}
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from scorers.judge.prices import ANY, PRICE_MAX, Prices, PriceTable
from spans.errors import BadInput, SetupError
from spans.json import Json
from wiring.yaml_files import read_yaml_file

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Model = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Price = Annotated[float, Field(ge=0, le=PRICE_MAX, allow_inf_nan=False)]

PRICE = f"must be a number from 0 to {PRICE_MAX:.0f}"
_ENTRY = "must be an object: {prompt, cached, completion}"
_MUST = {
    "": "must be an object with `as_of` and `prices`",
    "as_of": "must be the day on which the prices held, such as 2026-11-01",
    "prices": "must be an object of prices by the models' names",
    "prompt": PRICE, "cached": PRICE, "completion": PRICE,
}


class PricesEntry(BaseModel):
    """Prices of a million tokens. `cached` is by default the price of the prompt."""

    model_config = _STRICT

    prompt: _Price
    completion: _Price = 0.0
    cached: _Price | None = None

    def with_cached(self) -> Prices:
        """The prices, that of cached tokens included."""
        cached = self.prompt if self.cached is None else self.cached
        return Prices(prompt=self.prompt, completion=self.completion, cached=cached)


class _File(BaseModel):
    model_config = _STRICT

    as_of: date
    prices: dict[_Model, PricesEntry]


def read_prices(file: Path) -> PriceTable:
    """The table that the file describes. Raises SetupError, which names every mistake by its
    path in the file."""
    try:
        content = read_yaml_file(file)
    except OSError as error:
        raise SetupError(f"TALLYARD_PRICES: {file} cannot be read: {error.strerror}") from error
    except BadInput as error:
        raise SetupError(f"TALLYARD_PRICES: {error}") from error
    problems = list(_misplaced(content))
    try:
        read = _File.model_validate(content)
    except ValidationError as error:
        problems = [_sentence(each["type"], each["loc"]) for each in error.errors()] + problems
        raise SetupError(f"TALLYARD_PRICES: {file}: {'; '.join(problems)}") from error
    if problems:
        raise SetupError(f"TALLYARD_PRICES: {file}: {'; '.join(problems)}")
    return PriceTable(
        as_of=read.as_of,
        prices={model: entry.with_cached() for model, entry in read.prices.items()},
    )


def _misplaced(content: Json) -> Iterator[str]:
    """The names of models in which `*` does not stand at the end."""
    prices = content.get("prices") if isinstance(content, dict) else None
    for model in prices if isinstance(prices, dict) else ():
        if ANY in model[:-1]:
            yield f"prices.{model:.60}: {ANY} may only stand at the end"


def _sentence(kind: str, where: tuple[int | str, ...]) -> str:
    """A mistake that the model found, in words of our own. `kind` is pydantic's."""
    parts = [str(part) for part in where if part != "[key]"]
    place = ".".join(parts) or "the file"
    if kind == "extra_forbidden":
        return f"{place}: no such field"
    if "[key]" in where:
        return f"{place}: a model's name must be text of 1 to 200 characters"
    if len(parts) > 1 and parts[0] == "prices":
        must = _ENTRY if len(parts) == 2 else _MUST[parts[-1]]
    else:
        must = _MUST[parts[-1] if parts else ""]
    return f"{place}: {'is missing, and ' * (kind == 'missing')}{must}"
