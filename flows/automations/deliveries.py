"""The use cases of deliveries: list and show them, send them again, send a test."""

from __future__ import annotations

import builtins
import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from automations.delivery import Delivery, DeliveryDetails, DeliveryState
from automations.model import Action, WebhookAction
from automations.payload import time_text
from automations.secrets import new_signing_secret
from automations.signature import message_id
from automations.windows import Report
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Projects
from flows.access.use_case import use_case
from flows.automations.automations import Automations
from flows.automations.trial import SentTest, TrialMessage
from spans.clock import Clock
from spans.errors import BadInput, NotFound, TransientError
from spans.ids import AutomationId, DeliveryId, OrgId, ProjectId, uuid7
from spans.json import JsonObject

REDELIVERED_MAX = 1000
"""The most deliveries that one request sends again."""

TESTS_PER_MINUTE = 5
"""Tests of one project in a minute: more would make Tallyard a scanner of ports."""

TEST_WAIT_S = 20.0
"""How long a test waits for its end, seconds: an attempt and the way to its worker."""

TEST_POLL_S = 0.1
BODY_BYTES_MAX = 256 * 1024


class TooManyTests(TransientError):
    """The project has had its tests of this minute. The API answers with status 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTest:
    """A test as it is to be stored: for a stored automation's receiver, or without
    `automation_id` for that of `action`. Secrets are sealed."""

    id: DeliveryId
    project_id: ProjectId
    automation_id: AutomationId | None
    action: Action | None
    secret: bytes | None
    authorization: bytes | None
    body: bytes
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeliveryRange:
    """The notifications to send again: those formed in [since, until), in one of the states."""

    since: datetime
    until: datetime
    states: frozenset[DeliveryState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivered:
    """How many deliveries are sent again, and why others are not, by their ids."""

    sent: int
    refused: dict[DeliveryId, str]


class DeliveryStore(Protocol):
    """Where deliveries are stored."""

    def list_of_project(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId
    ) -> list[Delivery]: ...

    def list_of_automation(
        self, org_id: OrgId, page: ListPage, automation_id: AutomationId
    ) -> list[Delivery]: ...

    def find_delivery(
        self, org_id: OrgId, delivery_id: DeliveryId
    ) -> DeliveryDetails | None: ...

    def redeliver(
        self, delivery_ids: Collection[DeliveryId],
        refusal: Callable[[Delivery], str | None],
    ) -> Redelivered:
        """Makes deliveries due now, with all their attempts to come, except those that
        `refusal` has a reason against. It is asked while they are locked."""
        ...

    def notifications_between(
        self, automation_id: AutomationId, wanted: RedeliveryRange, most: int
    ) -> list[DeliveryId]:
        """The automation's notifications of that range, oldest first."""
        ...

    def add_test(self, test: NewTest, *, per_minute: int) -> float | None:
        """Stores a test that is due now. Instead gives the seconds to wait if the project has
        had so many within a minute."""
        ...


class Deliveries:
    """The deliveries of an organisation's projects. Thread-safe.

    `seal` encrypts a secret, and `ring` has workers look for what is due.
    """

    def __init__(
        self, store: DeliveryStore, *, automations: Automations, projects: Projects,
        seal: Callable[[str], bytes], ring: Callable[[], None], clock: Clock,
        pause: Callable[[float], object], seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._automations = automations
        self._projects = projects
        self._seal = seal
        self._ring = ring
        self._clock = clock
        self._pause = pause
        self._seconds = seconds

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, page: ListPage, *,
        automation_id: AutomationId | None = None, project_id: ProjectId | None = None,
    ) -> builtins.list[Delivery]:
        """The deliveries of an automation, or else of a project, newest first.

        Raises NotFound, and BadInput if neither is named.
        """
        if automation_id is not None:
            self._automations.get(principal, automation_id)
            return self._store.list_of_automation(principal.org_id, page, automation_id)
        scope = self._projects.scope(principal, project_id, None)
        if scope is None:
            raise BadInput("name an automation or a project")
        return self._store.list_of_project(principal.org_id, page, scope)

    @use_case(KeyRole.READ)
    def get(self, principal: Principal, delivery_id: DeliveryId) -> DeliveryDetails:
        """The delivery with its body and attempts. Raises NotFound."""
        found = self._store.find_delivery(principal.org_id, delivery_id)
        if found is None or not principal.reaches(found.delivery.project_id):
            raise NotFound("no such delivery")
        return found

    @use_case()
    def redeliver(self, principal: Principal, delivery_id: DeliveryId) -> DeliveryDetails:
        """Sends a notification again, with its id and its bytes; returns it as it is then.

        One that is still tried is tried now. Raises NotFound, and BadInput with the reason why
        it is not sent again.
        """
        delivery = self.get(principal, delivery_id).delivery
        done = self._store.redeliver([delivery.id], refusal_of)
        if reason := done.refused.get(delivery.id):
            raise BadInput(reason)
        self._ring()
        return self.get(principal, delivery_id)

    @use_case()
    def redeliver_range(
        self, principal: Principal, automation_id: AutomationId, wanted: RedeliveryRange
    ) -> Redelivered:
        """Sends the automation's notifications of that range again, at most REDELIVERED_MAX.

        They go out as fast as the limits of a receiver allow. Raises NotFound and BadInput.
        """
        automation = self._automations.get(principal, automation_id)
        if wanted.since >= wanted.until:
            raise BadInput("must be before `until`", path="since")
        found = self._store.notifications_between(
            automation.id, wanted, REDELIVERED_MAX + 1
        )
        if len(found) > REDELIVERED_MAX:
            raise BadInput(
                f"these are more than {REDELIVERED_MAX} deliveries: narrow `since` and `until`"
            )
        done = self._store.redeliver(found, refusal_of)
        self._ring()
        return done

    @use_case()
    def send_test(self, principal: Principal, message: TrialMessage) -> SentTest:
        """Sends a test, once, and waits for its end. Raises NotFound and TooManyTests.

        That of an automation that is not stored is signed with a secret of its own.
        """
        automation = message.automation
        project = self._projects.get(principal, automation.project_id)
        if len(message.body) > BODY_BYTES_MAX:
            raise BadInput(f"the body of a webhook has at most {BODY_BYTES_MAX} bytes")
        is_signed = isinstance(automation.action, WebhookAction) and not message.is_stored
        secret = new_signing_secret() if is_signed else None
        test = NewTest(
            id=DeliveryId(uuid7(self._clock(), os.urandom(10))), project_id=project.id,
            automation_id=automation.id if message.is_stored else None,
            action=None if message.is_stored else automation.action,
            secret=self._sealed(secret), authorization=self._sealed(message.authorization),
            body=message.body, report=message.report,
        )
        wait_s = self._store.add_test(test, per_minute=TESTS_PER_MINUTE)
        if wait_s is not None:
            raise TooManyTests(
                f"a project sends at most {TESTS_PER_MINUTE} tests in a minute: try again in "
                f"{math.ceil(wait_s)} s",
                retry_after_s=float(math.ceil(wait_s)),
            )
        self._ring()
        return _sent(self._ended(principal, test.id), secret)

    def _sealed(self, secret: str | None) -> bytes | None:
        return None if secret is None else self._seal(secret)

    def _ended(self, principal: Principal, delivery_id: DeliveryId) -> DeliveryDetails:
        """The delivery once it has ended, or as it is after TEST_WAIT_S."""
        until = self._seconds() + TEST_WAIT_S
        while True:
            found = self.get(principal, delivery_id)
            is_pending = found.delivery.state is DeliveryState.PENDING
            if not is_pending or self._seconds() > until:
                return found
            self._pause(TEST_POLL_S)


def refusal_of(delivery: Delivery) -> str | None:
    """Why a delivery is not sent again; None: it can be."""
    if delivery.is_test:
        return "a test is not sent again: send a new one"
    if delivery.carried_by is not None:
        return (
            f"its matches are reported by the later notification "
            f"{message_id(delivery.carried_by)}: send that one again"
        )
    return None


def read_delivery_id(text: str) -> DeliveryId | None:
    """The delivery that `text` names, by its id or its `webhook-id`; None if it is neither."""
    try:
        return DeliveryId(UUID(text.removeprefix("msg_")))
    except ValueError:
        return None


def _sent(found: DeliveryDetails, secret: str | None) -> SentTest:
    delivery = found.delivery
    error = delivery.last_error
    if delivery.state is DeliveryState.PENDING:
        error = f"no worker has sent it within {TEST_WAIT_S:g} s: see `tallyard status`"
    return SentTest(
        delivery_id=delivery.id, delivered=delivery.state is DeliveryState.DELIVERED,
        error=error, secret=secret,
    )


def delivery_json(delivery: Delivery) -> JsonObject:
    """A delivery as JSON."""
    automation_id, carried_by = delivery.automation_id, delivery.carried_by
    is_pending = delivery.state is DeliveryState.PENDING
    return {
        "id": str(delivery.id), "webhook_id": message_id(delivery.id),
        "project_id": str(delivery.project_id),
        "automation_id": str(automation_id) if automation_id else None,
        "automation_name": delivery.automation_name,
        "is_test": delivery.is_test, "state": delivery.state.value,
        "created": time_text(delivery.created),
        "time_start": time_text(delivery.report.time_start),
        "time_end": time_text(delivery.report.time_end), "count": delivery.report.matches,
        "attempts": delivery.attempts, "last_error": delivery.last_error,
        "next_attempt_at": time_text(delivery.next_attempt_at) if is_pending else None,
        "ended_at": _time(delivery.ended_at), "delivered_at": _time(delivery.delivered_at),
        "carried_by": message_id(carried_by) if carried_by else None,
    }


def details_json(details: DeliveryDetails) -> JsonObject:
    """A delivery as JSON, with its body as the text that is sent, and its attempts."""
    return {
        **delivery_json(details.delivery), "body": details.body.decode(),
        "attempt_log": [
            {
                "attempt": each.attempt_no, "started_at": time_text(each.started_at),
                "run_ms": each.run_ms, "address_family": each.address_family,
                "status": each.status, "error_class": each.error_class,
                "error_message": each.error_message, "response": each.response,
            }
            for each in details.attempts
        ],
    }


def redelivered_json(done: Redelivered) -> JsonObject:
    """What became of a request to send several again, as JSON."""
    return {
        "redelivered": done.sent,
        "refused": [
            {"webhook_id": message_id(each), "reason": reason}
            for each, reason in done.refused.items()
        ],
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)
