"""Reads what evaluations of an automation found, and what it sent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from flows.automations.evaluate import Evaluated
from flows.automations.history import DeliveryEntry, LookEntry, Present
from spans.ids import AutomationId, DeliveryId
from store.automations.deliveries import LAST_ERROR
from store.postgres.database import Database, follow_indexes

LAST_NO = 2**63 - 1
"""More than the number of any evaluation."""

DELIVERY = """delivery.id, delivery.created, is_test, state, time_start, time_end, matches,
    attempt_no, last.error, next_attempt_at, ended_at, carried_by"""
PRESENT = f"""
    select is_active, started_at, collected, state.first_at, reported_until, due_at,
           disabled_at, disabled_reason, looked_at, {DELIVERY}
      from automation
      join automation_state state using (automation_no)
      join automation_project on automation_project.project_id = automation.project_id
      left join delivery on delivery.id = state.delivery_id
      {LAST_ERROR}
     where automation.id = %s
"""
WHICH = """
    select automation_no, object_no, created from automation
      join automation_project using (project_id) where id = %s
"""
# Beside matches stands the notification that was formed then, or that was on its way.
LOOKS = """
    select looked.evaluation_no, looked_at, until, looks, rows_read, looked.matches[place],
           decisions[place], due_ats[place], sent.id
      from (select *, array_position(automation_nos, %(no)s::integer) as place from evaluation
             where object_no = %(object)s and evaluation_no < %(below)s
             order by object_no desc, evaluation_no desc limit %(most)s) looked
      left join lateral (
        select id from delivery
         where automation_no = %(no)s and not is_test and time_end <= looked_at
         order by automation_no desc, time_end desc limit 1) sent on place is not null
     order by looked.object_no desc, looked.evaluation_no desc
"""
DELIVERIES = f"""
    select {DELIVERY}
      from (select * from delivery
             where automation_no = (select automation_no from automation where id = %(id)s)
               and (%(below)s::uuid is null or (created, id) < (
                     select below.created, below.id from delivery below
                      where below.id = %(below)s))
             order by created desc, id desc limit %(most)s) delivery
      {LAST_ERROR}
     order by delivery.created desc, delivery.id desc
"""


class Evaluations:
    """Implements flows.automations.history.HistoryStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def present(self, automation_id: AutomationId) -> Present | None:
        with self._database.cursor() as cursor:
            cursor.execute(PRESENT, (automation_id,))
            row = cursor.fetchone()
        if row is None:
            return None
        (is_active, started_at, collected, first_at, reported_until, due_at, disabled_at,
         disabled_reason, looked_at, *sending) = row
        return Present(
            is_active=is_active, started_at=started_at, collected=collected,
            first_at=first_at, reported_until=reported_until, due_at=due_at,
            sending=None if sending[0] is None else _delivery(sending),
            disabled_at=disabled_at, disabled_reason=disabled_reason, looked_at=looked_at,
        )

    def looks(
        self, automation_id: AutomationId, below: int | None, most: int
    ) -> Sequence[LookEntry]:
        with self._database.cursor() as cursor:
            cursor.execute(WHICH, (automation_id,))
            if (which := cursor.fetchone()) is None:
                return []
            automation_no, object_no, created = which
            follow_indexes(cursor)
            cursor.execute(
                LOOKS,
                {
                    "no": automation_no, "object": object_no, "most": most,
                    "below": LAST_NO if below is None else below,
                },
            )
            found = cursor.fetchall()
        entries = map(_look, found)
        return list(takewhile(lambda entry: entry.at >= created, entries))

    def deliveries(
        self, automation_id: AutomationId, below: DeliveryId | None, most: int
    ) -> Sequence[DeliveryEntry]:
        with self._database.cursor() as cursor:
            cursor.execute(DELIVERIES, {"id": automation_id, "below": below, "most": most})
            return [_delivery(row) for row in cursor]


def _look(row: Sequence[Any]) -> LookEntry:
    no, first_at, at, looks, rows_read, matches, decision, due_at, delivery_id = row
    return LookEntry(
        no=no, first_at=first_at, at=at, looks=looks, rows_read=rows_read,
        matches=matches or 0, decision=Evaluated(decision) if decision else None,
        due_at=due_at, delivery_id=delivery_id,
    )


def _delivery(row: Sequence[Any]) -> DeliveryEntry:
    (delivery_id, created, is_test, state, time_start, time_end, matches, attempts, error,
     next_attempt_at, ended_at, carried_by) = row
    return DeliveryEntry(
        id=delivery_id, at=created, is_test=is_test, state=state, time_start=time_start,
        time_end=time_end, matches=matches, attempts=attempts, last_error=error,
        next_attempt_at=next_attempt_at, ended_at=ended_at, carried_by=carried_by,
    )
