"""Reads what is on its way to webhooks, and which automations Tallyard has paused."""

from __future__ import annotations

from flows.health.measurements import DisabledAutomation, Sending
from store.postgres.database import Database

COUNTED_MAX = 10_000
"""The most deliveries that are counted, so that a count takes milliseconds."""

TOLD_MAX = 20
"""Paused automations that are told by their names."""

PENDING = f"""
    select count(*), coalesce(extract(epoch from now() - min(created)), 0)::float8
      from (select created from delivery left join automation_state using (automation_no)
             where state = 'pending' and (is_test or is_active)
               and (select deleted_at is null from project
                     where project.id = delivery.project_id)
             order by created limit {COUNTED_MAX}) waiting
"""
DISABLED = f"""
    select project.name, automation.name, disabled_at, disabled_reason
      from (select * from automation_state where disabled_at is not null
             order by disabled_at desc limit {TOLD_MAX}) state
      join automation using (automation_no)
      join project on project.id = automation.project_id
     order by disabled_at desc
"""
DISABLED_COUNT = f"""
    select count(*) from (select from automation_state where disabled_at is not null
                           limit {COUNTED_MAX}) disabled
"""


def read_sending(database: Database) -> Sending:
    """What is on its way, of at most the first COUNTED_MAX deliveries."""
    with database.cursor() as cursor:
        cursor.execute(PENDING)
        ((pending, oldest_s),) = cursor.fetchall()
        cursor.execute(DISABLED_COUNT)
        ((count,),) = cursor.fetchall()
        cursor.execute(DISABLED)
        disabled = tuple(
            DisabledAutomation(project=project, name=name, at=at, reason=reason or "")
            for project, name, at, reason in cursor
        )
    return Sending(
        pending=pending, oldest_s=round(oldest_s, 3), disabled_count=count, disabled=disabled
    )
