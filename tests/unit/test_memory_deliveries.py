"""The store of deliveries in memory does what the stored one does."""

from __future__ import annotations

import uuid
from datetime import datetime

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.deliveries import MemoryDeliveries
from fakes.memory.ticks import Ticks
from store_behaviours.access import create, new_org
from store_behaviours.deliveries import DeliveryBehaviours, DeliveryStores, a_report

from automations.delivery import Delivery, DeliveryState
from spans.ids import AutomationId, DeliveryId


class TestMemoryDeliveries(DeliveryBehaviours):
    @pytest.fixture
    def stores(self) -> DeliveryStores:
        clock = Ticks()
        projects = MemoryProjects(clock)
        deliveries = MemoryDeliveries(projects, clock)
        org_id = new_org(projects)
        project, _ = create(projects, org_id, "app")
        automation_id = AutomationId(uuid.uuid4())

        def add(
            state: DeliveryState, created: datetime, carried_by: DeliveryId | None
        ) -> DeliveryId:
            delivery = Delivery(
                id=DeliveryId(uuid.uuid4()), project_id=project.id,
                automation_id=automation_id, automation_name="a", is_test=False, state=state,
                created=created, report=a_report(), attempts=1, next_attempt_at=created,
                carried_by=carried_by,
            )
            deliveries.add(delivery)
            return delivery.id

        return DeliveryStores(
            deliveries=deliveries, org_id=org_id, project_id=project.id,
            automation_id=automation_id, add=add,
        )
