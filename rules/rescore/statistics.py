"""Distributions of scores, and what a paired difference says. Values come one at a time.

What is kept does not grow with the number of values. Means and spreads are updated by
Welford's method, which loses no digits where values are close together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

BINS = 10
"""Bins of a distribution. Each is 0.1 wide, and the last one contains 1."""

CONFIDENCE = 0.95
"""The share of intervals, over many jobs, that contain the true difference."""

PAIRS_MIN = 6
"""Fewer pairs get no interval. If chance alone decides, five pairs all change the same way in
1 of 16 cases, so that no interval of 95 % could exclude a difference of 0."""

SAME = 1e-9
"""Values that differ by at most this are equal: rounding may cause so much."""

_STEPS_MAX = 10_000
"""Steps of the continued fraction. It needs some multiple of the square root of its larger
parameter: 2 300 for 10 million pairs."""

_HALVINGS = 200
"""Halvings of an interval of doubles. After some 60 of them the middle is one of its ends."""


class Method(StrEnum):
    """How an interval was computed, or why there is none."""

    EXACT = "exact"                  # pass/fail: of the pairs that changed, by Clopper-Pearson
    T = "t"                          # graded: mean of the differences, by Student's t
    TOO_FEW = "too_few_pairs"


@dataclass(slots=True)
class Mean:
    """The mean and spread of the values that were added."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the mean."""

    def add(self, value: float) -> None:
        """Take one more value."""
        self.count += 1
        distance = value - self.mean
        self.mean += distance / self.count
        self.squares += distance * (value - self.mean)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a sample; None of fewer than two values."""
        if self.count < 2:
            return None
        return math.sqrt(self.squares / (self.count - 1))


@dataclass(slots=True)
class Distribution:
    """How the values of a score are distributed over 0..1.

    A value passes if it is at least `threshold`.
    """

    threshold: float
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    passing: int = 0
    values: Mean = field(default_factory=Mean)

    def add(self, value: float) -> None:
        """Take one more value, 0..1."""
        self.values.add(value)
        self.bins[min(BINS - 1, max(0, math.floor(value * BINS + SAME)))] += 1
        self.passing += passes(value, self.threshold)

    @property
    def share_passing(self) -> float | None:
        """The share of values that pass, 0..1; None of no values."""
        return self.passing / self.values.count if self.values.count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An interval that contains the true difference at the given confidence."""

    low: float
    high: float


@dataclass(slots=True)
class Paired:
    """The difference of values that belong together: of the same row, before and after."""

    differences: Mean = field(default_factory=Mean)
    is_pass_fail: bool = True
    gained: int = 0
    lost: int = 0
    """Among pass/fail pairs: those that went from 0 to 1, and those that went from 1 to 0."""

    def add(self, before: float, after: float) -> None:
        """Take one more pair."""
        self.differences.add(after - before)
        if before not in (0, 1) or after not in (0, 1):
            self.is_pass_fail = False
        self.gained += before == 0 and after == 1
        self.lost += before == 1 and after == 0

    @property
    def method(self) -> Method:
        """How `interval` is computed."""
        if self.differences.count < PAIRS_MIN:
            return Method.TOO_FEW
        return Method.EXACT if self.is_pass_fail else Method.T

    def interval(self) -> Bounds | None:
        """The interval of the mean difference at CONFIDENCE; None of too few pairs.

        For pass/fail values the number of pairs that changed is taken as given, and the
        interval is exact for the direction in which they changed. If none changed, it is
        the largest share of changing pairs from which that many unchanged ones still come.
        """
        match self.method:
            case Method.TOO_FEW:
                return None
            case Method.EXACT:
                return _of_pass_fail(self.differences.count, self.gained, self.lost)
            case Method.T:
                return _of_graded(self.differences)


def passes(value: float, threshold: float) -> bool:
    """Whether a score passes. Rounding does not count."""
    return value >= threshold - SAME


def t_quantile(probability: float, degrees: float) -> float:
    """The value below which Student's t lies with this probability, 0..1 exclusive."""
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    if probability == 0.5:
        return 0.0
    # t lies beyond x on either side with the probability I(degrees / (degrees + x²)).
    share = _solve(
        lambda x: incomplete_beta(degrees / 2, 0.5, x), 2 * (1 - probability)
    )
    return math.sqrt(degrees * (1 - share) / share)


def clopper_pearson(hits: int, trials: int, confidence: float = CONFIDENCE) -> Bounds:
    """The exact interval of a probability of which `hits` of `trials` came true."""
    tail = (1 - confidence) / 2
    low = high = None
    if hits > 0:
        low = _solve(lambda p: incomplete_beta(hits, trials - hits + 1, p), tail)
    if hits < trials:
        high = _solve(lambda p: incomplete_beta(hits + 1, trials - hits, p), 1 - tail)
    return Bounds(low=0.0 if low is None else low, high=1.0 if high is None else high)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b): a probability, rising with x."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):           # where the fraction converges slowly
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        + a * math.log(x) + b * math.log1p(-x)
    )
    return front * _continued_fraction(a, b, x) / a


def _continued_fraction(a: float, b: float, x: float) -> float:
    """The fraction 1/(1 + d1/(1 + d2/(1 + ...))) of the incomplete beta function.

    It is evaluated from the front, by the ratios of its numerators and denominators.
    """
    tiny = 1e-300                           # in place of a zero that would be divided by
    numerators = 1.0
    denominators = 1 / (1 - (a + b) * x / (a + 1) or tiny)
    value = denominators
    for step in range(1, _STEPS_MAX):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        factor = 1.0
        for term in (even, odd):
            denominators = 1 / (1 + term * denominators or tiny)
            numerators = 1 + term / numerators or tiny
            factor = numerators * denominators
            value *= factor
        if abs(factor - 1) < 1e-15:
            break
    return value


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    """Where in 0..1 a rising function has the wanted value, to the last digit of a double."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _of_pass_fail(pairs: int, gained: int, lost: int) -> Bounds:
    changed = gained + lost
    if not changed:
        most = 1 - (1 - CONFIDENCE) ** (1 / pairs)
        return Bounds(low=-most, high=most)
    share = clopper_pearson(gained, changed)
    return Bounds(
        low=changed / pairs * (2 * share.low - 1), high=changed / pairs * (2 * share.high - 1)
    )


def _of_graded(differences: Mean) -> Bounds:
    count = differences.count
    half = (
        t_quantile((1 + CONFIDENCE) / 2, count - 1)
        * (differences.deviation or 0.0) / math.sqrt(count)
    )
    return Bounds(low=differences.mean - half, high=differences.mean + half)
