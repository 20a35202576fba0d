"""Claims deliveries that are due, and records what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from automations.limits import MINUTE_S, DueDelivery, Use, endpoint_of, take_turns
from automations.outbound.request_end import RequestEnd
from automations.schedule import AfterAttempt, Delivered, Failing, TryAgainIn
from automations.windows import Report
from flows.automations.deliver import Claimed, DeliveryClaim
from spans.ids import DeliveryId, ProjectId
from store.automations.clock import time_now
from store.automations.states import disable, end_notification
from store.postgres.counters import Counts
from store.postgres.database import Cursor, Database
from store.postgres.leases import CLAIMED, DELIVERIES, RELEASED, by_key

UNDER_WAY_S = 20.0
"""How long an attempt without an end counts as under way, seconds: longer than one can last.
After that its worker has died."""

PER_PROJECT, IN_ALL = 64, 256
"""Deliveries of one project, and of all, that a claim looks at."""

# Nobody else claims meanwhile, so that two workers together keep the limits too.
ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtext('tallyard.delivery'))"

# The projects that have something to send are found one after the other in the index. The first
# due delivery of each comes before the second of any.
DUE = f"""
    with recursive waiting(project_id) as (
      (select project_id from delivery where {DELIVERIES.waiting} and {DELIVERIES.free}
        order by project_id limit 1)
      union all
      select (select delivery.project_id from delivery
               where {DELIVERIES.waiting} and {DELIVERIES.free}
                 and delivery.project_id > waiting.project_id
               order by delivery.project_id limit 1)
        from waiting where waiting.project_id is not null)
    select due.id, waiting.project_id, due.url
      from waiting
      join project on project.id = waiting.project_id and project.deleted_at is null
     cross join lateral (
       select delivery.id, next_attempt_at,
              coalesce(target ->> 'url', config -> 'action' ->> 'url') as url,
              row_number() over (order by next_attempt_at) as place
         from delivery
         left join automation using (automation_no)
         left join automation_state using (automation_no)
        where delivery.project_id = waiting.project_id
          and {DELIVERIES.waiting} and {DELIVERIES.free}
          and next_attempt_at <= now() and (is_test or is_active)
        order by next_attempt_at limit {PER_PROJECT}) due
     order by place, next_attempt_at limit {IN_ALL}
"""
IS_WAITING = f"""
    select exists (
      select from delivery left join automation_state using (automation_no)
       where {DELIVERIES.waiting} and {DELIVERIES.free} and next_attempt_at <= now()
         and (is_test or is_active)
         and (select deleted_at is null from project where project.id = delivery.project_id))
"""
# A clock that was set back leaves attempts in the future, which say nothing about this minute.
USE = """
    select asked.key, used.*
      from unnest(%(keys)s::{kind}[]) as asked(key)
     cross join lateral (
       select count(*),
              count(*) filter (where run_ms is null
                                 and started_at > now() - make_interval(secs => %(under_way)s)),
              coalesce(extract(epoch from now() - min(started_at)), 0)::float8
         from delivery_attempt
        where {column} = asked.key
          and started_at > now() - make_interval(secs => %(minute)s)
          and started_at < now() + make_interval(secs => %(minute)s)) used
"""
PUT_OFF = f"""
    update delivery set next_attempt_at = now() + make_interval(secs => later.wait_s)
      from unnest(%s::uuid[], %s::float8[]) as later(id, wait_s)
     where delivery.id = later.id and {by_key(f"{DELIVERIES.waiting} and {DELIVERIES.free}")}
"""
CLAIM = f"""
    with chosen as (
      select id from delivery where id = any(%(ids)s::uuid[])
         and {by_key(f"{DELIVERIES.waiting} and {DELIVERIES.free}")}
       order by id for update skip locked)
    update delivery set {CLAIMED}, attempt_no = attempt_no + 1
      from chosen where delivery.id = chosen.id
    returning delivery.id, project_id, automation_no, is_test, fence, attempts, attempt_no,
              body, target, secret, authorization_header
"""
BEGIN = """
    insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint)
    select * from unnest(%s::uuid[], %s::integer[], %s::uuid[], %s::bytea[])
"""
RECEIVERS = """
    select automation_no, config -> 'action', secret,
           case when former_secret_until > now() then former_secret end, authorization_header,
           extract(epoch from now() - failing_since)::float8, failed_attempts
      from unnest(%s::integer[]) as asked(no)
     cross join lateral (
       select automation.*, failing_since, failed_attempts
         from automation join automation_state using (automation_no)
        where automation_no = asked.no offset 0) found
"""
END_ATTEMPT = """
    update delivery_attempt
       set run_ms = %s, address_family = %s, status = %s, error_class = %s, error_message = %s,
           response = %s
     where delivery_id = %s and attempt_no = %s
"""
LOCK = f"""
    select time_start, time_end, matches, first_at, delivered_at is not null from delivery
     where id = %s and fence = %s and {by_key(DELIVERIES.waiting)} for update
"""
END = f"""
    update delivery
       set {RELEASED}, state = %s, ended_at = now(), secret = null, authorization_header = null,
           delivered_at = case when %s then coalesce(delivered_at, now()) else delivered_at end
     where id = %s
"""
TRY_AGAIN = f"""
    update delivery set {RELEASED}, next_attempt_at = now() + make_interval(secs => %s)
     where id = %s
"""
SUCCEEDED = """
    update automation_state set failing_since = null, failed_attempts = 0
     where automation_no = %s and failed_attempts > 0
"""
FAILED = """
    update automation_state
       set failing_since = coalesce(failing_since, now()), failed_attempts = failed_attempts + 1
     where automation_no = %s
"""


class Receiver(NamedTuple):
    """Where the deliveries of an automation go now. Secrets are sealed."""

    action: Mapping[str, Any]
    secret: bytes | None
    former_secret: bytes | None
    authorization: bytes | None
    failing_s: float | None
    failed_attempts: int


class DueDeliveries:
    """Implements flows.automations.deliver.DeliveryQueue. Methods are safe to repeat."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s

    def claim(self, room: int) -> Claimed:
        with self._database.cursor() as cursor:
            cursor.execute(ONE_AT_A_TIME)
            cursor.execute(DUE)
            due = [
                DueDelivery(found, project, endpoint_of(url)) for found, project, url in cursor
            ]
            if not due:
                return Claimed()
            turns = take_turns(
                due, room=room,
                endpoints=_use(cursor, "endpoint", "bytea", {each.endpoint for each in due}),
                projects=_use(cursor, "project_id", "uuid", {each.project_id for each in due}),
            )
            if turns.put_off:
                cursor.execute(
                    PUT_OFF,
                    (
                        [each.id for each, _ in turns.put_off],
                        [wait_s for _, wait_s in turns.put_off],
                    ),
                )
            claims = self._claim(cursor, {each.id: each.endpoint for each in turns.now})
        return Claimed(
            claims=claims, wait_s=min((wait_s for _, wait_s in turns.put_off), default=None)
        )

    def record(self, claim: DeliveryClaim, end: RequestEnd, then: AfterAttempt) -> bool:
        counts = Counts()
        with self._database.cursor() as cursor:
            cursor.execute(LOCK, (claim.id, claim.fence))
            found = cursor.fetchone()
            cursor.execute(
                END_ATTEMPT,
                (
                    end.run_ms, end.address_family, end.status, end.error_class,
                    end.error_message, end.answer, claim.id, claim.attempt_no,
                ),
            )
            if cursor.rowcount:
                counts.add("delivery_attempts", {"error_class": end.error_class or ""}, 1)
            if found is not None:
                *reported, was_delivered = found
                state = _state_after(claim, then, was_delivered=was_delivered)
                self._write(cursor, claim, _report(*reported), then, state)
                if state != "pending":
                    kind = "test" if claim.is_test else "notification"
                    counts.add("deliveries", {"kind": kind, "state": state}, 1)
            counts.write(cursor)
        return found is not None

    def pause(self, automation_no: int, reason: str, *, url: str) -> bool:
        with self._database.cursor() as cursor:
            return disable(cursor, automation_no, reason, url=url)

    def renew(self) -> None:
        with self._database.cursor() as cursor:
            DELIVERIES.renew(
                cursor, owner=self._database.owner, queue="", lease_s=self._lease_s
            )

    def release(self) -> None:
        with self._database.cursor() as cursor:
            DELIVERIES.release_own(cursor, owner=self._database.owner, queue="")

    def is_waiting(self) -> bool:
        with self._database.cursor() as cursor:
            cursor.execute(IS_WAITING)
            return cursor.fetchone() == (True,)

    def _claim(
        self, cursor: Cursor, endpoints: Mapping[UUID, bytes]
    ) -> Sequence[DeliveryClaim]:
        if not endpoints:
            return ()
        cursor.execute(
            CLAIM,
            {
                "ids": list(endpoints), "owner": self._database.owner, "lease": self._lease_s,
            },
        )
        rows = cursor.fetchall()
        receivers = _receivers(cursor, {row[2] for row in rows if row[2] is not None})
        claims = [_delivery_claim(row, receivers.get(row[2])) for row in rows]
        cursor.execute(
            BEGIN,
            (
                [each.id for each in claims], [each.attempt_no for each in claims],
                [each.project_id for each in claims], [endpoints[each.id] for each in claims],
            ),
        )
        return claims

    def _write(
        self, cursor: Cursor, claim: DeliveryClaim, report: Report, then: AfterAttempt,
        state: str,
    ) -> None:
        """Write what becomes of the delivery, and of its automation's window."""
        is_delivered = isinstance(then, Delivered)
        if isinstance(then, TryAgainIn):
            cursor.execute(TRY_AGAIN, (then.wait_s, claim.id))
        else:
            cursor.execute(END, (state, is_delivered, claim.id))
        if claim.is_test or claim.automation_no is None:
            return
        cursor.execute(SUCCEEDED if is_delivered else FAILED, (claim.automation_no,))
        if not isinstance(then, TryAgainIn):
            end_notification(
                cursor, claim.id, claim.automation_no, report, delivered=is_delivered,
                now=time_now(cursor),
            )


def _state_after(claim: DeliveryClaim, then: AfterAttempt, *, was_delivered: bool) -> str:
    """The state of a delivery after an attempt. One that was sent again by hand, and that its
    receiver had taken before, stays delivered."""
    if isinstance(then, TryAgainIn):
        return "pending"
    if isinstance(then, Delivered) or was_delivered:
        return "delivered"
    return "failed" if claim.is_test else "abandoned"


def _report(time_start: Any, time_end: Any, matches: int, first_at: Any) -> Report:  # noqa: ANN401 as psycopg gives them
    return Report(
        time_start=time_start, time_end=time_end, matches=matches, first_at=first_at or time_end
    )


def _use(cursor: Cursor, column: str, kind: str, keys: set[Any]) -> dict[Any, Use]:
    """The attempts of the last minute, by what stands in `column`."""
    cursor.execute(
        USE.format(column=column, kind=kind).encode(),
        {"keys": list(keys), "under_way": UNDER_WAY_S, "minute": MINUTE_S},
    )
    return {
        key: Use(in_minute=in_minute, in_flight=in_flight, oldest_s=oldest_s)
        for key, in_minute, in_flight, oldest_s in cursor
    }


def _receivers(cursor: Cursor, automation_nos: set[int]) -> dict[int, Receiver]:
    if not automation_nos:
        return {}
    cursor.execute(RECEIVERS, (sorted(automation_nos),))
    return {no: Receiver(*values) for no, *values in cursor}


def _delivery_claim(row: Sequence[Any], receiver: Receiver | None) -> DeliveryClaim:
    (delivery_id, project_id, automation_no, is_test, fence, attempt, attempt_no, body, target,
     secret, authorization) = row
    if receiver is not None:
        action = receiver.action
        secrets = (receiver.secret, receiver.former_secret)
        authorization = receiver.authorization
    else:
        action, secrets = target, (secret, None)
    return DeliveryClaim(
        id=DeliveryId(delivery_id), project_id=ProjectId(project_id),
        automation_no=automation_no, is_test=is_test, fence=fence, attempt=attempt,
        attempt_no=attempt_no, body=body, url=action["url"],
        headers=action.get("headers") or {},
        secrets=[each for each in secrets if each is not None], authorization=authorization,
        failing=Failing(
            seconds=(receiver.failing_s or 0.0) if receiver else 0.0,
            attempts=receiver.failed_attempts if receiver else 0,
        ),
    )
