"""Reads what is on its way to webhooks, and which automations Tallyard has paused."""

from __future__ import annotations

from flows.health.measurements import DisabledAutomation, FailingAutomation, Sending
from store.postgres.database import Database

COUNTED_MAX = 10_000
"""The most deliveries that are counted, so that a count takes milliseconds."""

TOLD_MAX = 20
"""Failing, and paused, automations that are told by their names."""

PENDING = f"""
    select count(*), coalesce(extract(epoch from now() - min(created)), 0)::float8
      from (select created from delivery left join automation_state using (automation_no)
             where state = 'pending' and (is_test or is_active)
               and (select deleted_at is null from project
                     where project.id = delivery.project_id)
             order by created limit {COUNTED_MAX}) waiting
"""
FAILING = f"""
    select project.name, automation.name, failing_since, failed_attempts, next_attempt_at,
           last.error
      from (select delivery.id, automation_no, delivery.created, next_attempt_at,
                   failing_since, failed_attempts
              from delivery join automation_state using (automation_no)
             where state = 'pending' and not is_test and is_active
               and failing_since is not null
             order by delivery.created limit {TOLD_MAX}) late
      join automation using (automation_no)
      join project on project.id = automation.project_id
      left join lateral (
        select coalesce(error_message, error_class) as error from delivery_attempt
         where delivery_id = late.id and error_class is not null
         order by attempt_no desc limit 1) last on true
     order by late.created
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
        cursor.execute(FAILING)
        failing = tuple(
            FailingAutomation(
                project=project, name=name, since=since, attempts=attempts, next_at=next_at,
                reason=reason or "",
            )
            for project, name, since, attempts, next_at, reason in cursor
        )
        cursor.execute(DISABLED_COUNT)
        ((count,),) = cursor.fetchall()
        cursor.execute(DISABLED)
        disabled = tuple(
            DisabledAutomation(project=project, name=name, at=at, reason=reason or "")
            for project, name, at, reason in cursor
        )
    return Sending(
        pending=pending, oldest_s=round(oldest_s, 3), failing=failing, disabled_count=count,
        disabled=disabled,
    )
