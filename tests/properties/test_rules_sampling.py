"""Sampling: the same in every process, nested, of the right share, and independent by rule."""

from __future__ import annotations

import hashlib
import math
import uuid
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.sampling import is_sampled, sampling_bound, sampling_number

CHOOSERS = [uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=0x0B9E << 112)]
TRACES_MAX = 5000
ERROR = 1e-9
"""How improbable a count must be before a test calls it wrong. The traces are always the same,
so that a count that is in bounds once is in bounds for ever."""

choosers = st.uuids()
traces = st.text(max_size=40).filter(lambda text: "\0" not in text)
rates = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 5e-324, 1 - 2**-53]))

# The ids that clients make: counted ones must be spread as well as random ones.
TRACES = {
    "counted": [f"trace-{number}" for number in range(TRACES_MAX)],
    "hex": [hashlib.md5(b"%d" % number).hexdigest() for number in range(TRACES_MAX)],
    "uuid": [str(uuid.UUID(int=number << 64)) for number in range(TRACES_MAX)],
}


def at_most(count: int, *, of: int, rate: float) -> float:
    """The exact probability that at most `count` of `of` independent draws succeed."""
    if rate in {0.0, 1.0}:
        return float(rate == 0.0 or count >= of)
    return sum(
        math.exp(
            math.lgamma(of + 1) - math.lgamma(taken + 1) - math.lgamma(of - taken + 1)
            + taken * math.log(rate) + (of - taken) * math.log1p(-rate)
        )
        for taken in range(count + 1)
    )


def is_plausible(count: int, *, of: int, rate: float) -> bool:
    """Whether that many successes of independent draws are no wonder, on either side."""
    few = at_most(count, of=of, rate=rate)
    many = at_most(of - count, of=of, rate=1 - rate)
    return few > ERROR and many > ERROR


@pytest.mark.parametrize(
    ("chooser", "trace", "bits"),
    [
        # The first 16 digits that `printf '<32 digits>\0<trace>' | sha256sum` prints.
        ("00000000-0000-0000-0000-000000000001", "trace-1", 0xE01C76AB62C30490),
        ("00000000-0000-0000-0000-000000000001", "trace-2", 0x1910717FB422C7C9),
        ("0b9e2a3c-0000-4000-8000-00000000000a", "4bf92f3577b34da6a3ce929d0e0e4736",
         0x0276172B60DE3779),
        ("0b9e2a3c-0000-4000-8000-00000000000a", "größe", 0x1EB8FFBC818BA047),
        ("0b9e2a3c-0000-4000-8000-00000000000b", "", 0x146C027C1EF6BD16),
    ],
)
def test_a_trace_has_the_same_number_on_every_machine_and_in_every_release(
    chooser: str, trace: str, bits: int
) -> None:
    number = sampling_number(uuid.UUID(chooser), trace)

    assert number == bits / 2**64
    assert not is_sampled(uuid.UUID(chooser), trace, rate=number)
    assert is_sampled(uuid.UUID(chooser), trace, rate=math.nextafter(number, 1))


@given(choosers, traces, rates, rates)
def test_a_higher_rate_takes_the_same_traces_and_more(
    chooser: uuid.UUID, trace: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))

    assert is_sampled(chooser, trace, rate=low) <= is_sampled(chooser, trace, rate=high)


@given(choosers, traces)
def test_the_rate_0_takes_nothing_and_the_rate_1_takes_all(
    chooser: uuid.UUID, trace: str
) -> None:
    assert not is_sampled(chooser, trace, rate=0.0)
    assert is_sampled(chooser, trace, rate=1.0)


@pytest.mark.parametrize("kind", TRACES)
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_the_share_of_traces_that_is_taken_is_within_binomial_bounds_of_the_rate(
    rate: float, kind: str
) -> None:
    for chooser in CHOOSERS:
        count = sum(is_sampled(chooser, trace, rate=rate) for trace in TRACES[kind])

        assert is_plausible(count, of=TRACES_MAX, rate=rate), (chooser, count)


@pytest.mark.parametrize(("rate", "other_rate"), [(0.1, 0.1), (0.5, 0.5), (0.1, 0.9)])
def test_what_one_rule_takes_says_nothing_of_what_another_takes(
    rate: float, other_rate: float
) -> None:
    for chooser, other in combinations(CHOOSERS, 2):
        taken = [
            (is_sampled(chooser, trace, rate=rate), is_sampled(other, trace, rate=other_rate))
            for trace in TRACES["counted"]
        ]

        both = taken.count((True, True))
        only_one = taken.count((True, False))
        assert is_plausible(both, of=TRACES_MAX, rate=rate * other_rate)
        assert is_plausible(only_one, of=TRACES_MAX, rate=rate * (1 - other_rate))


@pytest.mark.parametrize(
    ("count", "rate"), [(0, 0.1), (370, 0.1), (640, 0.1), (1, 0.0), (4999, 1.0)]
)
def test_the_bounds_tell_a_wrong_share(count: int, rate: float) -> None:
    assert not is_plausible(count, of=TRACES_MAX, rate=rate)


@given(
    st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**64 - 1025]),
    st.floats(0, 1) | st.sampled_from([0.0, 5e-324, 0.1, 0.5, 1 - 2**-53, 1.0]),
    st.integers(-3, 3),
)
def test_hashes_below_the_bound_are_those_that_are_sampled(
    number: int, rate: float, near: int
) -> None:
    bound = sampling_bound(rate)
    if bound is None:
        assert rate >= 1.0
        return
    close = int.from_bytes(bound, "big") + near
    for one in (number, min(max(close, 0), 2**64 - 1)):
        assert (one.to_bytes(8, "big") < bound) is (one / 2**64 < rate)
