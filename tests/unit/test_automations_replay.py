"""What an automation would have sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from automations.replay import Replayed, replay

SINCE = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(seconds: float) -> datetime:
    return SINCE + timedelta(seconds=seconds)


def told(*seconds: float, interval: timedelta = HOUR, until: float = 86_400) -> Replayed:
    return replay([at(each) for each in seconds], interval, since=SINCE, until=at(until))


def test_the_first_match_is_sent_by_the_next_look() -> None:
    (report,) = told(600.25).reports
    assert (report.time_start, report.time_end, report.matches) == (
        at(601) - HOUR, at(601), 1
    )


def test_later_matches_are_collected_until_the_interval_ends() -> None:
    first, second = told(0, 10, 20.5, 3000).reports
    assert (first.matches, first.time_end) == (1, at(1))
    assert (second.matches, second.time_start, second.time_end) == (3, at(1), at(3601))


def test_matches_of_one_second_are_sent_together() -> None:
    (report,) = told(5.1, 5.9, 5.5).reports
    assert (report.matches, report.first_at) == (3, at(5.1))


def test_after_an_interval_without_a_notification_a_match_is_sent_at_once() -> None:
    _, second = told(0, 20_000).reports
    assert second.time_end == at(20_001)


def test_what_is_not_due_yet_waits() -> None:
    found = told(0, 10, until=20)
    assert [each.matches for each in found.reports] == [1]
    assert (found.waiting, found.due_at) == (1, at(3601))


def test_without_a_match_nothing_is_sent() -> None:
    assert told() == Replayed(reports=(), waiting=0, due_at=None)
