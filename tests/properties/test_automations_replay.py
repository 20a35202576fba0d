"""A replay reports every match once, in windows that keep their distance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from automations.replay import replay

SINCE = datetime(2026, 5, 1, 12, tzinfo=UTC)


@given(
    st.lists(st.integers(0, 50_000), max_size=40), st.integers(1, 20_000)
)
def test_every_match_is_reported_once_and_windows_keep_their_distance(
    seconds: list[int], interval_s: int
) -> None:
    interval = timedelta(seconds=interval_s)
    found = replay(
        [SINCE + timedelta(seconds=each + 0.5) for each in seconds], interval,
        since=SINCE, until=SINCE + timedelta(seconds=100_000),
    )
    assert sum(each.matches for each in found.reports) + found.waiting == len(seconds)
    assert not found.waiting
    for before, after in zip(found.reports, found.reports[1:], strict=False):
        assert after.time_end - before.time_end >= interval
        assert before.time_end <= after.first_at < after.time_end
        assert after.time_start <= after.first_at
