"""What a re-score job does next, from where it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.rescore.pace import (
    ATTEMPTS_MAX,
    BURST_S,
    PENDING_MAX,
    ROWS_PER_SLICE,
    Begin,
    Fail,
    Finish,
    PauseAfterProbe,
    Standing,
    WaitFor,
    what_next,
)


def standing(**given: object) -> Standing:
    values = {"rows_left": 500, "begun": 0, "pending": 0, "attempts": 0, "scorers": 1, **given}
    return Standing(**values)


def test_a_job_begins_what_is_left_of_its_step() -> None:
    assert what_next(standing(rows_left=120)) == Begin(120)


def test_a_job_of_many_scorers_begins_fewer_rows_at_once() -> None:
    assert what_next(standing(scorers=30)) == Begin(PENDING_MAX // 30)


def test_a_job_waits_while_enough_of_its_outcomes_are_pending() -> None:
    assert isinstance(what_next(standing(pending=PENDING_MAX)), WaitFor)
    assert what_next(standing(pending=PENDING_MAX - 1)) == Begin(ROWS_PER_SLICE)


def test_a_job_is_completed_once_no_row_is_left_and_nothing_is_pending() -> None:
    assert isinstance(what_next(standing(rows_left=0, pending=1)), WaitFor)
    assert isinstance(what_next(standing(rows_left=0)), Finish)


def test_a_probe_begins_no_more_rows_than_it_asks_for_and_then_pauses() -> None:
    assert what_next(standing(probe=20)) == Begin(20)
    assert what_next(standing(probe=20, begun=15)) == Begin(5)
    assert isinstance(what_next(standing(probe=20, begun=20, pending=1)), WaitFor)
    assert isinstance(what_next(standing(probe=20, begun=20)), PauseAfterProbe)


def test_a_probe_that_takes_every_row_of_a_job_completes_it() -> None:
    assert isinstance(what_next(standing(probe=20, begun=20, rows_left=0)), Finish)


def test_a_job_whose_rows_fail_again_and_again_fails_and_says_where_to_look() -> None:
    failed = what_next(standing(attempts=ATTEMPTS_MAX))

    assert isinstance(failed, Fail)
    assert "log" in failed.why


@pytest.mark.parametrize("rate", [0.5, 3.0, 250.0])
def test_a_job_with_a_rate_begins_so_many_rows_a_second(rate: float) -> None:
    now, begun, paced_from = 0.0, 0, None
    while now < 60:
        paced_s = None if paced_from is None else now - paced_from
        step = what_next(standing(
            max_per_second=rate, paced_s=paced_s, paced_records=begun, rows_left=500
        ))
        if isinstance(step, WaitFor):
            now += step.seconds + 0.001
            continue
        assert isinstance(step, Begin)
        paced_from = (now if paced_from is None else paced_from) + step.skipped_s
        begun += step.rows

    assert rate * 60 * 0.9 <= begun <= rate * (60 + BURST_S) + 1


def test_a_job_that_could_not_go_on_for_an_hour_does_not_make_up_for_it_at_once() -> None:
    step = what_next(standing(max_per_second=10, paced_s=3600.0, paced_records=10))

    assert step == Begin(10, 3600 - 1 - BURST_S)


@given(
    rows_left=st.integers(1, 500), pending=st.integers(0, PENDING_MAX),
    scorers=st.integers(1, 30), probe=st.none() | st.integers(1, 1000),
    begun=st.integers(0, 2000), attempts=st.integers(0, 20),
    rate=st.none() | st.floats(0.01, 100_000), paced_s=st.none() | st.floats(0, 1e6),
    paced_records=st.integers(0, 10**9),
)
def test_what_begins_is_at_least_a_row_and_within_every_limit(
    rows_left: int, pending: int, scorers: int, probe: int | None, begun: int, attempts: int,
    rate: float | None, paced_s: float | None, paced_records: int,
) -> None:
    step = what_next(Standing(
        rows_left=rows_left, begun=begun, pending=pending, attempts=attempts, scorers=scorers,
        probe=probe, max_per_second=rate, paced_s=paced_s, paced_records=paced_records,
    ))

    if isinstance(step, WaitFor):
        assert 0 < step.seconds <= 1
    if isinstance(step, Begin):
        assert 1 <= step.rows <= min(rows_left, ROWS_PER_SLICE)
        assert step.skipped_s >= 0
        assert probe is None or begun + step.rows <= probe
        assert rate is None or step.rows <= max(1, rate * BURST_S)
