"""Reserves what a call of a judge can cost at most, before it is made, where a budget caps it.

The dearest outcome of a call is known before it. No token is shorter than a byte, so the bytes
of its body bound the tokens of the prompt; a limit that is sent with it bounds those of the
answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from scorers.judge.prices import Prices
from spans.errors import (
    ContentRefused,
    JudgeRefused,
    JudgeUnfit,
    JudgeUnpaid,
    NoPrice,
    PromptTooLong,
    RateLimited,
)
from spans.json import Json, JsonObject

LIMITS = {
    "/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/responses": ("max_output_tokens",),
}
"""The parameters that limit the tokens of an answer. Other paths answer without tokens."""


class Receipt(Protocol):
    """What was reserved for one call. It is settled once, by one of both methods; a call that
    never is stays reserved."""

    def settle(self, money: int | None) -> None:
        """The call cost so many billionths; None: perhaps all that was reserved."""
        ...

    def give_back(self) -> None:
        """The endpoint has refused the call before it began to answer."""
        ...


class Purse(Protocol):
    """The budgets of one run of a scorer."""

    async def answer_tokens_max(self) -> int | None:
        """Most tokens that an answer may have, if a budget caps money; else None."""
        ...

    async def reserve(self, dearest: int | None) -> Receipt | None:
        """Reserve so many billionths for a call; None: nobody knows what it can cost.

        Returns None if no budget caps the run. Raises BudgetSpent if too little is left, and
        NoPrice if a budget of money needs to know the cost.
        """
        ...


paying: ContextVar[Purse | None] = ContextVar("paying", default=None)
"""The purse of the run under way; None: nothing caps it. A context variable for the reason that
`scorers.judge.call_costs.current` is one."""


@contextmanager
def paying_from(purse: Purse | None) -> Iterator[None]:
    """Have the calls that this task, and the tasks that it starts, make within the block paid
    from the purse."""
    token = paying.set(purse)
    try:
        yield
    finally:
        paying.reset(token)


REFUSED = (
    RateLimited, JudgeRefused, JudgeUnpaid, JudgeUnfit, PromptTooLong, ContentRefused
)
"""Errors of calls that the endpoint did not begin to answer, and that cost nothing."""


@contextmanager
def receipt_of_lost_calls(receipt: Receipt | None) -> Iterator[None]:
    """Settle the receipt of a call that an exception ends within the block.

    All that was reserved counts as spent, unless the endpoint refused the call: it may charge
    for an answer that does not arrive.
    """
    try:
        yield
    except REFUSED:
        if receipt is not None:
            receipt.give_back()
        raise
    except BaseException:
        if receipt is not None:
            receipt.settle(None)
        raise


async def reserved(
    purse: Purse | None, path: str, body: JsonObject, prices: Prices | None
) -> tuple[JsonObject, Receipt | None]:
    """The body to send, with a limit of its answer if money is capped, and what is reserved.

    Raises BudgetSpent and NoPrice.
    """
    if purse is None:
        return body, None
    most = await purse.answer_tokens_max()
    try:
        return await _reserved(purse, path, body, prices, most)
    except NoPrice:
        if most is not None or prices is None:
            raise
    # A budget of money was made a moment ago.
    return await _reserved(purse, path, body, prices, await purse.answer_tokens_max())


async def _reserved(
    purse: Purse, path: str, body: JsonObject, prices: Prices | None, most: int | None
) -> tuple[JsonObject, Receipt | None]:
    if most is None:
        return body, await purse.reserve(None)
    sent, tokens = limited(path, body, most)
    dearest = None if prices is None else prices.dearest(len(json.dumps(sent)), tokens)
    return sent, await purse.reserve(dearest)


def limited(path: str, body: JsonObject, most: int) -> tuple[JsonObject, int]:
    """The body with a limit of its answer's tokens, and that limit.

    The author's lower limit stays.
    """
    names = LIMITS.get(path)
    if names is None:
        return body, 0
    given = {name: _lower(body[name], most) for name in names if body.get(name) is not None}
    limits = given or {names[0]: most}
    return {**body, **limits}, max(limits.values())


def _lower(value: Json, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return most
    return min(value, most)
