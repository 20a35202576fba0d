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
spreads = st.floats(0, 1)
attempts = st.integers(1, 10_000)
# The other side may ask for anything: a header can hold any number.
asked = st.one_of(st.none(), st.floats(), st.floats(0, 1e4))
transient_kinds = st.sampled_from(TRANSIENT)


def policy(
    *, budget_s: float = 86_400.0, wait_max_s: float = 600.0, spread: float = 1.0
) -> RetryPolicy:
    return RetryPolicy(budget_s=budget_s, wait_max_s=wait_max_s, spread=lambda: spread)


def wait_s(given_policy: RetryPolicy, attempt: int, retry_after_s: float | None) -> float:
    error = TransientError("busy", retry_after_s=retry_after_s)
    decision = given_policy.decide(error, attempt=attempt, failing_s=0.0)
    assert isinstance(decision, RetryIn)
    return decision.wait_s


@pytest.mark.parametrize(("attempt", "expected_s"), [(1, 2), (2, 4), (3, 8), (50, 600)])
def test_the_wait_doubles_up_to_the_longest(attempt: int, expected_s: float) -> None:
    assert wait_s(policy(wait_max_s=600.0), attempt, None) == expected_s


@given(attempts, spreads, asked, waits_max)
def test_a_wait_is_longer_than_nothing_and_no_longer_than_the_longest(
    attempt: int, spread: float, retry_after_s: float | None, wait_max_s: float
) -> None:
    waits = wait_s(policy(wait_max_s=wait_max_s, spread=spread), attempt, retry_after_s)

    assert 0 < waits <= wait_max_s


@given(attempts, attempts, asked, waits_max)
def test_a_later_attempt_waits_no_shorter(
    one: int, other: int, retry_after_s: float | None, wait_max_s: float
) -> None:
    earlier, later = sorted((one, other))
    same = policy(wait_max_s=wait_max_s)

    assert wait_s(same, earlier, retry_after_s) <= wait_s(same, later, retry_after_s)


@given(attempts, spreads, st.floats(0, 1e4), waits_max)
def test_the_other_side_is_not_asked_again_before_the_time_that_it_named(
    attempt: int, spread: float, retry_after_s: float, wait_max_s: float
) -> None:
    waits = wait_s(policy(wait_max_s=wait_max_s, spread=spread), attempt, retry_after_s)

    assert waits >= min(retry_after_s, wait_max_s)


@given(st.integers(1, 8), spreads, asked)
def test_nobody_waits_longer_than_the_backoff_or_the_time_that_was_named(
    attempt: int, spread: float, retry_after_s: float | None
) -> None:
    waits = wait_s(policy(spread=spread), attempt, retry_after_s)

    named = 0.0 if retry_after_s is None or math.isnan(retry_after_s) else retry_after_s
    assert waits <= max(2**attempt, 2 * named)


@given(st.integers(1, 10_000), spreads, spreads)
def test_claims_that_failed_together_are_tried_again_at_different_times(
    attempt: int, one: float, other: float
) -> None:
    assume(other - one > 1e-9)   # nearer ones differ by less than a float of the wait can
    early, late = (wait_s(policy(spread=spread), attempt, None) for spread in (one, other))

    assert early < late


@given(transient_kinds, st.floats(1, 1e6), st.floats(0, 2e6), attempts)
def test_a_transient_error_is_tried_again_until_its_budget_is_used_up(
    kind: type[TransientError], budget_s: float, failing_s: float, attempt: int
) -> None:
    assume(kind.attempts_max is None)
    decision = policy(budget_s=budget_s).decide(
        kind("busy"), attempt=attempt, failing_s=failing_s
    )

    assert isinstance(decision, RetryIn) == (failing_s < budget_s)
    if isinstance(decision, Failure):
        assert (decision.error_class, decision.message) == (kind.error_class(), "busy")


@given(st.sampled_from([kind for kind in TRANSIENT if kind.attempts_max is not None]), attempts)
def test_what_may_be_the_doing_of_what_is_run_is_tried_a_few_times(
    kind: type[TransientError], attempt: int
) -> None:
    decision = policy().decide(kind("died"), attempt=attempt, failing_s=0.0)

    assert kind.attempts_max is not None
    assert isinstance(decision, RetryIn) == (attempt < kind.attempts_max)


@given(st.sampled_from(FINAL), st.floats(0, 1e6), attempts)
def test_an_error_that_time_does_not_heal_is_final_at_every_attempt(
    kind: type[TallyardError], failing_s: float, attempt: int
) -> None:
    decision = policy().decide(kind("no"), attempt=attempt, failing_s=failing_s)

    assert decision == Failure(error_class=kind.error_class(), message="no")
