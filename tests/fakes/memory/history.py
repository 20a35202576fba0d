"""What automations have found and sent, as lists."""

from __future__ import annotations

from collections.abc import Sequence

from flows.automations.history import DeliveryEntry, LookEntry, Present
from spans.ids import AutomationId, DeliveryId


class ListedHistory:
    """Implements flows.automations.history.HistoryStore, for one automation.

    A test gives both lists newest first.
    """

    def __init__(
        self, present: Present, looks: Sequence[LookEntry] = (),
        deliveries: Sequence[DeliveryEntry] = (),
    ) -> None:
        self._present = present
        self._looks = looks
        self._deliveries = deliveries

    def present(self, automation_id: AutomationId) -> Present | None:
        return self._present

    def looks(
        self, automation_id: AutomationId, below: int | None, most: int
    ) -> Sequence[LookEntry]:
        return [look for look in self._looks if below is None or look.no < below][:most]

    def deliveries(
        self, automation_id: AutomationId, below: DeliveryId | None, most: int
    ) -> Sequence[DeliveryEntry]:
        ids = [each.id for each in self._deliveries]
        start = 0 if below is None else ids.index(below) + 1
        return self._deliveries[start:start + most]
