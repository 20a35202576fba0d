"""What is reserved for calls of a judge, what is sent with them, and what stays spent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.judge import FakeJudge
from fakes.memory.purse import MemoryPurse
from judges import judge_at

from scorers.arguments import ScoringFields
from scorers.catalog import resolve
from scorers.judge.client import score_judged
from scorers.judge.prices import Prices
from scorers.judge.purse import paying_from
from spans.errors import (
    BudgetSpent,
    JudgeRefused,
    JudgeUnavailable,
    NoPrice,
    TallyardError,
    Timeout,
)
from spans.scoring import ScoringResult

PRICES = Prices(prompt=2.0, cached=1.0, completion=8.0)
MODEL, NEW_MODEL = "gpt-4o", "gpt-5-mini"
PLENTY = 10**12
CHAT, RESPONSES = "/chat/completions", "/responses"


@pytest.fixture
def fake(judge_server: FakeJudge) -> FakeJudge:
    judge_server.forget()
    return judge_server


def score(
    fake: FakeJudge, purse: MemoryPurse, behaviour: str = "ok", *, name: str = "Factuality",
    model: str = MODEL, prices: dict[str, Prices] | None = None, output: str = "answer",
    expected: str = "truth", **settings: Any,
) -> ScoringResult:
    """One run of a scorer whose calls are paid from the purse."""
    if prices is None:
        prices = {MODEL: PRICES, NEW_MODEL: PRICES, "small": PRICES}
    fields = ScoringFields(
        input=f"question judge!{behaviour}", output=output, expected=expected, metadata={}
    )

    async def run() -> ScoringResult:
        judge = judge_at(fake.url, model=model, prices=prices, **settings)
        try:
            with paying_from(purse):
                return await score_judged(judge, resolve(name), fields)
        finally:
            await judge.close()

    return asyncio.run(run())


def test_the_dearest_outcome_is_reserved_and_what_was_not_used_comes_back(fake) -> None:
    purse = MemoryPurse(money=PLENTY)

    result = score(fake, purse)

    (call,), (receipt,) = fake.calls, purse.receipts
    assert call.body["max_tokens"] == 100
    assert receipt.reserved == len(call.raw) * 2000 + 100 * 8000
    usage = result.usage
    assert receipt.spent == usage.prompt_tokens * 2000 + 7 * 8000
    assert usage.cost == pytest.approx(receipt.spent / 1e9)
    assert purse.money == PLENTY - receipt.spent


def test_a_call_that_the_budget_does_not_allow_is_not_made(fake) -> None:
    with pytest.raises(BudgetSpent) as caught:
        score(fake, MemoryPurse(money=1000))

    assert caught.value.budget_no == 7
    assert not fake.calls


def test_a_model_without_a_price_is_refused_before_the_call_and_only_for_money(fake) -> None:
    with pytest.raises(NoPrice):
        score(fake, MemoryPurse(money=PLENTY), prices={})
    assert not fake.calls

    purse = MemoryPurse()
    assert score(fake, purse, prices={}).usage.cost is None
    (call,), (receipt,) = fake.calls, purse.receipts
    assert "max_tokens" not in call.body
    assert receipt.spent == 0


@pytest.mark.parametrize(
    ("behaviour", "error", "is_spent"),
    [
        ("500", JudgeUnavailable, True), ("hang", Timeout, True), ("reset", None, True),
        ("bad_json", None, True), ("401", JudgeRefused, False), ("429", None, False),
        ("402", None, False), ("413", None, False),
    ],
)
def test_a_call_stays_spent_unless_the_endpoint_refused_it(
    fake, behaviour: str, error: type[TallyardError] | None, is_spent: bool
) -> None:
    purse = MemoryPurse(money=PLENTY)

    with pytest.raises(error or TallyardError):
        score(fake, purse, behaviour, timeout_s=0.3)

    (receipt,) = purse.receipts
    assert receipt.spent == (receipt.reserved if is_spent else 0)


def test_an_answer_that_does_not_tell_its_tokens_has_spent_all_that_was_reserved(fake) -> None:
    purse = MemoryPurse(money=PLENTY)

    score(fake, purse, "uncounted")

    (receipt,) = purse.receipts
    assert receipt.spent == receipt.reserved > 0


def test_the_limit_is_named_as_the_api_names_it(fake) -> None:
    score(fake, MemoryPurse(money=PLENTY), model=NEW_MODEL)

    (call,) = fake.calls
    assert (call.path, call.body["max_output_tokens"]) == (RESPONSES, 100)


def test_a_limit_that_is_refused_is_renamed_and_never_left_out(fake) -> None:
    fake.refuses |= {"max_tokens"}
    purse = MemoryPurse(money=PLENTY)
    score(fake, purse)
    assert [call.body.get("max_completion_tokens") for call in fake.calls] == [None, 100]
    assert len(purse.receipts) == 1
    fake.forget()

    fake.refuses |= {"max_tokens", "max_completion_tokens"}
    purse = MemoryPurse(money=PLENTY)
    with pytest.raises(JudgeRefused):
        score(fake, purse)
    assert all(
        "max_tokens" in call.body or "max_completion_tokens" in call.body
        for call in fake.calls
    )
    assert purse.money == PLENTY


def test_an_embedding_is_paid_without_a_limit(fake) -> None:
    purse = MemoryPurse(money=PLENTY)

    score(fake, purse, name="EmbeddingSimilarity")

    assert len(fake.calls) == len(purse.receipts) == 2
    assert all("max_tokens" not in call.body for call in fake.calls)
    assert all(
        receipt.reserved == len(call.raw) * 2000 and 0 < (receipt.spent or 0) < receipt.reserved
        for call, receipt in zip(fake.calls, purse.receipts, strict=True)
    )


def test_a_run_ends_with_the_call_that_its_budget_does_not_allow(fake) -> None:
    texts = {"output": "a" * 40, "expected": "b" * 40}
    plenty = MemoryPurse(money=PLENTY)
    score(fake, plenty, name="EmbeddingSimilarity", **texts)
    fake.forget()
    purse = MemoryPurse(money=plenty.receipts[0].reserved)

    with pytest.raises(BudgetSpent):
        score(fake, purse, name="EmbeddingSimilarity", **texts)

    assert len(fake.calls) == len(purse.receipts) == 1


def test_calls_of_a_run_without_a_purse_have_no_limit(fake) -> None:
    async def run() -> None:
        judge = judge_at(fake.url, model=MODEL)
        await score_judged(judge, resolve("Factuality"), ScoringFields(
            input="q", output="a", expected="t", metadata={}
        ))
        await judge.close()

    asyncio.run(run())

    assert "max_tokens" not in fake.calls[0].body
