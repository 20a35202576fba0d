"""Deliveries in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from fakes.memory.access import MemoryProjects
from fakes.memory.pages import page_of

from automations.delivery import Delivery, DeliveryDetails, DeliveryState
from flows.access.projects import ListPage
from flows.automations.deliveries import NewTest, Redelivered, RedeliveryRange
from spans.clock import Clock
from spans.ids import AutomationId, DeliveryId, OrgId, ProjectId


class MemoryDeliveries:
    """Implements flows.automations.deliveries.DeliveryStore.

    `send` is called with each test, as if a worker sent it; by default none does.
    """

    def __init__(self, projects: MemoryProjects, clock: Clock) -> None:
        self._projects = projects
        self._clock = clock
        self.stored: dict[DeliveryId, DeliveryDetails] = {}
        self.tests: list[NewTest] = []
        self.send: Callable[[NewTest], object] = lambda _: None

    def add(self, delivery: Delivery, body: bytes = b"{}") -> None:
        self.stored[delivery.id] = DeliveryDetails(delivery=delivery, body=body, attempts=())

    def list_of_project(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId
    ) -> list[Delivery]:
        return self._list(org_id, page, lambda each: each.project_id == project_id)

    def list_of_automation(
        self, org_id: OrgId, page: ListPage, automation_id: AutomationId
    ) -> list[Delivery]:
        return self._list(org_id, page, lambda each: each.automation_id == automation_id)

    def _list(
        self, org_id: OrgId, page: ListPage, is_asked: Callable[[Delivery], bool]
    ) -> list[Delivery]:
        every = [each.delivery for each in self.stored.values()]
        found = [each for each in every if self._is_of(org_id, each) and is_asked(each)]
        return page_of(found, page, marks=every, name_of=lambda _: "")

    def find_delivery(
        self, org_id: OrgId, delivery_id: DeliveryId
    ) -> DeliveryDetails | None:
        found = self.stored.get(delivery_id)
        return found if found and self._is_of(org_id, found.delivery) else None

    def redeliver(
        self, delivery_ids: Collection[DeliveryId],
        refusal: Callable[[Delivery], str | None],
    ) -> Redelivered:
        refused: dict[DeliveryId, str] = {}
        sent = 0
        for delivery_id in delivery_ids:
            details = self.stored[delivery_id]
            if (reason := refusal(details.delivery)) is not None:
                refused[delivery_id] = reason
                continue
            sent += 1
            self.change(
                delivery_id, state=DeliveryState.PENDING, ended_at=None,
                next_attempt_at=self._clock(),
            )
        return Redelivered(sent=sent, refused=refused)

    def notifications_between(
        self, automation_id: AutomationId, wanted: RedeliveryRange, most: int
    ) -> list[DeliveryId]:
        found = sorted(
            (
                each.delivery for each in self.stored.values()
                if each.delivery.automation_id == automation_id and not each.delivery.is_test
                and each.delivery.state in wanted.states
                and wanted.since <= each.delivery.created < wanted.until
            ),
            key=lambda delivery: delivery.created,
        )
        return [each.id for each in found][:most]

    def add_test(self, test: NewTest, *, per_minute: int) -> float | None:
        now = self._clock()
        recent = [
            each.delivery.created for each in self.stored.values()
            if each.delivery.is_test and each.delivery.project_id == test.project_id
            and (now - each.delivery.created).total_seconds() < 60
        ]
        if len(recent) >= per_minute:
            return 60 - (now - min(recent)).total_seconds()
        self.tests.append(test)
        self.add(
            Delivery(
                id=test.id, project_id=test.project_id, automation_id=test.automation_id,
                automation_name=None, is_test=True, state=DeliveryState.PENDING, created=now,
                report=test.report, attempts=0, next_attempt_at=now,
            ),
            test.body,
        )
        self.send(test)
        return None

    def change(self, delivery_id: DeliveryId, **changes: object) -> None:
        details = self.stored[delivery_id]
        self.stored[delivery_id] = replace(
            details, delivery=replace(details.delivery, **changes)
        )

    def _is_of(self, org_id: OrgId, delivery: Delivery) -> bool:
        return self._projects.find_project(org_id, delivery.project_id) is not None
