"""What every store of deliveries does."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from automations.delivery import Delivery, DeliveryState
from automations.model import WebhookAction
from automations.windows import Report
from flows.access.projects import ListPage
from flows.automations.deliveries import DeliveryStore, NewTest, RedeliveryRange
from spans.ids import AutomationId, DeliveryId, OrgId, ProjectId

PAGE = ListPage(limit=100)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVERY_STATE = frozenset(DeliveryState)


def a_report(matches: int = 3, *, end: datetime = START) -> Report:
    return Report(time_start=end - HOUR, time_end=end, matches=matches, first_at=end - HOUR)


def a_test(project_id: ProjectId) -> NewTest:
    return NewTest(
        id=DeliveryId(uuid.uuid4()), project_id=project_id, automation_id=None,
        action=WebhookAction(url="https://example.com/"), secret=b"sealed",
        authorization=None, body=b'{"a":1}', report=a_report(),
    )


@dataclass(kw_only=True)
class DeliveryStores:
    """The store, and an automation of a project in it.

    `add` stores a notification: its state, when it was formed and the one that carries it.
    """

    deliveries: DeliveryStore
    org_id: OrgId
    project_id: ProjectId
    automation_id: AutomationId
    add: Callable[[DeliveryState, datetime, DeliveryId | None], DeliveryId]

    def notification(
        self, state: DeliveryState = DeliveryState.DELIVERED, *, hours: int = 0,
        carried_by: DeliveryId | None = None,
    ) -> DeliveryId:
        return self.add(state, START + hours * HOUR, carried_by)

    def get(self, delivery_id: DeliveryId) -> Delivery:
        found = self.deliveries.find_delivery(self.org_id, delivery_id)
        assert found is not None
        return found.delivery

    def listed(self, page: ListPage = PAGE) -> list[DeliveryId]:
        found = self.deliveries.list_of_automation(self.org_id, page, self.automation_id)
        assert found == self.deliveries.list_of_project(self.org_id, page, self.project_id)
        return [each.id for each in found]


class DeliveryBehaviours:
    """A subclass has a fixture `stores`."""

    def test_a_list_is_newest_first_in_pages(self, stores: DeliveryStores) -> None:
        made = [stores.notification(hours=number) for number in range(4)]

        assert stores.listed() == made[::-1]
        assert stores.listed(ListPage(limit=2, starting_after=str(made[3]))) == [
            made[2], made[1],
        ]

    def test_another_organisation_sees_nothing(self, stores: DeliveryStores) -> None:
        made = stores.notification()
        stranger = OrgId(uuid.uuid4())

        assert stores.deliveries.find_delivery(stranger, made) is None
        assert stores.deliveries.list_of_project(stranger, PAGE, stores.project_id) == []

    def test_a_test_is_due_at_once_and_keeps_its_bytes(self, stores: DeliveryStores) -> None:
        test = a_test(stores.project_id)

        assert stores.deliveries.add_test(test, per_minute=5) is None

        found = stores.deliveries.find_delivery(stores.org_id, test.id)
        assert found is not None
        assert found.body == test.body
        assert found.delivery.report == test.report
        assert (found.delivery.state, found.delivery.is_test) == (DeliveryState.PENDING, True)

    def test_a_project_has_so_many_tests_in_a_minute(self, stores: DeliveryStores) -> None:
        tests = [a_test(stores.project_id) for _ in range(3)]

        answers = [stores.deliveries.add_test(each, per_minute=2) for each in tests]

        assert answers[:2] == [None, None]
        assert answers[2] is not None
        assert 0 < answers[2] <= 60
        assert stores.deliveries.find_delivery(stores.org_id, tests[2].id) is None

    def test_what_is_sent_again_is_pending_and_the_rest_stays(
        self, stores: DeliveryStores
    ) -> None:
        sent = stores.notification(hours=0)
        kept = stores.notification(hours=1)

        done = stores.deliveries.redeliver(
            [sent, kept], lambda one: "no" if one.id == kept else None
        )

        assert (done.sent, done.refused) == (1, {kept: "no"})
        assert stores.get(sent).state is DeliveryState.PENDING
        assert stores.get(kept).state is DeliveryState.DELIVERED

    def test_a_range_has_notifications_of_its_time_and_states_oldest_first(
        self, stores: DeliveryStores
    ) -> None:
        made = [stores.notification(hours=number) for number in range(5)]
        other = stores.notification(DeliveryState.PENDING, hours=3)
        stores.deliveries.add_test(a_test(stores.project_id), per_minute=5)

        def between(states: frozenset[DeliveryState], most: int = 100) -> list[DeliveryId]:
            wanted = RedeliveryRange(
                since=START + HOUR, until=START + 4 * HOUR, states=states
            )
            return stores.deliveries.notifications_between(
                stores.automation_id, wanted, most
            )

        assert between(frozenset({DeliveryState.DELIVERED})) == made[1:4]
        assert set(between(EVERY_STATE)) == {*made[1:4], other}
        assert between(frozenset({DeliveryState.DELIVERED}), 2) == made[1:3]

    def test_the_notification_that_carries_the_matches_is_known(
        self, stores: DeliveryStores
    ) -> None:
        later = stores.notification(hours=1)
        first = stores.notification(DeliveryState.ABANDONED, carried_by=later)

        assert stores.get(first).carried_by == later
