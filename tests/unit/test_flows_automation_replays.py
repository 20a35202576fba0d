"""Replays of automations: what would have been sent, and who may ask."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes.memory.dated_rows import ListedRows
from memory_tallyard import MemoryTallyard

from automations.wire import AutomationFields, read_automation
from flows.access.principal import KeyRole
from flows.automations.dated_rows import DatedRow
from flows.automations.replays import Replays
from spans.errors import Forbidden, NotFound
from spans.ids import RowSeq

ERRORS: AutomationFields = read_automation({"name": "Errors", "config": {
    "event_type": "logs", "btql_filter": "error is not null", "interval_seconds": 3600,
    "action": {"type": "webhook", "url": "https://example.com/hook"},
}})


def replays_of(world: MemoryTallyard, *minutes_ago: int) -> Replays:
    """Replays over rows with an error that were created so long ago."""
    now = world.clock()
    rows = [
        DatedRow(
            id=str(place), seq=RowSeq(place), created=now - timedelta(minutes=minutes),
            view={"span_attributes": None, "error": "x"},
        )
        for place, minutes in enumerate(minutes_ago)
    ]
    return Replays(projects=world.projects, rows=ListedRows(rows), clock=lambda: now)


def test_a_replay_tells_each_notification_that_would_have_been_sent() -> None:
    world = MemoryTallyard()
    app = world.project("app")
    told = replays_of(world, 300, 299, 298, 100).replay(
        world.admin, app, ERRORS, since=timedelta(hours=12)
    )
    assert [each.report.matches for each in told.notifications] == [1, 2, 1]
    assert told.notifications[1].message == (
        "Errors: 2 logs triggered automation in the last 1 hour"
    )
    assert (told.name, told.examined, told.waiting) == ("Errors", 4, 0)


def test_readers_replay_what_they_reach() -> None:
    world = MemoryTallyard()
    app, other = world.project("app"), world.project("other")
    replays, hour = replays_of(world, 1), timedelta(hours=1)
    reader = world.caller(KeyRole.READ, app)

    assert replays.replay(reader, app, ERRORS, since=hour).notifications
    with pytest.raises(NotFound):
        replays.replay(reader, other, ERRORS, since=hour)
    with pytest.raises(Forbidden):
        replays.replay(world.caller(KeyRole.INGEST), app, ERRORS, since=hour)
