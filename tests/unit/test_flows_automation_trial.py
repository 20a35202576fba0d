"""Testing an automation: the message, and what is told if there is none."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import Any

import orjson
import pytest
from fakes.memory.dated_rows import ListedRows
from memory_tallyard import MemoryTallyard

from automations.outbound.policy import Policy
from automations.wire import HIDDEN, AutomationFields, read_automation
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage
from flows.automations.dated_rows import DatedRow
from flows.automations.trial import SentTest, TrialMessage, Trials
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import AutomationId, DeliveryId, ProjectId, RowSeq

URL = "https://example.com/hook"


def alert(btql_filter: str = "", interval_s: int = 3600, **action: Any) -> AutomationFields:
    return read_automation({"name": "Errors", "config": {
        "event_type": "logs", "btql_filter": btql_filter, "interval_seconds": interval_s,
        "action": {"type": "webhook", "url": URL, **action},
    }})


class World(MemoryTallyard):
    """A project whose rows a test lists. `sent` has the tests that were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.app, self.other = self.project("app"), self.project("other")
        self.sent: list[TrialMessage] = []
        self.now = self.clock()
        self.listed: list[DatedRow] = []

    def row(self, row_id: str, minutes_ago: float, **view: Any) -> None:
        self.listed.append(DatedRow(
            id=row_id, seq=RowSeq(len(self.listed)),
            created=self.now - timedelta(minutes=minutes_ago),
            view={"span_attributes": None, **view},
        ))

    @property
    def trials(self) -> Trials:
        return Trials(
            self.automations, projects=self.projects, rows=ListedRows(self.listed),
            check_url=Policy().target, send=self.send, app_url="https://tallyard.test",
            clock=lambda: self.now, seconds=itertools.repeat(0.0).__next__,
        )

    def send(self, _principal: Principal, message: TrialMessage) -> SentTest:
        self.sent.append(message)
        return SentTest(delivery_id=DeliveryId(uuid.uuid4()), delivered=True)

    def make(self, fields: AutomationFields, project: ProjectId | None = None) -> AutomationId:
        made = self.automations.make(self.admin, project or self.app, fields, replace=False)
        return made.automation.id


@pytest.fixture
def world() -> World:
    return World()


def test_a_test_tells_what_matched_inside_the_interval(world: World) -> None:
    world.row("a", 10, error="x")
    world.row("b", 30, error="y")
    world.row("fine", 20, error=None)
    world.row("old", 90, error="z")

    done = world.trials.test(world.admin, world.make(alert("error is not null")))

    (message,) = world.sent
    details = orjson.loads(message.body)["details"]
    assert (details["is_test"], details["count"]) == (True, 2)
    assert details["message"] == "Errors: 2 logs triggered automation in the last 1 hour"
    assert done.report.time_end - done.report.time_start == timedelta(hours=1)
    assert done.report.first_at == world.now - timedelta(minutes=30)
    assert message.is_stored
    assert done.sent.delivered


def test_a_draft_is_tested_before_it_is_stored(world: World) -> None:
    world.row("a", 10)

    world.trials.test_draft(world.admin, world.app, alert(authorization="Bearer s"))

    (message,) = world.sent
    assert (message.is_stored, message.authorization) == (False, "Bearer s")
    assert orjson.loads(message.body)["project"]["name"] == "app"
    assert world.automations.list(world.admin, ListPage(limit=1), project_id=world.app) == []


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ({"url": "http://10.0.0.1/"}, "config.action.url"),
        ({"authorization": HIDDEN}, "config.action.authorization"),
    ],
)
def test_a_draft_that_could_not_be_stored_is_not_tested(
    world: World, action: dict[str, str], path: str
) -> None:
    world.row("a", 10)
    with pytest.raises(BadInput) as caught:
        world.trials.test_draft(world.admin, world.app, alert(**action))
    assert caught.value.path == path
    assert world.sent == []


def test_if_nothing_matches_the_nearest_rows_and_the_last_match_are_told(
    world: World,
) -> None:
    world.row("near", 10, error="x", metadata={"env": "dev"})
    world.row("far", 5, error=None, metadata={"env": "dev"})
    world.row("match", 180, error="x", metadata={"env": "prod"})

    with pytest.raises(BadInput) as caught:
        world.trials.test(
            world.admin, world.make(alert("error is not null and metadata.env = 'prod'"))
        )

    first, last, heading, nearest, next_one = str(caught.value).splitlines()
    assert first == (
        "no logs match in the last 1 hour: change the filter or the interval"
    )
    assert last.endswith("3 hours ago.")
    assert heading == "The logs that nearly match:"
    assert nearest.startswith("  row near of ")
    assert nearest.endswith("metadata.env = 'prod' failed: metadata.env is \"dev\"")
    assert next_one.startswith("  row far of ")
    assert world.sent == []


def test_a_project_without_logs_is_told_so(world: World) -> None:
    with pytest.raises(BadInput, match=r"no logs match(.|\n)*has no logs yet"):
        world.trials.test(world.admin, world.make(alert()))


def test_only_administrators_test(world: World) -> None:
    reader = world.caller(KeyRole.READ)
    world.row("a", 1)
    which = world.make(alert())
    for attempt in (
        lambda: world.trials.test(reader, which),
        lambda: world.trials.test_draft(reader, world.app, alert()),
    ):
        with pytest.raises(Forbidden):
            attempt()


def test_what_a_key_does_not_reach_is_not_tested(world: World) -> None:
    limited = world.caller(KeyRole.ADMIN, world.app)
    theirs = world.make(alert(), world.other)
    for attempt in (
        lambda: world.trials.test(limited, theirs),
        lambda: world.trials.test_draft(limited, world.other, alert()),
    ):
        with pytest.raises(NotFound):
            attempt()
