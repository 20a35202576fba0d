"""Reads deliveries, makes them due again, and adds tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import UUID

import orjson

from automations.delivery import Attempt, Delivery, DeliveryDetails, DeliveryState
from automations.limits import MINUTE_S
from automations.model import Action, WebhookAction
from automations.windows import Report
from flows.access.projects import ListPage
from flows.automations.deliveries import NewTest, Redelivered, RedeliveryRange
from spans.errors import NotFound
from spans.ids import AutomationId, DeliveryId, OrgId, ProjectId
from store.automations.states import reopen_notification
from store.postgres.database import Cursor, Database
from store.postgres.paging import read_page

COLUMNS = """delivery.id, delivery.project_id, automation.id, automation.name, is_test, state,
    delivery.created, time_start, time_end, matches, delivery.first_at, attempt_no,
    next_attempt_at, ended_at, delivered_at, carried_by"""
LAST_ERROR = """
      left join lateral (
        select coalesce(error_message, error_class) as error from delivery_attempt
         where delivery_id = delivery.id order by delivery_attempt.attempt_no desc limit 1) last
        on true
"""
"""Joins `last.error`, what the last attempt of a delivery met."""

SELECT = f"""
    select {COLUMNS}, last.error
      from delivery
      left join automation using (automation_no)
      {LAST_ERROR}
"""
OF_PROJECT = """
    project_id = (select id from project where id = %s and org_id = %s and deleted_at is null)
"""
OF_AUTOMATION = """
    automation_no = (select automation_no from automation
                       join project on project.id = automation.project_id
                      where automation.id = %s and org_id = %s and deleted_at is null)
"""
OF_ORG = """exists (select from project where project.id = delivery.project_id
                      and org_id = %s and deleted_at is null)"""
ATTEMPTS = """
    select attempt_no, started_at, run_ms, address_family, status, error_class, error_message,
           response
      from delivery_attempt where delivery_id = %s order by attempt_no
"""
# A look locks its project, then windows, then the abandoned deliveries that a notification
# carries. Who takes such a delivery first, and then its window, waits for the project before.
LOCK_PROJECTS = """
    select from automation_project
     where project_id = any(array(
       select project_id from delivery where id = any(%s)))
     order by project_id for update
"""
LOCK = f"""
    select {COLUMNS}, null, delivery.automation_no, owner is not null
      from delivery left join automation using (automation_no)
     where delivery.id = any(%s) order by delivery.id for update of delivery
"""
# One that is tried now stays as it is. What is still tried keeps the count of its attempts.
RESEND = """
    update delivery
       set attempts = case when state = 'pending' then attempts else 0 end, state = 'pending',
           next_attempt_at = now(), ended_at = null
     where id = any(%s)
"""
NUMBER = "(select automation_no from automation where id = %(id)s)"
# By pairs, which one index alone has in their order.
BETWEEN = f"""
    select id from delivery
     where (automation_no, created) >= ({NUMBER}, %(since)s)
       and (automation_no, created) < ({NUMBER}, %(until)s)
       and state = any(%(states)s) and not is_test
     order by automation_no, created limit %(most)s
"""
ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtext('tallyard.test'), hashtext(%s::text))"
TESTS = """
    select count(*), extract(epoch from now() - min(created))::float8
      from (select created from delivery
             where project_id = %(project)s and is_test
               and created > now() - make_interval(secs => %(minute)s)
               and created < now() + make_interval(secs => %(minute)s)) test
"""
# Not deleted before the test is stored: without its automation a test would go nowhere.
AUTOMATION = "select automation_no from automation where id = %s for key share"
ADD_TEST = """
    insert into delivery (id, project_id, automation_no, is_test, state, time_start, time_end,
                          matches, first_at, body, target, secret, authorization_header)
    values (%s, %s, %s, true, 'pending', %s, %s, %s, %s, %s, %s::jsonb, %s, %s)
"""


class StoredDeliveries:
    """Implements flows.automations.deliveries.DeliveryStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_of_project(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId
    ) -> list[Delivery]:
        return self._list(page, OF_PROJECT, project_id, org_id)

    def list_of_automation(
        self, org_id: OrgId, page: ListPage, automation_id: AutomationId
    ) -> list[Delivery]:
        return self._list(page, OF_AUTOMATION, automation_id, org_id)

    def _list(
        self, page: ListPage, condition: str, which: UUID, org_id: OrgId
    ) -> list[Delivery]:
        with self._database.cursor() as cursor:
            rows = read_page(
                cursor, "select id from delivery", condition, (which, org_id), page,
                table="delivery",
            )
            ids = [row[0] for row in rows]
            cursor.execute(f"{SELECT} where delivery.id = any(%s)", (ids,))
            found = {row[0]: _delivery(row) for row in cursor}
        return [found[each] for each in ids if each in found]

    def find_delivery(
        self, org_id: OrgId, delivery_id: DeliveryId
    ) -> DeliveryDetails | None:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"{SELECT} where delivery.id = %s and {OF_ORG}", (delivery_id, org_id)
            )
            if (row := cursor.fetchone()) is None:
                return None
            cursor.execute("select body from delivery where id = %s", (delivery_id,))
            body = cursor.fetchone()
            cursor.execute(ATTEMPTS, (delivery_id,))
            attempts = tuple(map(_attempt, cursor.fetchall()))
        return DeliveryDetails(
            delivery=_delivery(row), body=bytes(body[0]) if body else b"", attempts=attempts
        )

    def redeliver(
        self, delivery_ids: Collection[DeliveryId],
        refusal: Callable[[Delivery], str | None],
    ) -> Redelivered:
        refused: dict[DeliveryId, str] = {}
        resent: list[DeliveryId] = []
        with self._database.cursor() as cursor:
            cursor.execute(LOCK_PROJECTS, (list(delivery_ids),))
            cursor.execute(LOCK, (list(delivery_ids),))
            for *values, automation_no, is_held in cursor.fetchall():
                delivery = _delivery(values)
                if (reason := refusal(delivery)) is not None:
                    refused[delivery.id] = reason
                elif not is_held:
                    _reopen(cursor, delivery, automation_no)
                    resent.append(delivery.id)
            cursor.execute(RESEND, (resent,))
        return Redelivered(sent=len(resent), refused=refused)

    def notifications_between(
        self, automation_id: AutomationId, wanted: RedeliveryRange, most: int
    ) -> list[DeliveryId]:
        states = [each.value for each in wanted.states]
        with self._database.cursor() as cursor:
            cursor.execute(
                BETWEEN,
                {
                    "id": automation_id, "since": wanted.since, "until": wanted.until,
                    "states": states, "most": most,
                },
            )
            return [DeliveryId(found) for (found,) in cursor]

    def add_test(self, test: NewTest, *, per_minute: int) -> float | None:
        with self._database.cursor() as cursor:
            # Two tests at once would both be the last one that is allowed.
            cursor.execute(ONE_AT_A_TIME, (test.project_id,))
            cursor.execute(TESTS, {"project": test.project_id, "minute": MINUTE_S})
            ((count, oldest_s),) = cursor.fetchall()
            if count >= per_minute:
                return MINUTE_S - float(oldest_s)
            report = test.report
            cursor.execute(
                ADD_TEST,
                (
                    test.id, test.project_id, _automation_no(cursor, test), report.time_start,
                    report.time_end, report.matches, report.first_at, test.body,
                    None if test.action is None else _target(test.action), test.secret,
                    test.authorization,
                ),
            )
        return None


def _reopen(cursor: Cursor, delivery: Delivery, automation_no: int) -> None:
    """Take an abandoned notification, which is sent again, out of the window."""
    if delivery.state is DeliveryState.ABANDONED:
        reopen_notification(cursor, delivery.id, automation_no, delivery.report)


def _automation_no(cursor: Cursor, test: NewTest) -> int | None:
    """The number of the stored automation that is tested. Raises NotFound if it is gone."""
    if test.automation_id is None:
        return None
    cursor.execute(AUTOMATION, (test.automation_id,))
    if (row := cursor.fetchone()) is None:
        raise NotFound("no such automation")
    number: int = row[0]
    return number


def _target(action: Action) -> str:
    """The action as JSON, as an automation's configuration has it."""
    if isinstance(action, WebhookAction):
        told = {"type": "webhook", "url": action.url, "headers": dict(action.headers)}
    else:
        told = {"type": "slack", "url": action.url}
    return orjson.dumps(told).decode()


def _delivery(row: Sequence[Any]) -> Delivery:
    (delivery_id, project_id, automation_id, name, is_test, state, created, time_start,
     time_end, matches, first_at, attempts, next_attempt_at, ended_at, delivered_at, carried_by,
     last_error) = row
    return Delivery(
        id=DeliveryId(delivery_id), project_id=ProjectId(project_id),
        automation_id=automation_id, automation_name=name, is_test=is_test,
        state=DeliveryState(state), created=created,
        report=Report(
            time_start=time_start, time_end=time_end, matches=matches,
            first_at=first_at or time_end,
        ),
        attempts=attempts, next_attempt_at=next_attempt_at, ended_at=ended_at,
        delivered_at=delivered_at, carried_by=carried_by, last_error=last_error,
    )


def _attempt(row: Sequence[Any]) -> Attempt:
    number, started_at, run_ms, family, status, error_class, message, response = row
    return Attempt(
        attempt_no=number, started_at=started_at, run_ms=run_ms, address_family=family,
        status=status, error_class=error_class, error_message=message, response=response,
    )
