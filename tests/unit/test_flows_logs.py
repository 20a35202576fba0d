"""Logs: rows are checked, then committed, rejected or refused; and they are read back."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
from memory_tallyard import LIMITS, MemoryTallyard

from btql.query import parse_query
from flows.access.principal import KeyRole
from flows.logs import group_commit
from flows.logs.fetch import FetchRequest
from flows.logs.group_commit import REQUESTS_MAX, WAITING_MAX, GroupCommit
from flows.logs.ingest import IngestAnswer, IngestRequest
from flows.logs.limits import TooLarge
from flows.logs.logs import EXCERPT_CHARS, SentRows
from flows.logs.row_selection import RowSelection, select_rows
from spans.errors import BadInput, Forbidden, NotFound, StoreUnavailable, TallyardError
from spans.ids import OrgId, ProjectId, Xact
from spans.json import JsonObject
from spans.queues import MATCH
from spans.row import RowKey

ENDED: JsonObject = {"metrics": {"end": 2}}


class World(MemoryTallyard):
    """A project, and a key that logs to it."""

    def __init__(self) -> None:
        super().__init__()
        self.app = self.project("app")
        self.where = self.projects.logs_of(self.admin, self.app)
        self.key = self.caller(KeyRole.INGEST)

    def log(self, *rows: JsonObject) -> tuple[str, ...]:
        return asyncio.run(self.logs.insert(self.key, self.app, sent(*rows)))

    def fetch(self, **body: Any) -> list[JsonObject]:
        return self.logs.fetch(self.admin, self.app, FetchRequest.read(body)).rows

    def ids(self, **body: Any) -> list[object]:
        return [row["id"] for row in self.fetch(**body)]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.logs.close()


def sent(*rows: Any, to: str = "/logs3") -> SentRows:
    return SentRows(rows=list(rows), body=orjson.dumps({"rows": rows}), sent_to=to)


# --- ingest


def test_a_bad_row_is_rejected_and_its_neighbours_are_stored(world: World) -> None:
    project = str(world.app)
    done = asyncio.run(world.logs.ingest(world.key, sent(
        {"project_id": project, "id": "good"},
        {"project_id": project, "id": "bad", "input": ["x"] * 100},
        {"project_id": str(uuid.uuid4()), "id": "elsewhere"},
    )))
    assert done.row_ids == ("good",)
    assert [(one.row_id, one.project_id) for one in done.rejected] == [
        ("bad", world.app), ("elsewhere", None),
    ]
    assert world.ids() == ["good"]
    (listed,) = world.logs.rejected(world.admin, world.app, 9)
    assert (listed["id"], listed["reason"]) == (
        "bad", "103 values, more than 100 (TALLYARD_NODES_MAX)"
    )
    assert world.rung == [MATCH]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (7, "must be an object"),
        ({"id": "a"}, "must name its project"),
        ({"id": "a", "project_id": 7}, "must name its project"),
        ({"id": "a", "project_id": "no id"}, "no such project"),
        ({"id": "a", "experiment_id": "e"}, "experiment_id: not supported"),
    ],
)
def test_a_row_without_a_project_of_its_own_is_rejected_with_the_reason(
    world: World, row: Any, reason: str
) -> None:
    done = asyncio.run(world.logs.ingest(world.key, sent(row)))
    (rejected,) = done.rejected
    assert done.row_ids == ()
    assert reason in rejected.reason


def test_an_excerpt_of_a_rejected_row_is_bounded_and_can_be_stored(world: World) -> None:
    row = {"project_id": str(world.app), "id": "a\0b", "input": "x" * EXCERPT_CHARS}
    (rejected,) = asyncio.run(world.logs.ingest(world.key, sent(row))).rejected
    assert rejected.row_id == "a\ufffdb"
    assert len(rejected.excerpt) == EXCERPT_CHARS


def test_a_bad_event_of_an_insert_stores_none(world: World) -> None:
    with pytest.raises(BadInput, match=r"^events\[1\]: "):
        world.log({"id": "good"}, {"id": 7})
    assert world.ids() == []
    assert world.rung == []


def test_rows_are_stored_only_in_projects_that_the_key_reaches(world: World) -> None:
    elsewhere = world.caller(KeyRole.INGEST, world.project("other"))
    with pytest.raises(NotFound):
        asyncio.run(world.logs.insert(elsewhere, world.app, sent({"id": "a"})))
    done = asyncio.run(
        world.logs.ingest(elsewhere, sent({"project_id": str(world.app), "id": "a"}))
    )
    assert done.row_ids == ()
    assert len(done.rejected) == 1
    assert world.ids() == []


def test_reach_can_be_checked_before_the_rows_are_read(world: World) -> None:
    other = world.project("other")
    for role in (KeyRole.INGEST, KeyRole.READ):
        asyncio.run(world.logs.require(world.caller(role, world.app), world.app))
        for project_id in (ProjectId(uuid.uuid4()), world.app):
            with pytest.raises(NotFound):
                asyncio.run(world.logs.require(world.caller(role, other), project_id))


def test_a_key_that_only_reads_logs_nothing(world: World) -> None:
    reader = world.caller(KeyRole.READ)
    for write in (
        world.logs.ingest(reader, sent()), world.logs.insert(reader, world.app, sent()),
        world.logs.feedback(reader, world.app, sent()),
    ):
        with pytest.raises(Forbidden):
            asyncio.run(write)


def test_a_span_beyond_the_limit_is_refused_on_its_own(world: World) -> None:
    large = {
        "project_id": str(world.app), "id": "large", "input": "x" * LIMITS.span_bytes_max
    }
    small = {"project_id": str(world.app), "id": "small"}
    done = asyncio.run(world.logs.ingest(world.key, sent(large, small)))
    assert done.row_ids == ("small",)
    assert "TALLYARD_SPAN_BYTES_MAX" in done.rejected[0].reason


def test_too_many_rows_are_refused_together(world: World) -> None:
    rows = [{"project_id": str(world.app)}] * (LIMITS.rows_per_request_max + 1)
    for write in (
        world.logs.ingest(world.key, sent(*rows)),
        world.logs.insert(world.key, world.app, sent(*rows)),
    ):
        with pytest.raises(TooLarge):
            asyncio.run(write)
    assert world.ids() == []


def test_a_resend_is_one_to_the_same_url(world: World) -> None:
    async def send(to: str, key: Any = world.key) -> tuple[str, ...]:
        return await world.logs.insert(key, world.app, sent({"input": 1}, to=to))

    first, again, elsewhere, others = (
        asyncio.run(send(*each))
        for each in (("/a",), ("/a",), ("/b",), ("/a", world.caller(KeyRole.INGEST)))
    )
    assert first == again
    assert len({first, elsewhere, others}) == 3
    assert len(world.ids()) == 3


# --- feedback


def test_feedback_changes_its_row_and_is_no_reason_to_match_it_again(world: World) -> None:
    world.log({"id": "a", "output": 1, **ENDED})
    before = world.rows.find(RowKey(world.where, "a"))
    asyncio.run(world.logs.feedback(world.key, world.app, sent({
        "id": "a", "scores": {"thumbs": 1}, "expected": 2, "comment": "good",
        "metadata": {"who": "me"},
    })))
    (row,) = world.fetch()
    after = world.rows.find(RowKey(world.where, "a"))
    assert (row["scores"], row["expected"], row["metadata"]) == ({"thumbs": 1}, 2, None)
    assert before is not None
    assert after is not None
    assert after.stored.trigger_xact == before.stored.trigger_xact
    (comment,), (audit,) = world.rows.comments, world.rows.audits
    assert (comment.key.id, comment.comment) == ("a", {"text": "good"})
    assert (audit.audit_source, audit.audit_metadata) == ("external", {"who": "me"})


def test_a_comment_alone_changes_no_row(world: World) -> None:
    world.log({"id": "a"})
    before = world.fetch()
    asyncio.run(world.logs.feedback(
        world.key, world.app, sent({"id": "a", "comment": "why?", "source": "app"})
    ))
    assert world.fetch() == before
    assert world.rows.comments[0].audit_source == "app"


def test_feedback_names_the_item_that_is_wrong_and_stores_none(world: World) -> None:
    for wrong in ({"comment": "which row?"}, {"id": 7}, "a", {"id": "a", "scores": {"s": 2}}):
        with pytest.raises(BadInput, match=r"^feedback\[1\]"):
            asyncio.run(world.logs.feedback(
                world.key, world.app, sent({"id": "a", "tags": ["t"]}, wrong)
            ))
    assert world.ids() == []


# --- reads


def test_a_page_is_never_larger_than_the_operator_allows(world: World) -> None:
    for start in range(0, LIMITS.fetch_limit_max + 2, 3):
        world.log(*({"id": f"{start + n}"} for n in range(3)))
    assert len(world.ids()) == len(world.ids(limit=99)) == LIMITS.fetch_limit_max
    assert len(world.ids(limit=2)) == 2
    assert world.ids(limit=0) == []


def test_a_page_goes_on_after_its_cursor(world: World) -> None:
    world.log({"id": "a"}, {"id": "b"}, {"id": "c"})
    first = world.logs.fetch(world.admin, world.app, FetchRequest.read({"limit": 2}))
    assert [row["id"] for row in first.rows] == ["c", "b"]
    assert world.ids(cursor=first.cursor) == ["a"]


def test_a_lookup_finds_the_rows_with_that_value(world: World) -> None:
    world.log(
        {"id": "a", "metadata": {"user": 1}}, {"id": "b", "metadata": {"user": "1"}},
        {"id": "c"},
    )

    def look_up(value: Any) -> list[object]:
        lookup = {"type": "path_lookup", "path": ["metadata", "user"], "value": value}
        return world.ids(filters=[lookup])

    assert (look_up(1), look_up("1"), look_up(None)) == (["a"], ["b"], ["c"])


def test_older_clients_page_by_version_and_trace(world: World) -> None:
    world.log({"id": "a"})
    world.log(*({"id": f"b{n}", "root_span_id": f"t{n}", "span_id": "s"} for n in range(3)))
    last = world.fetch(limit=1)[0]["_xact_id"]
    older = str(int(str(last)) - 1)
    assert world.ids(max_xact_id=last) == ["b2", "b1", "b0", "a"]
    assert world.ids(max_xact_id=older) == ["a"]
    assert world.ids(max_xact_id=last, max_root_span_id="t1") == ["b0", "a"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"limit": -1}, "limit"), ({"limit": "2"}, "limit"), ({"cursor": 7}, "cursor"),
        ({"version": "1"}, "version"), ({"max_xact_id": "x"}, "max_xact_id"),
        ({"filters": [{"type": "path_lookup", "path": [], "value": 1}]}, "filters"),
        ({"filters": [{"type": "btql"}]}, "filters"),
    ],
)
def test_a_page_that_is_not_understood_is_refused_by_its_field(
    world: World, body: Any, place: str
) -> None:
    with pytest.raises(BadInput, match=place):
        world.ids(**body)


def test_a_query_reads_only_projects_that_the_key_reaches(world: World) -> None:
    other = world.project("other")
    world.log({"id": "a", "input": 1})

    def query(principal: Any, *projects: object, kind: str = "project_logs") -> list[object]:
        ids = ", ".join(f"'{each}'" for each in projects)
        parsed = parse_query(f"select: id | from: {kind}({ids})")
        return [row["id"] for row in world.logs.query(principal, parsed).rows]

    limited = world.caller(KeyRole.READ, world.app)
    assert query(limited, world.app) == ["a"]
    assert query(world.admin, world.app, other) == ["a"]
    for caller, projects in (
        (limited, (world.app, other)), (world.stranger(), (world.app,)),
        (world.admin, ("no id",)),
    ):
        with pytest.raises(NotFound):
            query(caller, *projects)
    with pytest.raises(BadInput, match="experiment is not supported"):
        query(world.admin, world.app, kind="experiment")
    with pytest.raises(Forbidden):
        query(world.key, world.app)


def test_a_follower_begins_at_the_present_and_then_sees_each_change(world: World) -> None:
    world.log({"id": "before"})
    begin = world.logs.changes(world.admin, world.app, after=None, limit=9)
    assert begin.rows == ()
    assert world.logs.changes(world.admin, world.app, after=begin.upto, limit=9).rows == []
    world.log({"id": "after"})
    then = world.logs.changes(world.admin, world.app, after=begin.upto, limit=9)
    assert [row.id for row in then.rows] == ["after"]


def test_nothing_is_read_of_a_project_of_another_organisation(world: World) -> None:
    stranger = world.stranger()
    for read in (
        lambda: world.logs.fetch(stranger, world.app, FetchRequest.read({})),
        lambda: world.logs.rejected(stranger, world.app, 9),
        lambda: world.logs.changes(stranger, world.app, after=Xact(0), limit=9),
    ):
        with pytest.raises(NotFound):
            read()


# --- the rows of a test


def selected(world: World, **selection: Any) -> list[str]:
    rows = select_rows(
        world.rows, world.admin.org_id, world.where, RowSelection(**selection)
    )
    return [key.id for key in rows]


def test_the_latest_rows_that_a_rule_could_select_are_taken_newest_first(
    world: World,
) -> None:
    score = {"span_attributes": {"type": "score"}, **ENDED}
    world.log({"id": "a", "input": 1, **ENDED}, {"id": "b", "input": 2, **ENDED})
    world.log({"id": "c", "input": 1}, {"id": "d", **score}, {"id": "e", "input": 1, **ENDED})
    assert selected(world) == ["e", "b", "a"]
    assert selected(world, last=2) == ["e", "b"]
    assert selected(world, last=2, filter="input = 1") == ["e", "a"]
    with pytest.raises(BadInput):
        selected(world, filter="input = ")


def test_rows_named_by_an_id_come_in_the_order_of_the_ids(world: World) -> None:
    world.log({"id": "a", "span_id": "s1"}, {"id": "b", "span_id": "a"}, {"id": "c"})
    assert selected(world, ids=("c", "s1")) == ["c", "a"]
    assert selected(world, ids=("a",)) == ["a"]     # a row id before a span id
    with pytest.raises(NotFound, match="'unknown'"):
        selected(world, ids=("c", "unknown"))


# --- group commit


class Gate:
    """An IngestStore that writes once it is opened."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.entered, self.opened = threading.Event(), threading.Event()
        self.groups: list[int] = []

    def write(
        self, requests: Sequence[IngestRequest]
    ) -> list[IngestAnswer | TallyardError]:
        self.groups.append(len(requests))
        self.entered.set()
        assert self.opened.wait(timeout=30)
        return self._store.write(requests)


def request(number: int) -> IngestRequest:
    return IngestRequest(
        org_id=OrgId(uuid.UUID(int=1)), key_id="key", sent_by="key",
        body_hash=number.to_bytes(32, "big"), writes=(),
    )


def test_requests_that_arrive_during_a_commit_share_the_next_one(world: World) -> None:
    gate, rings = Gate(world.rows), []
    commit = GroupCommit(gate, after=lambda: rings.append(1))

    async def send() -> list[IngestAnswer]:
        first = asyncio.create_task(commit.write(request(0)))
        await asyncio.to_thread(gate.entered.wait, 30)
        others = [asyncio.create_task(commit.write(request(n))) for n in (1, 2, 3)]
        gone = asyncio.create_task(commit.write(request(4)))
        await asyncio.sleep(0)     # lets them begin
        gone.cancel()              # a client that disconnects harms no other
        gate.opened.set()
        return await asyncio.gather(first, *others)

    answers = asyncio.run(send())
    commit.close()

    assert len({answer.xact for answer in answers}) == 4
    assert gate.groups == [1, 4]
    assert rings == [1, 1]


def company(commit: GroupCommit, gate: Gate) -> list[Any]:
    """What to await so that the commit's last group is one of two requests."""
    async def first() -> None:
        await commit.write(request(0))

    async def others() -> None:
        await asyncio.to_thread(gate.entered.wait, 30)
        both = [asyncio.create_task(commit.write(request(n))) for n in (1, 2)]
        await asyncio.sleep(0)     # lets them begin
        gate.opened.set()
        await asyncio.gather(*both)

    return [first(), others()]


def test_after_requests_that_came_together_the_next_ones_gather_until_a_group_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_S", 1000.0)
    gate = Gate(world.rows)
    commit = GroupCommit(gate, after=lambda: None)

    async def send() -> None:
        await asyncio.gather(*company(commit, gate))
        waiting = []
        for number in range(3, 3 + REQUESTS_MAX):
            waiting.append(asyncio.create_task(commit.write(request(number))))
            await asyncio.sleep(0)
        await asyncio.wait_for(waiting[0], 30)
        await asyncio.to_thread(commit.close)
        await asyncio.gather(*waiting)

    asyncio.run(send())
    assert gate.groups[:2] == [1, 2]
    assert gate.groups[2] >= REQUESTS_MAX - 1   # the last may come a moment too late


def test_a_close_writes_the_requests_that_gather(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_S", 1000.0)
    gate = Gate(world.rows)
    commit = GroupCommit(gate, after=lambda: None)

    async def send() -> None:
        await asyncio.gather(*company(commit, gate))
        waiting = asyncio.create_task(commit.write(request(3)))
        await asyncio.sleep(0)
        await asyncio.to_thread(commit.close)
        await waiting

    asyncio.run(send())
    assert gate.groups == [1, 2, 1]


def test_a_request_after_one_that_came_alone_does_not_wait_for_company(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_S", 1000.0)
    gate = Gate(world.rows)
    gate.opened.set()
    commit = GroupCommit(gate, after=lambda: None)
    for number in range(3):
        asyncio.run(asyncio.wait_for(commit.write(request(number)), 30))
    commit.close()
    assert gate.groups == [1, 1, 1]


def test_more_requests_than_may_wait_are_refused_at_once(world: World) -> None:
    gate = Gate(world.rows)
    commit = GroupCommit(gate, after=lambda: None)

    async def send() -> int:
        waiting = [asyncio.create_task(commit.write(request(0)))]
        await asyncio.to_thread(gate.entered.wait, 30)
        waiting += [
            asyncio.create_task(commit.write(request(n))) for n in range(1, WAITING_MAX + 1)
        ]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many requests wait") as caught:
            await commit.write(request(WAITING_MAX + 1))
        assert caught.value.retry_after_s == 1.0
        gate.opened.set()
        return len(await asyncio.gather(*waiting))

    assert asyncio.run(send()) == WAITING_MAX + 1
    commit.close()


def test_an_error_of_the_store_reaches_the_request_and_rings_nothing(world: World) -> None:
    world.rows.away = StoreUnavailable("PostgreSQL: gone")
    with pytest.raises(StoreUnavailable, match="gone"):
        world.log({"id": "a"})
    assert world.rung == []
    world.rows.away = None
    assert world.log({"id": "a"}) == ("a",)
    assert world.rung == [MATCH]


# --- expiry


def test_only_administrators_expire_logs_and_only_of_projects_that_they_reach(
    world: World
) -> None:
    world.log({"id": "old", "created": "2025-01-01T00:00:00Z"}, {"id": "new"})
    before = world.clock() - timedelta(days=1)
    for caller in (world.key, world.caller(KeyRole.READ)):
        with pytest.raises(Forbidden):
            world.logs.expire(caller, world.app, before)
    with pytest.raises(NotFound):
        world.logs.expire(world.stranger(), world.app, before)

    assert world.logs.expire(world.admin, world.app, before, is_dry_run=True).rows == 1
    assert set(world.ids()) == {"old", "new"}
    assert world.logs.expire(world.admin, world.app, before).rows == 1
    assert world.ids() == ["new"]
