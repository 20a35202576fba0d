"""The retry policy: its waits are bounded and never shrink; what time cannot heal is final."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flows.scoring.retry import RetryIn, RetryPolicy
from spans import errors
from spans.errors import TallyardError, TransientError
from spans.outcome import Failure

KINDS = [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TallyardError)
]
TRANSIENT = [kind for kind in KINDS if issubclass(kind, TransientError)]
FINAL = [kind for kind in KINDS if not issubclass(kind, TransientError)]

waits_max = st.floats(0.001, 1e6)
jitters = st.floats(0.5, 1.5)
attempts = st.integers(1, 10_000)
# The other side may ask for anything: a header can hold any number.
asked = st.one_of(st.none(), st.floats(), st.floats(0, 1e4))
transient_kinds = st.sampled_from(TRANSIENT)


def policy(
    *, attempts_max: int = 10_001, wait_max_s: float = 600.0, jitter: float = 1.0
) -> RetryPolicy:
    return RetryPolicy(
        attempts_max=attempts_max, wait_max_s=wait_max_s, jitter=lambda: jitter
    )


def wait_s(given_policy: RetryPolicy, attempt: int, retry_after_s: float | None) -> float:
    error = TransientError("busy", retry_after_s=retry_after_s)
    decision = given_policy.decide(error, attempt=attempt)
    assert isinstance(decision, RetryIn)
    return decision.wait_s


@pytest.mark.parametrize(("attempt", "expected_s"), [(1, 2), (2, 4), (3, 8), (50, 600)])
def test_the_wait_doubles_up_to_the_longest(attempt: int, expected_s: float) -> None:
    assert wait_s(policy(wait_max_s=600.0), attempt, None) == expected_s


@given(attempts, jitters, asked, waits_max)
def test_a_wait_is_longer_than_nothing_and_no_longer_than_the_longest(
    attempt: int, jitter: float, retry_after_s: float | None, wait_max_s: float
) -> None:
    waits = wait_s(policy(wait_max_s=wait_max_s, jitter=jitter), attempt, retry_after_s)

    assert 0 < waits <= wait_max_s


@given(attempts, attempts, asked, waits_max)
def test_a_later_attempt_waits_no_shorter(
    one: int, other: int, retry_after_s: float | None, wait_max_s: float
) -> None:
    earlier, later = sorted((one, other))
    same = policy(wait_max_s=wait_max_s)

    assert wait_s(same, earlier, retry_after_s) <= wait_s(same, later, retry_after_s)


@given(attempts, jitters, st.floats(0, 1e4), waits_max)
def test_the_other_side_is_not_asked_again_before_the_time_that_it_named(
    attempt: int, jitter: float, retry_after_s: float, wait_max_s: float
) -> None:
    waits = wait_s(policy(wait_max_s=wait_max_s, jitter=jitter), attempt, retry_after_s)

    assert waits >= min(retry_after_s, wait_max_s)


@given(st.integers(1, 8), jitters, asked)
def test_nobody_waits_longer_than_the_backoff_or_the_time_that_was_named(
    attempt: int, jitter: float, retry_after_s: float | None
) -> None:
    waits = wait_s(policy(jitter=jitter), attempt, retry_after_s)

    named = 0.0 if retry_after_s is None or math.isnan(retry_after_s) else retry_after_s
    assert waits <= max(1.5 * 2**attempt, named)


@given(st.integers(1, 8), jitters, jitters)
def test_claims_that_failed_together_are_tried_again_at_different_times(
    attempt: int, one: float, other: float
) -> None:
    assume(one < other)
    early, late = (wait_s(policy(jitter=jitter), attempt, None) for jitter in (one, other))

    assert early < late


@given(transient_kinds, st.integers(1, 20), st.integers(1, 20))
def test_a_transient_error_is_tried_again_until_the_last_attempt(
    kind: type[TransientError], attempts_max: int, attempt: int
) -> None:
    decision = policy(attempts_max=attempts_max).decide(kind("busy"), attempt=attempt)

    assert isinstance(decision, RetryIn) == (attempt < attempts_max)
    if isinstance(decision, Failure):
        assert (decision.error_class, decision.message) == (kind.error_class(), "busy")


@given(st.sampled_from(FINAL), st.integers(1, 20), attempts)
def test_an_error_that_time_does_not_heal_is_final_at_every_attempt(
    kind: type[TallyardError], attempts_max: int, attempt: int
) -> None:
    decision = policy(attempts_max=attempts_max).decide(kind("no"), attempt=attempt)

    assert decision == Failure(error_class=kind.error_class(), message="no")
