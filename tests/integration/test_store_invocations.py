"""Invocations: made, claimed, answered and cancelled, with PostgreSQL's own notifications."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from fakes.sandbox import FakeSandbox
from store_behaviours.invocations import InvocationBehaviours, InvocationStores
from store_behaviours.logs import LogStores

from flows.invocations.client import InvocationClient, finished
from flows.invocations.messages import CheckAnswer, CheckRequest
from flows.invocations.server import InvocationServer
from ops.servers.children import wait_until
from scorers.functions.body import InlineCode
from scorers.sandbox.model import CodeCheck, Runtime
from spans.clock import system_clock
from spans.errors import CallFailed, NotAnswered, NoWorker, StoreUnavailable
from spans.ids import InvocationId, OrgId
from store.access.projects import StoredProjects
from store.invocations.answers import AnswerListener
from store.invocations.invocations import Invocations
from store.logs.change_feed import ChangeFeed
from store.logs.expiry import LogExpiry
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.logs.traces import Traces
from store.postgres.database import Database
from store.postgres.leases import Leases

pytestmark = pytest.mark.every_postgres

PATIENCE_S = 20.0
CHECK = CheckRequest(runtime=Runtime.PYTHON, code="1")
CHECKED = FakeSandbox().check(InlineCode(runtime=CHECK.runtime, code=CHECK.code))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def org_id(database: Database) -> OrgId:
    return StoredProjects(database).ensure_organization(OrgId(uuid.uuid4()), "tallyard")


@pytest.fixture
def queue(org_id: OrgId) -> str:
    """A queue of the test's own."""
    return f"sandbox-{uuid.uuid4().hex}"


@pytest.fixture
def client(database: Database) -> Iterator[InvocationClient]:
    yield from opened_client(database, PATIENCE_S)


def opened_client(database: Database, patience_s: float) -> Iterator[InvocationClient]:
    answers = AnswerListener(database, patience_s=patience_s)
    yield InvocationClient(store=store_of(database), answers=answers, ring=lambda queue: None)
    answers.close()


def store_of(database: Database) -> Invocations:
    return Invocations(database, lease_s=60, patience_s=PATIENCE_S)


def answering(
    database: Database, queue: str, sandbox: FakeSandbox | None = None
) -> InvocationServer:
    sandbox = sandbox or FakeSandbox()
    return InvocationServer(
        queue=queue, store=store_of(database), spans_of=Traces(database).spans_of,
        runner=sandbox, check_code=sandbox.check,
    )


class TestStoredInvocations(InvocationBehaviours):
    @pytest.fixture
    def stores(self, database: Database) -> Iterator[InvocationStores]:
        answers = AnswerListener(database, patience_s=PATIENCE_S)
        yield InvocationStores(
            store=store_of(database), answers=answers,
            let_go=lambda queue: let_go(database, queue),
            count=lambda queue: held(database, queue),
            logs=LogStores(
                writer=SpanWriter(database, system_clock, resend_minutes=60),
                reader=SpanReader(database, system_clock, query_timeout_s=30),
                feed=ChangeFeed(database), expiry=LogExpiry(database),
                projects=StoredProjects(database),
            ),
        )
        answers.close()


def test_an_answer_wakes_who_waits(database, client, org_id, queue, monkeypatch):
    monkeypatch.setattr("store.invocations.answers.POLL_S", 10 * PATIENCE_S)
    future = client.begin(org_id, queue, CHECK)
    warm(client, database, org_id)

    assert answering(database, queue).serve_some() == 1
    # Nobody looks for it before its waiter has given up: it was the notification.
    assert finished(future.result(timeout=PATIENCE_S)) == CheckAnswer(checked=CHECKED)
    assert answering(database, queue).serve_some() == 0


def test_an_invocation_whose_worker_died_is_taken_by_another(
    database_url, database, client, org_id, queue
):
    future = client.begin(org_id, queue, CHECK)
    killed = Database(database_url)
    assert store_of(killed).claim(queue) is not None
    assert answering(database, queue).serve_some() == 0
    killed.close()

    def is_answered() -> bool:
        Leases(database, lease_s=60).release_abandoned()
        return answering(database, queue).serve_some() == 1

    assert wait_until(is_answered, deadline_s=10)
    assert finished(future.result(timeout=5)).checked == CHECKED


def test_an_answer_that_cannot_be_kept_is_told(database, client, org_id, queue, caplog):
    future = client.begin(org_id, queue, CHECK)

    class Unreadable(FakeSandbox):
        def check(self, code):
            return CodeCheck(problem="half of a pair: \ud800")

    answering(database, queue, Unreadable()).serve_some()
    with pytest.raises(CallFailed, match="Error; the worker's log has it"):
        finished(future.result(timeout=5))
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("is_taken", [False, True])
def test_patience_ends_with_who_must_act(database, org_id, queue, is_taken):
    for client in opened_client(database, 0.3):
        future = client.begin(org_id, queue, CHECK)
        if is_taken:
            assert store_of(database).claim(queue) is not None
        expected, said = (
            (NotAnswered, "still running") if is_taken else (NoWorker, "no worker took this")
        )
        with pytest.raises(expected, match=said):
            future.result(timeout=10)


def test_what_nobody_waits_for_any_more_is_not_run(database, org_id, queue):
    impatient = Invocations(database, lease_s=60, patience_s=0.05)
    impatient.ask(InvocationId(uuid.uuid4()), org_id, queue, CHECK)
    assert wait_until(lambda: impatient.claim(queue) is None, deadline_s=5)


def test_a_lost_connection_loses_no_answer(database, client, org_id, queue):
    warm(client, database, org_id)
    future = client.begin(org_id, queue, CHECK)
    with database.cursor() as cursor:
        cursor.execute(
            """select count(pg_terminate_backend(pid)) from pg_stat_activity
                where application_name = %s and pid <> pg_backend_pid()
                  and query like 'listen %%' or query like '%%from invocation where id = any%%'
                  and pid <> pg_backend_pid()""",
            (f"tallyard {database.owner}",),
        )
        assert cursor.fetchone() != (0,)
    store = store_of(database)
    invocation = store.claim(queue)
    assert invocation is not None
    store.answer(invocation, CheckAnswer(checked=CHECKED))

    assert finished(future.result(timeout=10)).checked == CHECKED


def test_closing_tells_who_still_waits(database, org_id, queue):
    opened = opened_client(database, PATIENCE_S)
    waiting = next(opened).begin(org_id, queue, CHECK)
    assert next(opened, None) is None
    assert "stopping" in str(waiting.exception(timeout=5))
    assert isinstance(waiting.exception(), StoreUnavailable)
    assert not held(database, queue)     # nobody runs it for nothing


def held(database: Database, queue: str) -> int:
    """How many invocations of the queue are kept."""
    with database.cursor() as cursor:
        cursor.execute("select count(*) from invocation where queue = %s", (queue,))
        (count,) = cursor.fetchone() or (0,)
        return int(count)


def let_go(database: Database, queue: str) -> None:
    """What the death of a worker comes to."""
    with database.cursor() as cursor:
        cursor.execute("update invocation set owner = null where queue = %s", (queue,))


def warm(client: InvocationClient, database: Database, org_id: OrgId) -> None:
    """Until the process listens: a call of another queue is answered."""
    queue = f"warm-{uuid.uuid4().hex}"
    future = client.begin(org_id, queue, CHECK)
    answering(database, queue).serve_some()
    future.result(timeout=10)


