"""What the tokens of a model cost: the prices of the endpoints first, then a table of prices.

The table that comes with Tallyard holds list prices of OpenAI; an operator can replace it. All
prices are for a million tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

ANY = "*"
"""At the end of a model's name: any rest."""

PRICE_MAX = 1e6
"""The highest price of a million tokens that is taken. The dearest models cost hundreds."""

_TOKENS = 10**6
_BILLION = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a million tokens cost: of a prompt, of its cached part, and of an answer.

    The currency is whatever the operator counts in.
    """

    prompt: float
    completion: float
    cached: float

    def cost(self, prompt: int, cached: int, completion: int) -> float:
        """The cost of a call; `cached` of its `prompt` tokens were cached."""
        fresh = (prompt - cached) * self.prompt
        return (fresh + cached * self.cached + completion * self.completion) / 1e6

    def billionths(self, prompt: int, cached: int, completion: int) -> int:
        """The same cost in whole billionths of the currency's unit, rounded up."""
        total = (
            (prompt - cached) * _whole(self.prompt) + cached * _whole(self.cached)
            + completion * _whole(self.completion)
        )
        return -(-total // _TOKENS)

    def dearest(self, prompt: int, completion: int) -> int:
        """The most that a call with so many tokens can cost, in billionths."""
        tokens_of_prompt = prompt * max(_whole(self.prompt), _whole(self.cached))
        return -(-(tokens_of_prompt + completion * _whole(self.completion)) // _TOKENS)


FREE = Prices(prompt=0.0, completion=0.0, cached=0.0)
"""The prices of moderation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices by the names of models, and the day on which they held.

    A name that ends with `*` stands for all models that begin so.
    """

    as_of: date | None = None
    prices: Mapping[str, Prices] = field(default_factory=dict)

    def of(self, model: str) -> Prices | None:
        """The prices under the model's name, else under its longest beginning."""
        if (exact := self.prices.get(model)) is not None:
            return exact
        begin = [
            name for name in self.prices
            if name.endswith(ANY) and model.startswith(name.removesuffix(ANY))
        ]
        return self.prices[max(begin, key=len)] if begin else None


def _whole(price: float) -> int:
    """The price in whole billionths, so that sums are exact."""
    return round(price * _BILLION)


# OpenAI's models: prompt, its cached part, answer. In dollars.
_OPENAI: Mapping[str, tuple[float, float, float]] = {
    "gpt-5": (1.25, 0.125, 10.0),
    "gpt-5-mini": (0.25, 0.025, 2.0),
    "gpt-5-nano": (0.05, 0.005, 0.40),
    "gpt-5-chat-latest": (1.25, 0.125, 10.0),
    "gpt-4.1": (2.0, 0.50, 8.0),
    "gpt-4.1-mini": (0.40, 0.10, 1.60),
    "gpt-4.1-nano": (0.10, 0.025, 0.40),
    "gpt-4o": (2.50, 1.25, 10.0),
    "gpt-4o-mini": (0.15, 0.075, 0.60),
    "gpt-4-turbo": (10.0, 10.0, 30.0),
    "gpt-4": (30.0, 30.0, 60.0),
    "gpt-3.5-turbo": (0.50, 0.50, 1.50),
    "o1": (15.0, 7.50, 60.0),
    "o3": (2.0, 0.50, 8.0),
    "o3-mini": (1.10, 0.55, 4.40),
    "o4-mini": (1.10, 0.275, 4.40),
    "text-embedding-3-small": (0.02, 0.02, 0.0),
    "text-embedding-3-large": (0.13, 0.13, 0.0),
    "text-embedding-ada-002": (0.10, 0.10, 0.0),
}
# A model of a certain day is named like `gpt-4o-mini-2024-07-18`. These cost something else.
_OTHER: Mapping[str, tuple[float, float, float]] = {
    "gpt-4o-2024-05-13": (5.0, 5.0, 15.0),
}


def _prices(given: tuple[float, float, float]) -> Prices:
    prompt, cached, completion = given
    return Prices(prompt=prompt, cached=cached, completion=completion)


LIST_PRICES = PriceTable(
    as_of=date(2025, 9, 1),
    prices={
        name: _prices(given)
        for model, given in _OPENAI.items() for name in (model, f"{model}-2{ANY}")
    } | {model: _prices(given) for model, given in _OTHER.items()},
)
"""OpenAI's list prices in dollars, for calls at the usual pace (not in batches, nor by
priority)."""
