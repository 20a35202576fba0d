"""What every store of rows does with what it is told to write, fetch, query and follow."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from store_behaviours.access import BothStores, create, new_org

from btql.query import parse_query
from btql.tree import TRUE
from btql.wire import read_filter
from flows.logs.change_feed import ChangeStore
from flows.logs.expiry import Expired, ExpiryStore
from flows.logs.fetch import FetchRequest, Page, RowReader, TracePlace
from flows.logs.ingest import IngestRequest, IngestStore
from flows.logs.rejections import RejectedRow
from spans.columns import API_COLUMNS
from spans.errors import BadInput
from spans.ids import ObjectId, OrgId, ProjectId, Xact
from spans.json import JsonObject
from spans.resends import IngestAnswer, Resend, ResendName
from spans.row import ObjectRef, ObjectType, RowKey, RowWrite

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
ENDED: JsonObject = {"metrics": {"start": 1, "end": 2}}


@dataclass(kw_only=True)
class LogStores:
    """The stores of rows of one database, and a project of its own in it."""

    writer: IngestStore
    reader: RowReader
    feed: ChangeStore
    expiry: ExpiryStore
    projects: BothStores

    def __post_init__(self) -> None:
        self.org = new_org(self.projects)
        self.where = self.project("app")

    def project(self, name: str) -> ObjectRef:
        made, _ = create(self.projects, self.org, name)
        return ObjectRef(made.id, ObjectType.PROJECT_LOGS, ObjectId(made.id))

    def row(self, row_id: str, where: ObjectRef | None = None, **changes: object) -> RowWrite:
        given = {"fields": {"input": f"of {row_id}", **ENDED}, **changes}
        return RowWrite(key=RowKey(where or self.where, row_id), **given)

    def send(
        self, *writes: RowWrite, resend: Resend | None = None, sent_by: str = "key",
        rejected: tuple[RejectedRow, ...] = (), org: OrgId | None = None,
    ) -> IngestAnswer:
        request = IngestRequest(
            org_id=org or self.org, sent_by=sent_by, writes=writes, rejected=rejected,
            resend=resend,
        )
        (answer,) = self.writer.write([request])
        assert isinstance(answer, IngestAnswer)
        return answer

    def tried(
        self, tries: int | None, *, name: str = "request", body: str = "body",
        key_id: str = "key",
    ) -> Resend:
        """How a request is recognised: by its count of tries, or for None by its key."""
        return Resend(
            name=ResendName(f"{key_id} {self.org}", name.encode()), body_hash=body.encode(),
            tries=tries,
        )

    def page(
        self, *, limit: int = 100, cursor: str | None = None, after: TracePlace | None = None,
        condition: object = None,
    ) -> Page:
        asked = FetchRequest(
            limit=limit, cursor=cursor, after=after,
            filter=TRUE if condition is None else read_filter(condition),
        )
        return self.reader.page(self.where, self.org, asked, limit=limit)

    def span(self, row_id: str, root: str, **fields: object) -> RowWrite:
        given = {"span_id": row_id, "root_span_id": root, **ENDED, **fields}
        return self.row(row_id, fields=given)

    def walk(
        self, *, limit: int, meanwhile: Callable[[], None] = lambda: None
    ) -> list[list[JsonObject]]:
        """The pages that a reader gets who goes on after the lowest place of each.

        After each of them, `meanwhile` is called.
        """
        pages: list[list[JsonObject]] = []
        after: TracePlace | None = None
        while rows := self.page(limit=limit, after=after).rows:
            pages.append(rows)
            after = min(
                TracePlace(Xact(int(str(row["_xact_id"]))), str(row["root_span_id"]))
                for row in rows
            )
            meanwhile()
        return pages

    def ids(self, **asked: object) -> list[object]:
        return [row["id"] for row in self.page(**asked).rows]


class LogBehaviours:
    """A subclass has a fixture `logs` that gives LogStores."""

    def test_a_row_is_shown_with_every_column_and_the_fields_that_have_none(
        self, logs: LogStores
    ) -> None:
        answer = logs.send(logs.row("a", fields={
            "input": {"z": 1, "a": 2}, "created": "2026-06-13T10:00:00.123+00:00",
            "scores": {"s": 1}, "own": [1], **ENDED,
        }))

        (row,) = logs.page().rows

        assert answer.row_ids == ("a",)
        assert (row["_xact_id"], row["created"]) == (
            str(answer.xact), "2026-06-13T10:00:00.123Z"
        )
        assert (row["span_id"], row["root_span_id"], row["is_root"]) == ("a", "a", True)
        assert (row["org_id"], row["project_id"]) == (
            str(logs.org), str(logs.where.project_id)
        )
        assert list(row["input"]) == ["z", "a"]
        assert (row["scores"], row["own"], row["output"]) == ({"s": 1}, [1], None)
        assert row.keys() >= API_COLUMNS.keys() - {"experiment_id", "dataset_id"}

    def test_pages_are_newest_first_and_have_each_row_once(self, logs: LogStores) -> None:
        for row_id in "abcde":
            logs.send(logs.row(row_id))
        first = logs.page(limit=2)
        logs.send(logs.row("a", fields={"input": "later", **ENDED}))   # keeps its place
        second = logs.page(limit=2, cursor=first.cursor)
        third = logs.page(limit=2, cursor=second.cursor)

        pages = [[row["id"] for row in page.rows] for page in (first, second, third)]
        assert pages == [["e", "d"], ["c", "b"], ["a"]]
        assert third.cursor is None

    def test_without_a_cursor_traces_come_whole_and_the_newest_version_first(
        self, logs: LogStores
    ) -> None:
        for root in "xyz":
            logs.send(logs.span(f"{root}1", root), logs.span(f"{root}2", root))
        logs.send(logs.span("x2", root="x", input="later"))

        assert logs.ids(limit=2) == ["z2", "z1", "y2", "y1"]
        logs.send(logs.span("x1", root="x", input="later"))
        assert logs.ids(limit=2) == ["x1", "x2", "z2", "z1"]

    def test_a_reader_goes_on_after_the_lowest_place_of_the_page_before(
        self, logs: LogStores
    ) -> None:
        for root in "xyz":
            logs.send(logs.span(f"{root}1", root), logs.span(f"{root}2", root))
        logs.send(*(logs.span(f"{root}1", root) for root in "stu"))

        pages = logs.walk(limit=2)

        assert [[row["id"] for row in page] for page in pages] == [
            ["u1", "t1"], ["s1", "z2", "z1"], ["y2", "y1", "x2", "x1"],
        ]

    def test_a_trace_that_is_written_again_while_it_is_to_come_is_found_by_its_first_version(
        self, logs: LogStores
    ) -> None:
        old = logs.send(logs.span("a", root="a"))
        for root in "bc":
            logs.send(logs.span(root, root))

        def meanwhile() -> None:
            logs.send(logs.span("a", root="a", input="later"))

        first, second, third = logs.walk(limit=1, meanwhile=meanwhile)

        assert [row["id"] for row in (*first, *second, *third)] == ["c", "b", "a"]
        assert third[0]["_xact_id"] == str(old.xact)
        assert third[0]["input"] == "later"
        assert logs.ids(limit=1) == ["a"]

    def test_no_row_is_missed_by_a_reader_while_others_are_written(
        self, logs: LogStores
    ) -> None:
        choose = random.Random(8)
        present: list[tuple[str, str]] = []

        def write() -> None:
            for _ in range(choose.randrange(4)):
                again = choose.random() < 0.7 and present
                row_id, root = choose.choice(present) if again else (
                    f"r{len(present)}", f"t{choose.randrange(12)}"
                )
                if not again:
                    present.append((row_id, root))
                logs.send(logs.span(row_id, root, input=choose.random()))

        for _ in range(30):
            write()
        for limit in (1, 2, 3, 7):
            wanted = {row_id for row_id, _ in present}
            pages = logs.walk(limit=limit, meanwhile=write)
            versions = [int(str(page[-1]["_xact_id"])) for page in pages]
            assert versions == sorted(versions, reverse=True)
            assert wanted <= {row["id"] for page in pages for row in page}

            calm = [row["id"] for page in logs.walk(limit=limit) for row in page]
            assert set(calm) == {row_id for row_id, _ in present}
            cursor, by_cursor = None, []
            while cursor is not None or not by_cursor:
                page = logs.page(limit=limit, cursor=cursor)
                by_cursor += [row["id"] for row in page.rows]
                cursor = page.cursor
            assert sorted(by_cursor) == sorted(row_id for row_id, _ in present)

    def test_the_cursor_of_a_page_of_traces_goes_on_with_the_rows_that_are_not_on_it(
        self, logs: LogStores
    ) -> None:
        for root in "abcde":
            logs.send(logs.span(f"{root}1", root), logs.span(f"{root}2", root))
        logs.send(logs.span("b1", root="b", input="x"), logs.span("b2", root="b", input="x"))
        first = logs.page(limit=2)
        # Neither a trace that was on the page, nor one that was not, nor a new one.
        logs.send(logs.span("e1", root="e", input="x"), logs.span("a2", root="a", input="x"))
        logs.send(logs.span("f1", root="f"))
        second = logs.page(limit=3, cursor=first.cursor)
        third = logs.page(limit=9, cursor=second.cursor)

        assert [row["id"] for row in first.rows] == ["b2", "b1", "e2", "e1"]
        assert [row["id"] for row in second.rows] == ["d2", "d1", "c2"]
        assert [row["id"] for row in third.rows] == ["c1", "a2", "a1"]
        assert third.cursor is None

    @pytest.mark.parametrize("change", [{"is_delete": True}, {"fields": {"input": "no"}}])
    def test_what_becomes_of_one_row_of_a_trace_hides_no_other_from_who_has_a_cursor(
        self, logs: LogStores, change: dict[str, object]
    ) -> None:
        for n in "12":
            for root in "abc":
                logs.send(logs.span(f"{root}{n}", root, input="yes"))
        wanted = {"btql": "input = 'yes'"}
        first = logs.page(limit=1, condition=wanted)
        logs.send(*(
            logs.row(f"{root}1", is_merge="fields" in change, **{"fields": {}, **change})
            for root in "ab"
        ))
        rest = logs.page(limit=9, condition=wanted, cursor=first.cursor)

        assert [row["id"] for row in (*first.rows, *rest.rows)] == ["c2", "c1", "b2", "a2"]

    def test_a_filter_counts_the_traces_of_the_rows_that_pass_it(self, logs: LogStores) -> None:
        for n, root in enumerate("abcd"):
            logs.send(
                logs.span(f"{root}1", root, input="yes" if n % 2 else "no"),
                logs.span(f"{root}2", root, input="no"),
            )
        wanted = {"btql": "input = 'yes'"}

        first = logs.page(limit=1, condition=wanted)
        rest = logs.page(limit=9, condition=wanted, cursor=first.cursor)

        assert [row["id"] for row in (*first.rows, *rest.rows)] == ["d1", "b1"]
        assert logs.ids(limit=9, condition={"btql": "id IN ('a2', 'c1', 'nobody')"}) == [
            "c1", "a2"
        ]

    @pytest.mark.parametrize("cursor", ["s", "x1", "s-1", "1"])
    def test_a_cursor_that_no_page_gave_is_refused(self, logs: LogStores, cursor: str) -> None:
        with pytest.raises(BadInput, match="not a cursor"):
            logs.page(cursor=cursor)

    def test_a_page_has_the_rows_of_its_object_that_pass_its_filter(
        self, logs: LogStores
    ) -> None:
        logs.send(logs.row("a"), logs.row("b"), logs.row("c", logs.project("other")))

        assert logs.ids() == ["b", "a"]
        assert logs.ids(condition={"btql": "input = 'of a'"}) == ["a"]
        assert logs.ids(condition={"btql": "output = 'x'"}) == []

    def test_a_merge_adds_to_a_row_and_a_plain_write_replaces_it(self, logs: LogStores) -> None:
        logs.send(logs.row("a", fields={"metadata": {"a": 1}, **ENDED}))
        logs.send(logs.row("a", fields={"metadata": {"b": 2}}, is_merge=True))
        (merged,) = logs.page().rows
        logs.send(logs.row("a", fields={"output": 1}))
        (replaced,) = logs.page().rows

        assert (merged["metadata"], merged["metrics"]) == ({"a": 1, "b": 2}, ENDED["metrics"])
        assert (replaced["metadata"], replaced["output"]) == (None, 1)

    def test_a_base_that_comes_after_its_merge_lies_under_it(self, logs: LogStores) -> None:
        logs.send(logs.row("a", fields={"output": None, "tags": ["t"]}, is_merge=True))
        logs.send(logs.row("a", fields={
            "span_id": "s", "root_span_id": "r", "output": 1, "input": 2,
        }))

        (row,) = logs.page().rows

        assert (row["span_id"], row["root_span_id"]) == ("s", "r")
        assert (row["input"], row["output"], row["tags"]) == (2, None, ["t"])

    def test_a_field_that_a_merge_alone_cleared_is_not_filled_in_by_a_later_base(
        self, logs: LogStores
    ) -> None:
        logs.send(logs.row("a", fields={"output": 1}, is_merge=True))
        logs.send(logs.row("a", fields={"tags": None}, is_merge=True))
        cleared = logs.send(logs.row("b", fields={"tags": None}, is_merge=True))
        logs.send(logs.row("b", fields={"tags": None}, is_merge=True))    # changes nothing
        b, _ = logs.page().rows
        logs.send(logs.row("a", fields={"tags": ["t"], "input": 2}))

        a, _ = logs.page().rows

        assert (a["output"], a["input"], a["tags"]) == (1, 2, None)
        assert b["_xact_id"] == str(cleared.xact)

    def test_a_deleted_row_is_shown_nowhere(self, logs: LogStores) -> None:
        before = logs.feed.now()
        logs.send(logs.row("a"), logs.row("b"))
        logs.send(logs.row("a", fields={}, is_delete=True))

        assert logs.ids() == ["b"]
        changed = logs.feed.changes(logs.where.project_id, before, 9).rows
        assert [row.id for row in changed] == ["b"]

    def test_a_row_takes_its_trace_from_the_parent_that_it_names(self, logs: LogStores) -> None:
        logs.send(
            logs.row("child of none", parent_id="later"),
            logs.row("root", fields={"span_id": "s", "root_span_id": "t"}),
            logs.row("child", parent_id="root"),
        )

        rows = {row["id"]: row for row in logs.page().rows}

        assert rows["child"]["root_span_id"] == "t"
        assert rows["child"]["span_parents"] == ["s"]
        assert rows["child of none"]["root_span_id"] == "later"
        assert rows["child of none"]["is_root"] is False

    def test_a_comment_changes_no_row(self, logs: LogStores) -> None:
        written = logs.send(logs.row("a"))

        answer = logs.send(logs.row("a", fields={}, comment={"text": "!"}, comment_id="c"))

        (row,) = logs.page().rows
        assert answer.row_ids == ("c",)
        assert row["_xact_id"] == str(written.xact)

    def test_a_later_try_of_a_request_changes_nothing_and_gets_its_first_answer(
        self, logs: LogStores
    ) -> None:
        first = logs.send(logs.row("a"), resend=logs.tried(0))
        later = logs.send(logs.row("a", fields={"input": "later"}))

        again = logs.send(logs.row("other id"), resend=logs.tried(1))
        others = logs.send(logs.row("b"), resend=logs.tried(1, key_id="another"))

        assert again == first
        assert others.xact > later.xact > first.xact
        assert [row["input"] for row in logs.page().rows] == ["of b", "later"]

    def test_equal_first_tries_are_all_stored_and_a_retry_gets_the_latest_answer_once(
        self, logs: LogStores
    ) -> None:
        tries = [
            logs.send(logs.row(row_id), resend=logs.tried(number))
            for row_id, number in (("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 1))
        ]

        assert [answer.row_ids for answer in tries] == [("a",), ("b",), ("b",), ("b",), ("e",)]
        assert sorted(map(str, logs.ids())) == ["a", "b", "e"]

    def test_a_retry_whose_first_try_never_arrived_is_stored(self, logs: LogStores) -> None:
        assert logs.send(logs.row("a"), resend=logs.tried(2)).row_ids == ("a",)
        assert logs.send(logs.row("b"), resend=logs.tried(3)).row_ids == ("a",)

    def test_a_client_may_count_its_tries_to_any_number(self, logs: LogStores) -> None:
        first = logs.send(logs.row("a"), resend=logs.tried(10**18 - 2))

        assert logs.send(logs.row("b"), resend=logs.tried(10**18 - 1)) == first

    def test_an_idempotency_key_has_one_answer_and_one_body(self, logs: LogStores) -> None:
        first = logs.send(logs.row("a"), resend=logs.tried(None))
        again = logs.send(logs.row("b"), resend=logs.tried(None))
        (refused,) = logs.writer.write([IngestRequest(
            org_id=logs.org, sent_by="key", writes=(logs.row("c"),),
            resend=logs.tried(None, body="another"),
        )])

        assert again == first
        assert isinstance(refused, BadInput)
        assert "Idempotency-Key" in str(refused)
        assert logs.ids() == ["a"]

    def test_tries_that_arrive_together_are_answered_as_if_one_after_the_other(
        self, logs: LogStores
    ) -> None:
        answers = logs.writer.write([
            IngestRequest(
                org_id=logs.org, sent_by="key", writes=(logs.row(row_id),),
                resend=None if number is None else logs.tried(number),
            )
            for row_id, number in (("a", 0), ("b", 1), ("c", None), ("d", 0), ("e", 1))
        ])

        ids = [answer.row_ids[0] for answer in answers if isinstance(answer, IngestAnswer)]
        assert ids == ["a", "a", "c", "d", "d"]
        assert sorted(map(str, logs.ids())) == ["a", "c", "d"]

    def test_one_bad_retry_of_a_group_harms_no_other(self, logs: LogStores) -> None:
        logs.send(logs.row("a"), resend=logs.tried(None))
        bodies = ("another", "body")
        refused, again, stored = logs.writer.write([
            *(
                IngestRequest(
                    org_id=logs.org, sent_by="key", writes=(logs.row("b"),),
                    resend=logs.tried(None, body=body),
                )
                for body in bodies
            ),
            IngestRequest(org_id=logs.org, sent_by="key", writes=(logs.row("c"),)),
        ])

        assert isinstance(refused, BadInput)
        assert isinstance(again, IngestAnswer)
        assert isinstance(stored, IngestAnswer)
        assert (again.row_ids, stored.row_ids) == (("a",), ("c",))

    def test_requests_of_a_group_are_answered_in_their_order_each_with_its_version(
        self, logs: LogStores
    ) -> None:
        requests = [
            IngestRequest(
                org_id=logs.org, sent_by="key",
                writes=(logs.row("same", fields={"input": n}),),
            )
            for n in range(3)
        ]

        answers = logs.writer.write(requests)

        versions = [answer.xact for answer in answers if isinstance(answer, IngestAnswer)]
        assert len(versions) == 3
        assert versions == sorted(set(versions))
        assert [row["input"] for row in logs.page().rows] == [2]

    def test_a_write_that_changes_nothing_keeps_the_version(self, logs: LogStores) -> None:
        first = logs.send(logs.row("a"))
        second = logs.send(logs.row("a"))

        (row,) = logs.page().rows
        assert second.xact > first.xact
        assert row["_xact_id"] == str(first.xact)

    def test_rejected_rows_are_listed_newest_first_for_their_project(
        self, logs: LogStores
    ) -> None:
        project = logs.where.project_id

        def rejected(name: str, of: ProjectId | None = project) -> RejectedRow:
            return RejectedRow(project_id=of, row_id=name, reason="why", excerpt="{}")

        logs.send(rejected=(rejected("first"), rejected("nowhere", None)))
        logs.send(logs.row("a"), rejected=(rejected("second"), rejected("third")))

        found = logs.reader.rejected(logs.org, project, 2)
        assert [row["id"] for row in found] == ["third", "second"]
        assert (found[0]["reason"], found[0]["excerpt"]) == ("why", "{}")
        assert logs.reader.rejected(OrgId(uuid.uuid4()), project, 9) == []
        assert [row["id"] for row in logs.reader.rejected(logs.org, None, 9)] == [
            "third", "second", "nowhere", "first"
        ]
        assert logs.reader.rejected(OrgId(uuid.uuid4()), None, 9) == []

    def test_a_row_that_is_rejected_again_for_the_same_reason_is_listed_once(
        self, logs: LogStores
    ) -> None:
        same = RejectedRow(project_id=None, row_id="a", reason="why", excerpt="{}")
        for row in (same, same, replace(same, reason="why else"), replace(same, excerpt="[]")):
            logs.send(rejected=(row,))
        assert len(logs.reader.rejected(logs.org, None, 9)) == 3

    def test_a_query_gives_its_fields_of_the_rows_in_its_scope(self, logs: LogStores) -> None:
        other, beyond = logs.project("other"), logs.project("beyond")
        for where in (logs.where, other, beyond):
            logs.send(logs.row("a", where), logs.row("b", where))
        ids = ", ".join(f"'{each.object_id}'" for each in (logs.where, other, beyond))
        query = parse_query(
            f"select: id, input AS said | from: project_logs({ids}) | filter: id != 'a'"
        )

        found = logs.reader.query(
            query, logs.org, (logs.where.project_id, other.project_id), limit_max=9,
            tz_offset=0,
        )

        assert found.rows == [{"id": "b", "said": "of b"}] * 2

    def test_a_querys_pages_have_each_row_once_and_a_limit(self, logs: LogStores) -> None:
        logs.send(*(logs.row(row_id) for row_id in "abc"))
        text = f"select: id | from: project_logs('{logs.where.object_id}')"

        def page(query: str) -> tuple[list[object], str | None]:
            found = logs.reader.query(
                parse_query(query), logs.org, (logs.where.project_id,), limit_max=5,
                tz_offset=0,
            )
            return [row["id"] for row in found.rows], found.cursor

        first, cursor = page(f"{text} | limit: 2")
        second, last = page(f"{text} | limit: 2 | cursor: '{cursor}'")

        assert (first, second) == (["c", "b"], ["a"])
        assert page(f"{text} | limit: 2 | cursor: '{last}'") == ([], None)
        with pytest.raises(BadInput, match="a limit is at most 5"):
            page(f"{text} | limit: 6")

    def test_a_follower_sees_each_changed_row_once_as_it_is_now(self, logs: LogStores) -> None:
        project, begin = logs.where.project_id, logs.feed.now()
        logs.send(logs.row("a", fields={"span_attributes": {"name": "call"}}))
        logs.send(logs.row("b", fields={"span_attributes": {"type": "score"}}))
        last = logs.send(logs.row("a", fields={"scores": {"s": 0.5}}, is_merge=True))

        changes = logs.feed.changes(project, begin, 9)

        told = [(row.id, row.name, row.is_score_span, row.scores) for row in changes.rows]
        assert told == [("b", None, True, None), ("a", "call", False, {"s": 0.5})]
        assert changes.rows[-1].xact == last.xact
        assert changes.upto >= last.xact
        assert logs.feed.changes(project, changes.upto, 9).rows == []

    def test_rows_of_one_version_come_together_beyond_the_limit(self, logs: LogStores) -> None:
        project, begin = logs.where.project_id, logs.feed.now()
        first = logs.send(logs.row("a"))
        both = logs.send(logs.row("b"), logs.row("c"))
        logs.send(logs.row("d"))

        def follow(after: Xact, limit: int) -> tuple[list[str], Xact]:
            changes = logs.feed.changes(project, after, limit)
            return sorted(row.id for row in changes.rows), changes.upto

        assert follow(begin, 1) == (["a"], first.xact)
        assert follow(begin, 2) == (["a", "b", "c"], both.xact)
        assert follow(first.xact, 1) == (["b", "c"], both.xact)

    # --- expiry

    def logged(self, logs: LogStores, row_id: str, trace: str, month: int, **more: object
               ) -> RowWrite:
        """A row of the trace, created in that month of 2026."""
        return logs.row(row_id, fields={
            "created": f"2026-{month:02}-02T00:00:00Z", "span_id": row_id,
            "root_span_id": trace, **more,
        })

    @pytest.fixture
    def traces(self, logs: LogStores) -> LogStores:
        """A trace that is old in March, one that has got a row since, and a new one."""
        logs.send(
            self.logged(logs, "old", "old", 1), self.logged(logs, "old child", "old", 2),
            self.logged(logs, "long", "long", 1), self.logged(logs, "long child", "long", 3),
            self.logged(logs, "new", "new", 4),
        )
        return logs

    def test_a_trace_expires_whole_once_its_newest_row_is_old(self, traces: LogStores) -> None:
        other = traces.project("other")
        traces.send(traces.row("elsewhere", other, fields={"created": "2026-01-01T00:00:00Z"}))

        gone = traces.expiry.expire(traces.where, MARCH, is_dry_run=False)

        assert gone == Expired(traces=1, rows=2)
        assert set(traces.ids()) == {"new", "long child", "long"}
        assert traces.expiry.expire(traces.where, MARCH, is_dry_run=False).rows == 0
        assert traces.expiry.expire(other, MARCH, is_dry_run=False).rows == 1

    def test_a_dry_run_counts_what_would_expire_and_leaves_it(self, traces: LogStores) -> None:
        gone = traces.expiry.expire(traces.where, MARCH, is_dry_run=True)
        assert gone == Expired(traces=1, rows=2)
        assert len(traces.ids()) == 5

    def test_a_row_that_expired_may_come_again(self, traces: LogStores) -> None:
        traces.expiry.expire(traces.where, MARCH, is_dry_run=False)
        traces.send(self.logged(traces, "old", "old", 5, input="again"))
        assert set(traces.ids()) == {"old", "new", "long child", "long"}

    def test_nothing_expires_where_nothing_was_logged(self, logs: LogStores) -> None:
        nothing = Expired(traces=0, rows=0)
        assert logs.expiry.expire(logs.where, MARCH, is_dry_run=False) == nothing
