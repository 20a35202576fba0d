"""ChangeFeed versions while others write: nothing is missed, nothing steps back."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from flows.logs.ingest import IngestRequest
from spans.clock import system_clock
from spans.ids import ObjectId, OrgId, ProjectId, Xact
from spans.resends import IngestAnswer
from spans.row import ObjectRef, ObjectType, RowKey, RowWrite, is_made_by_scorer
from store.access.projects import StoredProjects
from store.logs.change_feed import ChangeFeed
from store.logs.ingest import SpanWriter
from store.postgres.database import Database
from store.postgres.versions import draw_versions

pytestmark = pytest.mark.every_postgres

WRITERS = 6
WRITES = 40


@pytest.fixture
def database(fresh_database_url):
    opened = Database(fresh_database_url)
    yield opened
    opened.close()


@pytest.fixture
def logs(database):
    projects = StoredProjects(database)
    org = projects.ensure_organization(OrgId(uuid.uuid4()), "acme")
    project, _ = projects.get_or_create_project(org, ProjectId(uuid.uuid4()), "app", None)
    return ObjectRef(project.id, ObjectType.PROJECT_LOGS, ObjectId(project.id))


def request(logs: ObjectRef, *row_ids: str, text: str = "") -> IngestRequest:
    return IngestRequest(
        org_id=OrgId(uuid.uuid4()),
        sent_by="key", writes=tuple(
            RowWrite(key=RowKey(logs, row_id), fields={"output": text or row_id})
            for row_id in row_ids
        ),
    )


def test_a_reader_that_follows_versions_misses_no_row_of_concurrent_writers(database, logs):
    writer = SpanWriter(database, system_clock, resend_minutes=60)
    following = ChangeFeed(database)
    done = threading.Event()
    seen: dict[str, Xact] = {}

    def follow() -> None:
        after = Xact(0)
        while True:
            is_last = done.is_set()
            changes = following.changes(logs.project_id, after, 7)
            for row in changes.rows:
                assert row.id not in seen, "a row came twice"
                seen[row.id] = row.xact
            after = changes.upto
            if is_last and not changes.rows:
                return

    def write(number: int) -> None:
        for turn in range(WRITES):
            ids = [f"{number}-{turn}-{each}" for each in range(3)]
            writer.write([request(logs, *ids), request(logs, ids[0] + "x")])

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        reader = pool.submit(follow)
        for written in [pool.submit(write, number) for number in range(WRITERS)]:
            written.result()
        done.set()
        reader.result()
    assert len(seen) == WRITERS * WRITES * 4


def test_a_version_that_is_drawn_and_not_committed_holds_the_reader_back(database, logs):
    writer = SpanWriter(database, system_clock, resend_minutes=60)
    following = ChangeFeed(database)
    before = following.now()
    with database.cursor() as slow:
        (drawn,), _ = draw_versions(slow, 1)
        (later,) = writer.write([request(logs, "later")])
        assert isinstance(later, IngestAnswer)
        assert later.xact > drawn
        assert following.changes(logs.project_id, before, 10).rows == []
        assert following.changes(logs.project_id, before, 10).upto < drawn
    assert [row.id for row in following.changes(logs.project_id, before, 10).rows] == ["later"]


def test_a_reader_is_told_which_rows_a_scorer_made(database, logs):
    attributes = [
        None, {}, {"type": "llm"}, {"purpose": "scorer"}, {"type": "score"},
        {"type": "score", "purpose": "scorer"}, {"type": "llm", "purpose": "scorer"},
        {"type": "score", "purpose": None}, {"purpose": ["scorer"], "type": {"score": 1}},
    ]
    fields = {str(number): {"span_attributes": each} for number, each in enumerate(attributes)}
    writer = SpanWriter(database, system_clock, resend_minutes=60)
    writes = tuple(
        RowWrite(key=RowKey(logs, row_id), fields=each) for row_id, each in fields.items()
    )
    writer.write([replace(request(logs), writes=writes)])

    rows = ChangeFeed(database).changes(logs.project_id, Xact(0), 100).rows

    assert {row.id: row.is_score_span for row in rows} == {
        row_id: is_made_by_scorer(each) for row_id, each in fields.items()
    }


def test_versions_of_one_row_under_concurrent_writers_only_ever_grow(database, logs):
    writer = SpanWriter(database, system_clock, resend_minutes=60)

    def write(number: int) -> list[Xact]:
        xacts = []
        for turn in range(WRITES):
            (answer,) = writer.write([request(logs, "one", text=f"{number} {turn}")])
            assert isinstance(answer, IngestAnswer)
            xacts.append(answer.xact)
        return xacts

    with ThreadPoolExecutor(WRITERS) as pool:
        drawn = [xact for xacts in pool.map(write, range(WRITERS)) for xact in xacts]
    with database.cursor() as cursor:
        cursor.execute("select xact from span_head")
        assert cursor.fetchone() == (max(drawn),)
    assert len(set(drawn)) == WRITERS * WRITES
    assert all(len(str(xact)) == 19 for xact in drawn)
