"""Properties of distributions and of the intervals of paired differences."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.rescore.statistics import (
    PAIRS_MIN,
    Distribution,
    Paired,
    clopper_pearson,
    incomplete_beta,
    t_quantile,
)

shares = st.floats(0, 1)


@given(st.lists(shares, max_size=60), shares)
def test_a_distribution_agrees_with_one_pass_over_all_values(
    values: list[float], threshold: float
) -> None:
    found = Distribution(threshold=threshold)
    for value in values:
        found.add(value)
    assert sum(found.bins) == found.values.count == len(values)
    assert found.passing == sum(value >= threshold - 1e-9 for value in values)
    if values:
        assert found.values.mean == pytest.approx(statistics.fmean(values), abs=1e-12)
    if len(values) > 1:
        assert found.values.deviation == pytest.approx(statistics.stdev(values), abs=1e-9)


@given(st.lists(st.tuples(shares, shares), min_size=PAIRS_MIN, max_size=60))
def test_the_interval_contains_the_mean_and_turns_round_with_the_pairs(
    pairs: list[tuple[float, float]]
) -> None:
    forth, back = Paired(), Paired()
    for before, after in pairs:
        forth.add(before, after)
        back.add(after, before)
    interval, turned = forth.interval(), back.interval()
    assert interval is not None
    assert turned is not None
    assert interval.low - 1e-12 <= forth.differences.mean <= interval.high + 1e-12
    assert interval.low == pytest.approx(-turned.high, abs=1e-9)
    assert interval.high == pytest.approx(-turned.low, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=PAIRS_MIN))
def test_the_exact_interval_contains_the_difference_and_lies_within_what_can_be(
    pairs: list[tuple[int, int]]
) -> None:
    found = Paired()
    for before, after in pairs:
        found.add(before, after)
    interval = found.interval()
    assert interval is not None
    assert -1 <= interval.low <= found.differences.mean + 1e-12
    assert found.differences.mean - 1e-12 <= interval.high <= 1


@given(st.integers(1, 100_000), st.data())
def test_the_ends_of_an_exact_interval_have_the_tails_of_two_and_a_half_percent(
    trials: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, trials))
    found = clopper_pearson(hits, trials)
    if hits:
        at_least_these = incomplete_beta(hits, trials - hits + 1, found.low)
        assert at_least_these == pytest.approx(0.025, rel=1e-6)
    if hits < trials:
        at_least_more = incomplete_beta(hits + 1, trials - hits, found.high)
        assert at_least_more == pytest.approx(0.975, rel=1e-6)


@given(st.floats(0.51, 0.999), st.floats(1, 1e6))
def test_a_quantile_of_t_falls_with_the_degrees_towards_that_of_the_normal_distribution(
    probability: float, degrees: float
) -> None:
    normal = statistics.NormalDist().inv_cdf(probability)
    here, later = t_quantile(probability, degrees), t_quantile(probability, degrees * 2)
    assert normal - 1e-6 <= later <= here + 1e-6
