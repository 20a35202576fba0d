"""What one execution of a judged scorer costs, over however many calls it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from spans.json import JsonObject
from spans.scoring import Usage

TOKENS_MAX = 2**31 - 1
"""Of one call. A judge that counts more is wrong, and the column is a bigint."""


@dataclass(slots=True)
class CallCosts:
    """What the calls of one execution cost, and the last answer (for messages)."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str | None = None
    answer: JsonObject | None = None
    embeddings: dict[str, JsonObject] = field(default_factory=dict)

    def count(self, answer: JsonObject, model: str | None) -> None:
        """Add one answer. /responses says input and output where the others say prompt."""
        self.answer = answer
        self.model = self.model or model
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens += _tokens(usage, "prompt_tokens", "input_tokens")
            self.completion_tokens += _tokens(usage, "completion_tokens", "output_tokens")

    def usage(self) -> Usage:
        """The sums, as they are stored."""
        return Usage(
            calls=self.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            model=self.model,
        )


# A context variable, not an argument: between score_judged and the call stands autoevals,
# whose scorers are shared by all executions. Tasks it starts inherit it.
current: ContextVar[CallCosts] = ContextVar("judged_execution")


@contextmanager
def counting_calls() -> Iterator[CallCosts]:
    """A new execution, current for this task and those that it starts."""
    execution = CallCosts()
    token = current.set(execution)
    try:
        yield execution
    finally:
        current.reset(token)


def _tokens(usage: JsonObject, *names: str) -> int:
    for name in names:
        count = usage.get(name)
        if isinstance(count, int) and count > 0:
            return min(count, TOKENS_MAX)
    return 0
