"""The windows of automations: locked, changed by a pure decision, and written back.

Who changes a window holds the lock of its row. A look at a project locks them in the order of
their automations; the end of a notification locks one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from automations.windows import MatchWindow, Report
from store.postgres.database import Cursor

WINDOW = """automation_no, started_at, collected, first_at, open_from, reported_until,
            delivery_id is not null"""
LOCK = f"""
    select {WINDOW} from unnest(%s::integer[]) as asked(no)
     cross join lateral (
       select * from automation_state where automation_state.automation_no = asked.no
        order by automation_no for update) state
     order by automation_no
"""
LOCK_DUE = f"""
    select {WINDOW} from automation_state
     where project_id = %s and due_at <= %s and is_active
     order by due_at limit %s for update skip locked
"""
SAVE = """
    update automation_state
       set collected = new.collected, first_at = new.first_at, open_from = new.open_from,
           reported_until = new.reported_until, due_at = new.due_at,
           delivery_id = case when new.is_sending then coalesce(new.delivery_id,
                                                                automation_state.delivery_id)
                         end
      from unnest(%s::integer[], %s::bigint[], %s::timestamptz[], %s::timestamptz[],
                  %s::timestamptz[], %s::timestamptz[], %s::boolean[], %s::uuid[])
           as new(automation_no, collected, first_at, open_from, reported_until, due_at,
                  is_sending, delivery_id)
     where automation_state.automation_no = new.automation_no
"""
ACTIVE_INTERVALS = """
    select automation_no, (config ->> 'interval_seconds')::float8
      from automation_state join automation using (automation_no)
     where automation_no = any(%s) and is_active
"""
LOCK_ONE = f"""
    select is_active, (config ->> 'interval_seconds')::float8, delivery_id, {WINDOW}
      from automation_state join automation using (automation_no)
     where automation_no = %s for update of automation_state
"""


def lock_windows(cursor: Cursor, automation_nos: Iterable[int]) -> dict[int, MatchWindow]:
    """The windows of these automations, by their numbers. Each is locked."""
    cursor.execute(LOCK, (sorted(automation_nos),))
    return _windows(cursor)


def lock_due(
    cursor: Cursor, project_id: UUID, now: datetime, most: int
) -> dict[int, MatchWindow]:
    """The windows of the project's active automations that are due and not locked by others."""
    cursor.execute(LOCK_DUE, (project_id, now, most))
    return _windows(cursor)


def save_windows(
    cursor: Cursor,
    windows: Mapping[int, tuple[MatchWindow, datetime | None]],
    delivery_ids: Mapping[int, UUID],
) -> None:
    """Write windows that are locked, each with the time at which it is due.

    `delivery_ids` has the notifications that have just been formed, by their automations.
    """
    if not windows:
        return
    rows = [
        (
            no, window.collected, window.first_at, window.open_from, window.reported_until,
            due_at, window.is_sending, delivery_ids.get(no),
        )
        for no, (window, due_at) in windows.items()
    ]
    cursor.execute(SAVE, tuple(map(list, zip(*rows, strict=True))))


def end_notification(
    cursor: Cursor, delivery_id: UUID, automation_no: int, report: Report, *,
    delivered: bool, now: datetime,
) -> None:
    """Take what became of a notification into its automation's window.

    Does nothing if another notification is on its way by now, or the automation is gone: this
    one has ended before, and was sent again by hand.
    """
    cursor.execute(LOCK_ONE, (automation_no,))
    if (row := cursor.fetchone()) is None:
        return
    is_active, interval_s, on_its_way, *values = row
    if on_its_way != delivery_id:
        return
    window = _window(values)
    window = window.delivered(report) if delivered else window.abandoned(report)
    window = window.rebased(now)
    due_at = window.due_at(now, timedelta(seconds=interval_s)) if is_active else None
    save_windows(cursor, {automation_no: (window, due_at)}, {})


def reopen_notification(
    cursor: Cursor, delivery_id: UUID, automation_no: int, report: Report
) -> None:
    """Take an abandoned notification, which is sent again, out of its automation's window.

    Call it while no later notification carries its matches: then they are collected there.
    """
    windows = lock_windows(cursor, [automation_no])
    changed: dict[int, tuple[MatchWindow, datetime | None]] = {
        no: (window.reopened(report), None) for no, window in windows.items()
    }
    save_windows(cursor, changed, {automation_no: delivery_id})


def set_due(cursor: Cursor, automation_nos: Sequence[int], now: datetime) -> None:
    """Compute anew when the windows are due: after their automations were paused, resumed, or
    got another interval."""
    windows = lock_windows(cursor, automation_nos)
    cursor.execute(ACTIVE_INTERVALS, (list(windows),))
    interval_of = {no: timedelta(seconds=interval_s) for no, interval_s in cursor.fetchall()}
    changed: dict[int, tuple[MatchWindow, datetime | None]] = {}
    for no, stored in windows.items():
        window, interval = stored.rebased(now), interval_of.get(no)
        changed[no] = window, None if interval is None else window.due_at(now, interval)
    save_windows(cursor, changed, {})


def disable(cursor: Cursor, automation_no: int, reason: str, *, url: str) -> bool:
    """Pause an active automation because of `reason`, which is about `url`. Returns False if it
    was not active, or goes to another URL by now.

    It locks the automation's project before its state, as looks do, so call it in a
    transaction that holds neither.
    """
    cursor.execute(
        """update automation_project set revision = revision + 1
            where project_id = (select project_id from automation_state
                                 where automation_no = %s)""",
        (automation_no,),
    )
    cursor.execute(
        """update automation_state
              set is_active = false, due_at = null, disabled_at = now(), disabled_reason = %s
            where automation_no = %s and is_active
              and (select config -> 'action' ->> 'url' from automation
                    where automation.automation_no = automation_state.automation_no) = %s
            returning project_id""",
        (reason, automation_no, url),
    )
    if (row := cursor.fetchone()) is None:
        return False
    cursor.execute(
        "update automation_project set active = active - 1 where project_id = %s", row
    )
    cursor.execute(
        """update automation set config = jsonb_set(config, '{status}', '"paused"')
            where automation_no = %s""",
        (automation_no,),
    )
    return True


def _windows(cursor: Cursor) -> dict[int, MatchWindow]:
    return {values[0]: _window(values) for values in cursor.fetchall()}


def _window(values: Sequence[Any]) -> MatchWindow:
    _, started_at, collected, first_at, open_from, reported_until, is_sending = values
    return MatchWindow(
        started_at=started_at, collected=collected, first_at=first_at, open_from=open_from,
        reported_until=reported_until, is_sending=is_sending,
    )
