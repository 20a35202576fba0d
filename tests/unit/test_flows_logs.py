"""Logs: rows are checked, then committed, rejected or refused; and they are read back."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from flows.logs.ingest import IngestRequest
from flows.logs.limits import TooLarge
from flows.logs.logs import SentRows
from flows.logs.rejections import EXCERPT_CHARS, nothing_stored, rejection
from flows.logs.row_selection import RowSelection, select_rows
from spans.errors import BadInput, Forbidden, NotFound, StoreUnavailable, TallyardError
from spans.ids import OrgId, ProjectId, Xact
from spans.json import JsonObject
from spans.queues import MATCH
from spans.repair.faults import Unreadable, Unstorable
from spans.resends import RETRY_WINDOW_S, IngestAnswer, Remembered, Resend, ResendName
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
        ({"id": "a", "project_id": "no id"}, "no such project: 'no id'"),
        ({"id": "a", "project_id": "x\0" + "y" * 99},
         rf"no such project: 'x\x00{'y' * 58}'"),
        ({"id": "a", "experiment_id": "e"}, "experiment_id: not supported"),
    ],
)
def test_a_row_without_a_project_of_its_own_is_rejected_with_the_reason(
    world: World, row: Any, reason: str
) -> None:
    good = {"project_id": str(world.app), "id": "good"}
    done = asyncio.run(world.logs.ingest(world.key, sent(row, good)))
    (rejected,) = done.rejected
    assert done.row_ids == ("good",)
    assert reason in rejected.reason


def test_a_project_id_that_the_parser_rounded_costs_no_other_row(world: World) -> None:
    long = 2**70
    rows = [
        {"id": "good", "project_id": str(world.app), "input": long},
        {"id": "lost", "project_id": long},
    ]
    body = json.dumps({"rows": rows}).encode()
    request = SentRows(rows=orjson.loads(body)["rows"], body=body, sent_to="/logs3")

    done = asyncio.run(world.logs.ingest(world.key, request))

    assert done.row_ids == ("good",)
    assert [(one.row_id, one.reason) for one in done.rejected] == [
        ("lost", f"no such project: '{long}'")
    ]
    assert world.fetch()[0]["input"] == str(long)


def test_an_excerpt_of_a_rejected_row_is_bounded_and_can_be_stored(world: World) -> None:
    row = {"project_id": str(world.app), "id": "a\0b", "input": "x" * EXCERPT_CHARS}
    with pytest.raises(BadInput):
        asyncio.run(world.logs.ingest(world.key, sent(row)))
    (rejected,) = world.logs.rejected(world.admin, world.app, 9)
    assert rejected["id"] == "a\ufffdb"
    assert len(str(rejected["excerpt"])) == EXCERPT_CHARS


def nested(depth: int, inner: Any = 1) -> Any:
    for level in range(depth):
        inner = [inner] if level % 2 else {"x": inner}
    return inner


@pytest.mark.parametrize("odd", [
    {"input": nested(300)},
    {"metadata": nested(900)},
    {"input": 2**70},
    {"input": "\ud83d"},
    {"id": "\ud83d\n", "span_id": "\ud83d"},
    {"id": "odd\0", "span_id": "\0"},
    {"id": ["odd"], "span_id": {}},
    {"id": "\u20ac" * 10_000, "span_id": "\u20ac" * 10_000},
    {"scores": {"\ud83d": 7}},
    {"input": "x" * LIMITS.span_bytes_max, "output": nested(300)},
    {"input": float("-inf")},
    {"input": Unstorable("1e999")},
    {"project_id": "\ud83d"},
], ids=lambda odd: str([*odd])[:40])
def test_whatever_a_bad_row_is_it_is_listed_and_its_neighbours_are_stored(
    world: World, odd: Any
) -> None:
    project = str(world.app)
    odd = {"project_id": project, "id": "odd\n", **odd}
    rows = [{"project_id": project, "id": "good"}, odd, {"project_id": project, "id": "too"}]
    body = b" " * (LIMITS.span_bytes_max + 1)   # so that each row is measured
    done = asyncio.run(world.logs.ingest(
        world.key, SentRows(rows=rows, body=body, sent_to="/logs3")
    ))
    (told,) = done.rejected
    (listed,) = world.logs.rejected_anywhere(world.admin, 9)
    assert done.row_ids == ("good", "too")
    assert world.ids() == ["too", "good"]
    assert listed["reason"] == told.reason
    for text in (told.reason, told.excerpt, told.row_id, told.span_id):
        assert text is None or (len(text.encode()) <= 4 * EXCERPT_CHARS and "\0" not in text)


@pytest.mark.parametrize(("rows", "error", "said"), [
    ([Unreadable(b"{'id'", "not valid JSON: quotes", {})], BadInput,
     "nothing was stored: not valid JSON: quotes"),
    ([{"id": "a"}], BadInput, "nothing was stored: project_id: missing"),
    ([{"id": "a", "project_id": str(uuid.UUID(int=7))}] * 2, NotFound,
     f"no such project: '{uuid.UUID(int=7)}' (row 'a' and 1 more)"),
    ([{"id": "a", "project_id": str(uuid.uuid4())}, 7], BadInput, "(a row without an id)"),
    ([{"id": "a", "project_id": "app", "input": "x" * LIMITS.span_bytes_max}], TooLarge,
     "TALLYARD_SPAN_BYTES_MAX"),
])
def test_a_request_of_which_nothing_was_stored_is_an_error_with_the_reasons(
    world: World, rows: list[Any], error: type[Exception], said: str
) -> None:
    rows = [
        {**row, "project_id": str(world.app)}
        if isinstance(row, dict) and row.get("project_id") == "app" else row for row in rows
    ]
    with pytest.raises(error) as raised:
        asyncio.run(world.logs.ingest(world.key, sent(*rows)))
    assert said in str(raised.value)
    listed = world.logs.rejected_anywhere(world.admin, 9)
    assert len(listed) == len(rows) or listed[0]["id"] == "a"   # equal rows are listed once


def test_the_reasons_of_an_error_are_bounded(world: World) -> None:
    errors = [BadInput(f"reason {number}") for number in range(500)]
    message = str(nothing_stored([
        (rejection({"id": f"{n}"}, None, error), error) for n, error in enumerate(errors)
    ]))
    assert message.endswith("; reason 4 (row '4'); 495 more reasons")


def test_an_empty_request_is_no_error(world: World) -> None:
    assert asyncio.run(world.logs.ingest(world.key, sent())).row_ids == ()


def test_rows_rejected_without_a_project_are_listed_for_the_organisation_alone(
    world: World,
) -> None:
    for _ in range(3):   # an SDK tries three times
        with pytest.raises(BadInput):
            asyncio.run(world.logs.ingest(world.key, sent({"id": "a", "span_id": "s"})))

    (listed,) = world.logs.rejected_anywhere(world.admin, 9)

    assert (listed["id"], listed["span_id"], listed["project_id"]) == ("a", "s", None)
    assert world.logs.rejected(world.admin, world.app, 9) == []
    assert world.logs.rejected_anywhere(world.stranger(), 9) == []
    with pytest.raises(Forbidden):
        world.logs.rejected_anywhere(world.caller(KeyRole.ADMIN, world.app), 9)


def test_a_bad_event_of_an_insert_stores_none(world: World) -> None:
    with pytest.raises(BadInput, match=r"^events\[1\]: "):
        world.log({"id": "good"}, {"id": 7})
    assert world.ids() == []
    assert world.rung == []


def test_rows_are_stored_only_in_projects_that_the_key_reaches(world: World) -> None:
    elsewhere = world.caller(KeyRole.INGEST, world.project("other"))
    with pytest.raises(NotFound):
        asyncio.run(world.logs.insert(elsewhere, world.app, sent({"id": "a"})))
    with pytest.raises(NotFound):
        asyncio.run(
            world.logs.ingest(elsewhere, sent({"project_id": str(world.app), "id": "a"}))
        )
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


Tries = list[tuple[str, str | None, int | None]]


@pytest.mark.parametrize(("tries", "rows"), [
    ([("/a", None, None)] * 3, 3),                               # a client that says nothing
    ([("/a", None, 0)] * 3, 3),                                  # meant three times
    ([("/a", None, 0), ("/a", None, 1), ("/a", None, 2)], 1),
    ([("/a", None, 0), ("/a", None, 1), ("/a", None, 1)], 2),    # the last is another's retry
    ([("/a", None, 0), ("/b", None, 1)], 2),
    ([("/a", "k", None)] * 2 + [("/b", "k", None), ("/a", "l", None)], 3),
    ([("/a", "k", 0), ("/a", "k", 0)], 1),                       # the key decides alone
], ids=str)
def test_a_retry_is_known_by_what_the_client_says_of_it(
    world: World, tries: Tries, rows: int
) -> None:
    answers = [
        asyncio.run(world.logs.insert(world.key, world.app, SentRows(
            rows=[{"input": 1}], body=b"same", sent_to=to, idempotency_key=key, retries=count,
        )))
        for to, key, count in tries
    ]
    assert len(set(answers)) == len(world.ids()) == rows


def test_a_retry_of_another_caller_is_another_request(world: World) -> None:
    for number, key in enumerate((world.key, world.caller(KeyRole.INGEST))):
        asyncio.run(world.logs.insert(key, world.app, SentRows(
            rows=[{"input": 1}], body=b"same", sent_to="/a", retries=number,
        )))
    assert len(world.ids()) == 2


def test_only_a_request_for_which_the_server_made_ids_is_remembered(world: World) -> None:
    def tried(count: int, *rows: JsonObject) -> tuple[str, ...]:
        return asyncio.run(world.logs.insert(world.key, world.app, SentRows(
            rows=rows, body=b"same", sent_to="/a", retries=count, idempotency_key=None,
        )))

    for count, thumbs in ((0, 1), (0, 0), (1, 1)):
        tried(count, {"id": "a", "_is_merge": True, "scores": {"thumbs": thumbs}})
    assert world.fetch()[0]["scores"] == {"thumbs": 1}


def test_a_comment_is_stored_once_however_often_its_request_is_tried(world: World) -> None:
    world.log({"id": "a"})
    items = [{"id": "a", "comment": "hm"}]
    for count in (0, 1, 2, 0):
        asyncio.run(world.logs.feedback(world.key, world.app, SentRows(
            rows=items, body=b"same", sent_to="/feedback", retries=count,
        )))
    assert len(world.rows.comments) == 2    # the last was meant


def test_an_answer_is_given_to_a_retry_only_while_a_client_may_still_try(world: World) -> None:
    earlier = Remembered(
        body_hash=b"", tries=0, age_s=RETRY_WINDOW_S,
        answer=IngestAnswer(row_ids=(), xact=Xact(1)),
    )
    late = replace(earlier, age_s=RETRY_WINDOW_S + 1)
    retry = Resend(name=ResendName("key", b""), body_hash=b"", tries=1)
    assert retry.is_answered_by(earlier)
    assert not retry.is_answered_by(late)
    assert replace(retry, tries=None).is_answered_by(late)


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
    for wrong in (
        {"comment": "which row?"}, {"id": 7}, "a", {"id": "a", "scores": {"s": 2}},
        {"id": "a", "scores": {"s": 1}, "source": "bogus"}, {"id": "a", "source": ["app"]},
        {"id": "a", "score": {"s": 1}}, {"id": "a", "comment": 7},
    ):
        with pytest.raises(BadInput, match=r"^feedback\[1\]"):
            asyncio.run(world.logs.feedback(
                world.key, world.app, sent({"id": "a", "tags": ["t"]}, wrong)
            ))
    assert world.ids() == []


@pytest.mark.parametrize("source", ["app", "api", "external", None])
def test_feedback_says_where_it_comes_from(world: World, source: str | None) -> None:
    asyncio.run(world.logs.feedback(
        world.key, world.app, sent({"id": "a", "scores": {"s": 1 + 1e-12}, "source": source})
    ))
    (audit,) = world.rows.audits
    assert audit.audit_source == (source or "external")
    assert world.fetch()[0]["scores"] == {"s": 1}


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
        ({"max_xact_id": "ffffffffffffffff"}, "max_xact_id"),
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
        org_id=OrgId(uuid.UUID(int=1)), sent_by="key", writes=(),
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
