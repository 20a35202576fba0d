"""What calls cost, as servers report it."""

from __future__ import annotations

import pytest

from scorers.judge.call_costs import TOKENS_MAX, CallCosts
from scorers.judge.prices import Prices

PRICES = Prices(prompt=1.0, cached=0.1, completion=4.0)


def usage(given, *, prices=None, times=1):
    costs = CallCosts()
    for _ in range(times):
        costs.count({"usage": given}, "m", prices)
    return costs.usage()


@pytest.mark.parametrize(
    "given",
    [
        {"prompt_tokens": 9, "completion_tokens": 2,
         "prompt_tokens_details": {"cached_tokens": 4}},
        {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}},
        {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4},
        {"prompt_tokens": 9, "completion_tokens": 2, "cache_read_input_tokens": 4},
    ],
)
def test_cached_tokens_are_read_in_each_form(given):
    counted = usage(given)

    assert (counted.prompt_tokens, counted.completion_tokens) == (9, 2)
    assert counted.cached_tokens == 4


@pytest.mark.parametrize(
    ("details", "cached"),
    [(None, 0), ({}, 0), ({"cached_tokens": None}, 0), ({"cached_tokens": -4}, 0),
     ({"cached_tokens": "4"}, 0), ({"cached_tokens": 99}, 9), ([], 0)],
)
def test_a_count_that_cannot_be_is_none(details, cached):
    given = {"prompt_tokens": 9, "prompt_tokens_details": details}

    assert usage(given).cached_tokens == cached


def test_costs_are_summed_over_the_calls_of_a_run():
    given = {"prompt_tokens": 1000, "completion_tokens": 10,
             "prompt_tokens_details": {"cached_tokens": 600}}

    counted = usage(given, prices=PRICES, times=2)

    assert counted.cost == pytest.approx(2 * (400 * 1.0 + 600 * 0.1 + 10 * 4.0) / 1e6)
    assert counted.cached_tokens == 1200


def test_without_prices_no_cost_is_estimated():
    assert usage({"prompt_tokens": 1}).cost is None
    assert usage({}, prices=PRICES).cost == 0.0
    assert usage(None).prompt_tokens == 0
    assert usage({"prompt_tokens": 10**30}).prompt_tokens == TOKENS_MAX
