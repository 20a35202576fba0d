"""Ingest: each row is read and checked, then committed, rejected or refused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest

from flows.access.principal import KeyRole, Principal
from flows.access.projects import Project, Projects, ProjectStore
from flows.logs.change_feed import ChangeStore
from flows.logs.fetch import RowReader
from flows.logs.ingest import IngestAnswer, IngestRequest
from flows.logs.limits import LogLimits, TooLarge
from flows.logs.logs import Logs, SentRows
from spans.errors import BadInput, Forbidden, NotFound, TallyardError
from spans.event import EventLimits
from spans.ids import OrgId, ProjectId, Xact
from spans.queues import MATCH

ORG = OrgId(uuid.uuid4())
PROJECT = ProjectId(uuid.uuid4())
SPAN_BYTES_MAX = 1000
ROWS_MAX = 3


class OneProject:
    """A store of projects that knows PROJECT."""

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None:
        if project_id != PROJECT:
            return None
        return Project(
            id=PROJECT, org_id=ORG, name="app", description=None, settings=None,
            created=datetime(2026, 11, 20, tzinfo=UTC),
        )


class MemoryRows:
    """Keeps the requests that it is given."""

    def __init__(self) -> None:
        self.requests: list[IngestRequest] = []

    def write(self, requests: Sequence[IngestRequest]) -> list[IngestAnswer | TallyardError]:
        self.requests += requests
        return [
            IngestAnswer(row_ids=tuple(w.key.id for w in request.writes), xact=Xact(1))
            for request in requests
        ]


class World:
    def __init__(self) -> None:
        self.rows = MemoryRows()
        self.rung: list[str] = []
        # Only what logging asks of them is there.
        projects = Projects(cast("ProjectStore", OneProject()), ring=self.rung.append)
        self.logs = Logs(
            projects=projects, store=self.rows, reader=cast("RowReader", None),
            feed=cast("ChangeStore", None), ring=self.rung.append,
            limits=LogLimits(
                rows_per_request_max=ROWS_MAX, span_bytes_max=SPAN_BYTES_MAX,
                event=EventLimits(depth_max=8, nodes_max=100), fetch_limit_max=10,
            ),
        )

    def requests(self) -> list[IngestRequest]:
        self.logs.close()
        return self.rows.requests


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.logs.close()


def sent(*rows: Any, to: str = "/logs3") -> SentRows:
    return SentRows(rows=list(rows), body=orjson.dumps({"rows": rows}), sent_to=to)


def principal(role: KeyRole = KeyRole.INGEST, project: ProjectId | None = None) -> Principal:
    return Principal(
        key_id="key", org_id=ORG, org_name="acme", project_id=project, role=role
    )


def test_a_bad_row_is_rejected_and_its_neighbours_are_stored(world: World) -> None:
    done = asyncio.run(world.logs.ingest(principal(), sent(
        {"project_id": str(PROJECT), "id": "good"},
        {"project_id": str(PROJECT), "id": "bad", "scores": {"s": 7}},
        {"project_id": str(uuid.uuid4()), "id": "elsewhere"},
    )))
    assert done.row_ids == ("good",)
    assert [(one.row_id, one.project_id) for one in done.rejected] == [
        ("bad", PROJECT), ("elsewhere", None),
    ]
    assert world.requests()[0].rejected == done.rejected
    assert world.rung == [MATCH]


def test_a_bad_event_of_an_insert_stores_none(world: World) -> None:
    with pytest.raises(BadInput, match=r"^events\[1\]: "):
        asyncio.run(
            world.logs.insert(principal(), PROJECT, sent({"id": "good"}, {"id": 7}))
        )
    assert world.requests() == []


def test_feedback_names_the_item_that_is_wrong(world: World) -> None:
    with pytest.raises(BadInput, match=r"^feedback\[0\]: "):
        asyncio.run(world.logs.feedback(principal(), PROJECT, sent({"comment": "which row?"})))


def test_rows_are_stored_only_in_projects_that_the_key_reaches(world: World) -> None:
    elsewhere = principal(project=ProjectId(uuid.uuid4()))
    with pytest.raises(NotFound):
        asyncio.run(world.logs.insert(elsewhere, PROJECT, sent({"id": "a"})))
    done = asyncio.run(
        world.logs.ingest(elsewhere, sent({"project_id": str(PROJECT), "id": "a"}))
    )
    assert done.row_ids == ()
    assert len(done.rejected) == 1


def test_reach_can_be_checked_before_the_rows_are_read(world: World) -> None:
    for role in (KeyRole.INGEST, KeyRole.READ):
        asyncio.run(world.logs.require(principal(role, PROJECT), PROJECT))
        for project_id in (ProjectId(uuid.uuid4()), PROJECT):
            elsewhere = principal(role, ProjectId(uuid.uuid4()))
            with pytest.raises(NotFound):
                asyncio.run(world.logs.require(elsewhere, project_id))


def test_a_key_that_only_reads_logs_nothing(world: World) -> None:
    with pytest.raises(Forbidden):
        asyncio.run(world.logs.ingest(principal(KeyRole.READ), sent()))


def test_a_span_beyond_the_limit_is_refused_on_its_own(world: World) -> None:
    large = {"project_id": str(PROJECT), "id": "large", "input": "x" * SPAN_BYTES_MAX}
    small = {"project_id": str(PROJECT), "id": "small"}
    done = asyncio.run(world.logs.ingest(principal(), sent(large, small)))
    assert done.row_ids == ("small",)
    assert "TALLYARD_SPAN_BYTES_MAX" in done.rejected[0].reason


def test_too_many_rows_are_refused_together(world: World) -> None:
    rows = [{"project_id": str(PROJECT)}] * (ROWS_MAX + 1)
    with pytest.raises(TooLarge):
        asyncio.run(world.logs.ingest(principal(), sent(*rows)))


def test_the_same_text_sent_elsewhere_is_another_request(world: World) -> None:
    async def send() -> None:
        for to in ("/a", "/b", "/a"):
            await world.logs.insert(principal(), PROJECT, sent({"id": "a"}, to=to))

    asyncio.run(send())
    first, second, third = (request.body_hash for request in world.requests())
    assert first == third
    assert first != second
