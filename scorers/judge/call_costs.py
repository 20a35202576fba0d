"""Counts the calls and tokens of one run of a judged scorer, which may make several calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from scorers.judge.prices import Prices
from spans.json import JsonObject
from spans.scoring import Usage

TOKENS_MAX = 2**31 - 1
"""Most tokens that are counted of one call. A judge that reports more is wrong, and the sum of
a run's calls must fit the table's bigint."""


@dataclass(slots=True)
class CallCosts:
    """The calls of one run and their tokens.

    `answer` is the last answer, for error messages. `embeddings` holds the run's embeddings by
    their text, so that none is asked for twice.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    model: str | None = None
    answer: JsonObject | None = None
    embeddings: dict[str, JsonObject] = field(default_factory=dict)

    def count(
        self, answer: JsonObject, model: str | None, prices: Prices | None
    ) -> int | None:
        """Add the tokens of one answer, and with `prices` their cost.

        Returns the cost in billionths; None if there are no prices, or the answer does not tell
        all of its tokens. /responses reports input and output tokens; the other endpoints
        report prompt and completion tokens.
        """
        self.answer = answer
        self.model = self.model or model
        usage = answer.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        prompt = _tokens(usage, "prompt_tokens", "input_tokens")
        completion = _tokens(usage, "completion_tokens", "output_tokens")
        cached = min(prompt, _cached_tokens(usage))
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.cached_tokens += cached
        if prices is not None:
            self.cost = (self.cost or 0.0) + prices.cost(prompt, cached, completion)
            if prompt and (completion or "data" in answer):   # only embeddings have no answer
                return prices.billionths(prompt, cached, completion)
        return None

    def usage(self) -> Usage:
        """The sums, in the form in which a result holds them."""
        return Usage(
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            cost=self.cost,
            model=self.model,
        )


# This is a context variable and not an argument because autoevals' code runs between
# `score_judged` and the HTTP call, and its scorer objects are shared by all runs. The tasks
# that autoevals starts inherit the variable.
current: ContextVar[CallCosts] = ContextVar("judged_execution")


@contextmanager
def counting_calls() -> Iterator[CallCosts]:
    """Count the calls that this task, and the tasks that it starts, make within the block.

    A block within another counts with it: both are about the same run.
    """
    outer = current.get(None)
    if outer is not None:
        yield outer
        return
    execution = CallCosts()
    token = current.set(execution)
    try:
        yield execution
    finally:
        current.reset(token)


def _cached_tokens(usage: JsonObject) -> int:
    """Tokens of the prompt that the provider had cached, in any of the forms of servers."""
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = usage.get(name)
        if isinstance(details, dict):
            return _tokens(details, "cached_tokens")
    return _tokens(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens")


def _tokens(usage: JsonObject, *names: str) -> int:
    for name in names:
        count = usage.get(name)
        if isinstance(count, int) and count > 0:
            return min(count, TOKENS_MAX)
    return 0
