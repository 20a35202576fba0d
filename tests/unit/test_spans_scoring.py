"""Which numbers are scores."""

from __future__ import annotations

import math

import pytest

from spans.scoring import within_0_and_1


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5, 5e-324, 1 - 1e-16])
def test_a_score_from_0_to_1_stays_as_it_is(value: float) -> None:
    assert within_0_and_1(value) is value


@pytest.mark.parametrize(
    ("value", "score"),
    [(1.0000000000000002, 1), (1 + 1e-9, 1), (-1e-9, 0), (-5e-324, 0), (1 + 2e-16, 1)],
)
def test_a_score_that_is_off_by_rounding_becomes_0_or_1(value: float, score: float) -> None:
    assert within_0_and_1(value) == score


@pytest.mark.parametrize(
    "value", [1.000000002, -2e-9, 7, -1, 100, math.nan, math.inf, -math.inf, 1e308]
)
def test_other_numbers_are_no_scores(value: float) -> None:
    assert within_0_and_1(value) is None
