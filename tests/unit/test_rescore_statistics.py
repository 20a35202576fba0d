"""Distributions and paired differences against published and counted values."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from rules.rescore.statistics import (
    Distribution,
    Mean,
    Method,
    Paired,
    clopper_pearson,
    incomplete_beta,
    t_quantile,
)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.7062), (2, 4.3027), (5, 2.5706), (6, 2.4469), (10, 2.2281), (30, 2.0423),
        (60, 2.0003), (120, 1.9799), (1_000_000, 1.95997),
    ],
)
def test_quantiles_of_t_are_those_of_published_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=6e-5)
    assert t_quantile(0.025, degrees) == -t_quantile(0.975, degrees)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.30850), (10, 10, 0.69150, 1.0), (5, 10, 0.18709, 0.81291),
        (1, 10, 0.00253, 0.44502), (8, 10, 0.44390, 0.97479), (81, 263, 0.25273, 0.36766),
    ],
)
def test_intervals_of_shares_are_those_of_published_tables(
    hits: int, trials: int, low: float, high: float
) -> None:
    found = clopper_pearson(hits, trials)
    assert (found.low, found.high) == (
        pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5)
    )


@pytest.mark.parametrize("trials", [1, 7, 60])
def test_the_incomplete_beta_function_is_the_tail_of_a_binomial(trials: int) -> None:
    for hits in range(1, trials + 1):
        for p in (0.01, 0.3, 0.5, 0.97):
            tail = math.fsum(
                math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
                for k in range(hits, trials + 1)
            )
            assert incomplete_beta(hits, trials - hits + 1, p) == pytest.approx(tail, abs=1e-12)


def test_the_interval_of_many_pairs_is_that_of_the_normal_distribution() -> None:
    pairs = 4_000_000
    found = clopper_pearson(pairs // 2, pairs)
    of_normal = 2 * 1.95996 * 0.5 / math.sqrt(pairs)
    assert found.high - found.low == pytest.approx(of_normal, rel=1e-3)


def test_values_are_counted_in_bins_of_a_tenth() -> None:
    found = Distribution(threshold=0.5)
    for value in (0, 0.0999, 0.1, 0.3, 0.1 * 3, 0.5, 0.6, 0.7, 0.95, 1):
        found.add(value)
    assert found.bins == [2, 1, 0, 2, 0, 1, 1, 1, 0, 2]
    assert found.share_passing == 0.5


def test_of_no_values_there_is_no_share_and_no_deviation() -> None:
    found = Distribution(threshold=0.5)
    assert (found.share_passing, found.values.deviation) == (None, None)


def test_a_mean_keeps_its_digits_where_values_are_close_together() -> None:
    draw = random.Random(1)
    values = [1e6 + draw.random() * 1e-3 for _ in range(1000)]
    found = Mean()
    for value in values:
        found.add(value)
    assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-12)
    assert found.deviation == pytest.approx(statistics.stdev(values), rel=1e-5)


def paired(*pairs: tuple[float, float]) -> Paired:
    found = Paired()
    for before, after in pairs:
        found.add(before, after)
    return found


def test_graded_pairs_have_the_interval_of_t() -> None:
    # Student's own data of 1908 on the hours of sleep that two drugs add to ten patients,
    # as shares of ten hours: the published interval is 0.70 to 2.46 hours.
    first = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
    second = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
    found = paired(*zip(first, second, strict=True))
    interval = found.interval()
    assert interval is not None
    assert found.method is Method.T
    assert (interval.low, interval.high) == (
        pytest.approx(0.7001142, abs=1e-6), pytest.approx(2.4598858, abs=1e-6)
    )


def test_pass_fail_pairs_have_the_exact_interval_of_those_that_changed() -> None:
    # 8 of the 10 that changed were gained: 0.44390 to 0.97479 of them, of 40 pairs.
    found = paired(*[(0, 1)] * 8, *[(1, 0)] * 2, *[(1, 1)] * 20, *[(0, 0)] * 10)
    interval = found.interval()
    assert interval is not None
    assert found.method is Method.EXACT
    assert found.differences.mean == pytest.approx(6 / 40)
    assert interval.low == pytest.approx(10 / 40 * (2 * 0.44390 - 1), abs=1e-5)
    assert interval.high == pytest.approx(10 / 40 * (2 * 0.97479 - 1), abs=1e-5)


def test_pass_fail_pairs_that_all_stayed_leave_room_for_a_rare_change() -> None:
    interval = paired(*[(1, 1)] * 100).interval()
    assert interval is not None
    assert (interval.low, interval.high) == (
        pytest.approx(-0.02951, abs=1e-5), pytest.approx(0.02951, abs=1e-5)
    )


def test_few_pairs_have_no_interval() -> None:
    found = paired(*[(0, 1)] * 5)
    assert (found.method, found.interval()) == (Method.TOO_FEW, None)
    found.add(0, 1)
    interval = found.interval()
    assert interval is not None
    assert interval.low > 0
