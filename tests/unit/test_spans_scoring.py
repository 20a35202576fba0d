"""Which numbers are scores, wherever a scorer's number comes in."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from scorers.catalog import resolve
from scorers.judge.classifier import read_classifier
from scorers.results import result
from scorers.sandbox.handler_scores import scores_of
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


def of_code(number):
    (score,) = scores_of({"score": number}, name="mine").scores
    return score.value


def of_a_list(number):
    return scores_of([{"score": 0.5, "name": "other"}, number], name="mine").scores[1].value


def of_autoevals(number):
    given = SimpleNamespace(score=number, metadata=None)
    return result(resolve("JSONDiff"), {}, given).scores[0].value


def of_a_choice(number):
    parser = {"type": "llm_classifier", "choice_scores": {"good": number, "bad": 0}}
    prompt = {"type": "completion", "content": "{{output}}"}
    return read_classifier({"prompt": prompt, "parser": parser}).choice_scores["good"]


@pytest.mark.parametrize("way", [of_code, of_a_list, of_autoevals, of_a_choice])
@pytest.mark.parametrize(
    ("given", "meant"),
    [(1.0000000000000002, 1.0), (0.1 * 3 / 0.3, 1.0), (-1e-12, 0.0), (0.25, 0.25), (1, 1.0)],
)
def test_scores_are_rounded_whatever_scorer_they_come_from(way, given, meant):
    assert (type(way(given)), way(given)) == (float, meant)
