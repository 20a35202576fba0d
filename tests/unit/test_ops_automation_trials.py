"""What `tallyard automations explain` and `replay` print."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from automations.windows import Report
from flows.automations.history import History, LookEntry, Present
from flows.automations.replays import Replay, ReplayedNotification
from ops.commands.automation_trials import history_lines, replay_lines

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
PRESENT = Present(
    is_active=False, started_at=AT, collected=0, first_at=None, reported_until=None,
    due_at=None, sending=None, disabled_at=None, disabled_reason=None, looked_at=AT,
)
LOOK = LookEntry(no=1, first_at=AT, at=AT, looks=2, rows_read=5)


def test_the_present_state_is_printed_above_the_history() -> None:
    lines = list(history_lines(History(present=PRESENT, entries=(LOOK,), cursor="1-")))
    assert lines == [
        *PRESENT.sentences(), "",
        "2026-05-01T12:00:00.000Z  read 5 rows in 2 looks: none matched",
        "(there is more: --last gives it)",
    ]


def test_without_a_history_only_the_present_state_is_printed() -> None:
    lines = list(history_lines(History(present=PRESENT, entries=(), cursor=None)))
    assert lines == PRESENT.sentences()


def test_a_replay_prints_each_window_with_its_message_and_the_sum() -> None:
    hour = timedelta(hours=1)
    told = Replay(
        name="Errors", since=AT - hour, examined=7, waiting=1, due_at=AT + hour,
        notifications=(ReplayedNotification(
            report=Report(time_start=AT - hour, time_end=AT, matches=2, first_at=AT),
            message="Errors: 2 logs triggered automation in the last 1 hour",
        ),),
    )
    assert list(replay_lines(told)) == [
        "2026-05-01T11:00:00.000Z - 2026-05-01T12:00:00.000Z",
        "    Errors: 2 logs triggered automation in the last 1 hour",
        "Errors: 1 notification about 2 logs of 7 since 2026-05-01T11:00:00.000Z",
        "1 log more would be told at 2026-05-01T13:00:00.000Z",
    ]
