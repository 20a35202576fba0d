"""Windows whose matches are found later than they were stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from automations.windows import MatchWindow

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_what_was_stored_before_a_notifications_end_and_found_later_is_told_from_that_end_on():
    window = MatchWindow(started_at=NOON - timedelta(hours=1)).collect(1, NOON)
    first, window = window.close(NOON + timedelta(seconds=5), MINUTE)
    # The look that formed it had read a part of the changes only.
    window = window.collect(1, NOON + timedelta(seconds=3)).delivered(first)
    due_at = window.due_at(NOON, MINUTE)
    assert due_at == first.time_end + MINUTE
    second, _ = window.close(due_at + timedelta(seconds=1), MINUTE)
    assert second.time_start == first.time_end
    assert second.first_at == first.time_end
