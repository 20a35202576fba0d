"""A process runs one task of a queue at a time, and no ring for it is lost."""

from __future__ import annotations

from spans.queues import AUTOMATIONS, WEBHOOKS
from workers.busy_queues import BusyQueues


def test_a_second_task_of_a_queue_may_not_run_beside_the_first():
    busy = BusyQueues()
    assert busy.enter(WEBHOOKS)
    assert not busy.enter(WEBHOOKS)
    assert busy.enter(AUTOMATIONS)


def test_a_task_is_told_that_its_queue_was_rung_for_while_it_ran():
    busy = BusyQueues()
    busy.enter(WEBHOOKS)
    busy.enter(AUTOMATIONS)
    busy.enter(WEBHOOKS)
    assert busy.leave(WEBHOOKS)
    assert not busy.leave(AUTOMATIONS)


def test_a_ring_is_told_once():
    busy = BusyQueues()
    busy.enter(WEBHOOKS)
    busy.enter(WEBHOOKS)
    busy.leave(WEBHOOKS)
    assert busy.enter(WEBHOOKS)
    assert not busy.leave(WEBHOOKS)
