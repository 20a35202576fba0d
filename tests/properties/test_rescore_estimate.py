"""What a job would take: ranges that hold what is expected, and what past outcomes tell."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.rescore.estimate import (
    PAST_MIN,
    JobEstimate,
    JudgePrompt,
    Moments,
    PastOutcomes,
    Range,
    Rates,
    estimate,
    share_of,
)
from rules.rescore.model import JobScorer
from rules.rescore.selection_count import ScorerCount, SelectionCount
from scorers.judge.prices import Prices
from spans.queues import HEAVY, JUDGE, SANDBOX
from spans.scoring import ScorerRef

PRICES = Prices(prompt=2.0, completion=8.0, cached=0.5)
RATES = Rates(
    prices=lambda model: PRICES if model == "priced" else None, in_flight=lambda _: 10
)
numbers = st.floats(0, 1e6)
moments = st.builds(Moments, mean=numbers, deviation=numbers)
pasts = st.builds(
    PastOutcomes, outcomes=st.integers(0, 1000), calls=moments, prompt_tokens=moments,
    completion_tokens=moments, cached_tokens=moments, run_ms=moments,
    model=st.sampled_from(["priced", "other", None]),
)
counts = st.integers(0, 10**7)


def scorer(queue: str = JUDGE, name: str = "Factuality") -> JobScorer:
    return JobScorer(scorer=ScorerRef(kind="global", name=name, version="1"), queue=queue)


def counted(records: int, *, record_bytes: float = 4000.0) -> SelectionCount:
    return SelectionCount(
        records=records, scorers=(ScorerCount(records=records),), record_bytes=record_bytes
    )


def taken(
    records: int, *, past: PastOutcomes | None = None, queue: str = JUDGE,
    model: str | None = "priced", max_per_second: float | None = None,
) -> JobEstimate:
    return estimate(
        counted(records), [scorer(queue)], past=[past or PastOutcomes()],
        prompts=[JudgePrompt(model=model, characters=2000)], rates=RATES,
        max_per_second=max_per_second,
    )


def ranges(of: JobEstimate) -> list[Range]:
    found = [of.calls, of.prompt_tokens, of.completion_tokens, of.money, of.seconds]
    for part in of.scorers:
        found += [part.calls, part.prompt_tokens, part.completion_tokens, part.seconds]
        found += [] if part.money is None else [part.money]
    return found


@given(
    st.lists(st.tuples(counts, st.sampled_from([JUDGE, HEAVY, SANDBOX]), pasts,
                       st.sampled_from(["priced", "other", None])), max_size=4),
    st.floats(0, 1e7), st.none() | st.floats(0.1, 1e5),
)
def test_every_range_holds_what_is_expected_and_sums_hold_their_parts(
    drawn: list[tuple[int, str, PastOutcomes, str | None]], size: float, pace: float | None
) -> None:
    count = SelectionCount(
        records=max((one[0] for one in drawn), default=0),
        scorers=tuple(ScorerCount(records=one[0]) for one in drawn), record_bytes=size,
    )
    found = estimate(
        count, [scorer(queue, str(number)) for number, (_, queue, _, _) in enumerate(drawn)],
        past=[past for _, _, past, _ in drawn],
        prompts=[JudgePrompt(model=model) for *_, model in drawn], rates=RATES,
        max_per_second=pace,
    )

    for one in ranges(found):
        assert 0 <= one.low <= one.expected <= one.high
        assert math.isfinite(one.high)
    assert found.calls.high >= max((part.calls.high for part in found.scorers), default=0)
    assert len(found.unpriced) == sum(part.money is None for part in found.scorers)
    if pace is not None:
        assert found.seconds.low >= count.records / pace


@given(counts, counts, pasts, st.sampled_from([JUDGE, HEAVY]))
def test_more_rows_never_take_less(
    records: int, more: int, past: PastOutcomes, queue: str
) -> None:
    few, many = (taken(number, past=past, queue=queue) for number in sorted((records, more)))

    for one, other in zip(ranges(few), ranges(many), strict=True):
        assert one.expected <= other.expected * (1 + 1e-9)
        assert one.high <= other.high * (1 + 1e-9)


def test_the_range_of_past_outcomes_holds_most_sums_of_rows_that_are_like_them() -> None:
    draw = random.Random(2)
    held = 0
    for _ in range(400):
        sample = [draw.lognormvariate(6, 0.8) for _ in range(60)]
        found = Moments(mean=fmean(sample), deviation=stdev(sample)).sum_of(200, len(sample))
        held += found.low <= sum(draw.lognormvariate(6, 0.8) for _ in range(200)) <= found.high
    assert 0.88 * 400 <= held < 400


def test_without_past_outcomes_tokens_come_from_the_size_of_the_texts() -> None:
    found = taken(100)

    # 4 000 characters of a row and 2 000 of the prompt, at 6, 4 and 2.5 characters a token.
    assert found.prompt_tokens == Range(low=100_000, expected=150_000, high=240_000)
    assert found.completion_tokens == Range(low=2000, expected=20_000, high=80_000)
    assert found.calls == Range(low=100, expected=100, high=100)
    assert found.money.expected == pytest.approx((150_000 * 2 + 20_000 * 8) / 1e6)
    assert found.scorers[0].source == "from the size of the texts"


def test_past_outcomes_tell_tokens_calls_and_the_cached_share() -> None:
    past = PastOutcomes(
        outcomes=412, calls=Moments(mean=2), prompt_tokens=Moments(mean=1000, deviation=0),
        completion_tokens=Moments(mean=50), cached_tokens=Moments(mean=400),
        run_ms=Moments(mean=500), model="priced",
    )
    found = taken(10, past=past, model=None)

    assert found.scorers[0].source == "of 412 past outcomes"
    assert found.calls.expected == 20
    assert found.prompt_tokens == Range(low=10_000, expected=10_000, high=10_000)
    assert found.money.expected == pytest.approx((6000 * 2 + 4000 * 0.5 + 500 * 8) / 1e6)
    assert found.money.high == pytest.approx((10_000 * 2 + 500 * 8) / 1e6)   # nothing cached
    assert found.seconds.expected == pytest.approx(10 * 0.5 / 10)


def test_too_few_past_outcomes_are_not_believed() -> None:
    few = PastOutcomes(outcomes=PAST_MIN - 1, prompt_tokens=Moments(mean=1), model="priced")
    assert taken(10, past=few).scorers[0].source == "from the size of the texts"


def test_a_scorer_that_asks_no_judge_costs_nothing() -> None:
    for queue in (HEAVY, SANDBOX):
        found = taken(1000, queue=queue, model=None)
        assert (found.calls, found.money, found.unpriced) == (Range(), Range(), ())
        assert found.seconds.expected > 0


def test_code_in_a_sandbox_whose_past_runs_asked_a_judge_costs_what_they_did() -> None:
    past = PastOutcomes(
        outcomes=20, calls=Moments(mean=1), prompt_tokens=Moments(mean=100), model="priced"
    )
    assert taken(10, past=past, queue=SANDBOX, model=None).money.expected > 0


def test_a_model_without_a_price_is_named_and_left_out_of_the_sum() -> None:
    found = taken(10, model="other")
    assert found.unpriced == ("Factuality",)
    assert found.scorers[0].money is None
    assert found.money == Range()


def test_scorers_of_one_queue_wait_for_each_other_and_others_do_not() -> None:
    def seconds(*queues: str) -> float:
        count = SelectionCount(
            records=100, scorers=tuple(ScorerCount(records=100) for _ in queues)
        )
        return estimate(
            count, [scorer(queue, str(n)) for n, queue in enumerate(queues)],
            past=[PastOutcomes()] * len(queues), prompts=[JudgePrompt()] * len(queues),
            rates=RATES,
        ).seconds.expected

    assert seconds(JUDGE, JUDGE) == pytest.approx(2 * seconds(JUDGE))
    assert seconds(JUDGE, HEAVY) == seconds(JUDGE)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_a_share_has_no_more_rows_than_asked_for_and_scales_with_the_whole(
    records: int, some: int
) -> None:
    whole = SelectionCount(
        records=records, scorers=(ScorerCount(records=records // 2, kept=records // 3),)
    )
    part = share_of(whole, some)

    assert part.records == min(records, some)
    assert part.scorers[0].records <= part.records
    assert part.scorers[0].kept <= part.scorers[0].records
