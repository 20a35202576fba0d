"""Invocations: made, claimed, answered and cancelled, with PostgreSQL's own notifications."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from flows.invocations.client import InvocationClient, finished
from flows.invocations.messages import ATTEMPTS_MAX, CheckAnswer, CheckRequest, RunRequest
from flows.invocations.server import InvocationServer
from ops.servers.children import wait_until
from scorers.functions.body import InlineCode
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.run.heuristic import failed_verdict
from scorers.sandbox.model import CodeCheck, Program, Runtime
from spans.errors import (
    CallFailed,
    InfraError,
    NotAnswered,
    NotFound,
    NoWorker,
    SandboxLost,
    StoreUnavailable,
)
from spans.ids import FunctionId, InvocationId, ObjectId, OrgId, ProjectId, Xact
from spans.json import JsonObject
from spans.outcome import Verdict, verdict_of
from spans.row import ObjectRef, ObjectType, RowKey
from spans.scoring import OutcomeState, Score, ScoringResult
from store.access.projects import StoredProjects
from store.invocations.answers import AnswerListener
from store.invocations.invocations import Invocations
from store.logs.traces import Traces
from store.postgres.database import Database
from store.postgres.leases import Leases

PATIENCE_S = 20.0
CHECK = CheckRequest(runtime=Runtime.PYTHON, code="def handler(): return 1")
LOST = SandboxLost("it went away")
CHECKED = CodeCheck(program=Program(runtime=Runtime.PYTHON, code="x", parameters=()))


class Sandbox:
    """A runner and builder that works, for programs that it knows; `lost`: not before that
    many attempts have lost it."""

    def __init__(self, lost: int = 0):
        self.lost = lost

    def build(self, code):
        assert code == InlineCode(runtime=CHECK.runtime, code=CHECK.code)
        if self.is_lost():
            raise InfraError("no jail")
        return CHECKED

    def is_lost(self):
        self.lost -= 1
        return self.lost >= 0

    def run(self, function, records):
        if function.name == "unforeseen":
            raise ZeroDivisionError("secret")
        if self.is_lost():
            return [*(verdict(function.name, record) for record in records[1:]), LOST]
        return [verdict(function.name, record) for record in records]


def verdict(name: str, record: JsonObject) -> Verdict:
    scores = (
        Score(name=name, value=None),
        Score(name="keys", value=1.0, metadata={"keys": [*record["input"]]}),
    )
    result = ScoringResult(scores=scores, arguments=record)
    return verdict_of(result, started_at=1.0, run_ms=2.5, log="printed")


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
    database: Database, queue: str, sandbox: Sandbox | None = None
) -> InvocationServer:
    sandbox = sandbox or Sandbox()
    return InvocationServer(
        queue=queue, store=store_of(database), spans_of=Traces(database).spans_of,
        runner=sandbox, check_code=sandbox.build,
    )


def function(name: str = "mine") -> FunctionVersion:
    return FunctionVersion(
        id=FunctionId(uuid.uuid4()), project_id=ProjectId(uuid.uuid4()), version=Xact(7),
        name=name, slug=name, kind=FunctionKind.CODE, program=CHECKED.program,
    )


def test_an_answer_wakes_who_waits(database, client, org_id, queue):
    future = client.begin(org_id, queue, CHECK)
    warm(client, database, org_id)

    assert answering(database, queue).serve_some() == 1
    begin = time.monotonic()
    assert finished(future.result(timeout=5)) == CheckAnswer(checked=CHECKED)
    # Well below the poll: it was the notification.
    assert time.monotonic() - begin < 0.5
    assert answering(database, queue).serve_some() == 0


def test_records_and_verdicts_arrive_as_they_were(database, client, org_id, queue):
    run = RunRequest(
        function=function(),
        records=({"input": {"z": 1, "a": "\u2028", "m": None}}, {"input": {}}),
        rows=(RowKey(
            ObjectRef(ProjectId(uuid.uuid4()), ObjectType.PROJECT_LOGS, ObjectId(uuid.uuid4())),
            "gone",
        ),),
    )
    future = client.begin(org_id, queue, run)
    answering(database, queue).serve_some()
    first, second, gone = finished(future.result(timeout=5)).verdicts

    assert first.result is not None
    assert [score.value for score in first.result.scores] == [None, 1.0]
    # Keys keep their order: ExactMatch depends on it.
    assert first.result.scores[1].metadata == {"keys": ["z", "a", "m"]}
    assert (first.log, first.run_ms, first.result.arguments) == ("printed", 2.5, {})
    assert second.result is not None
    not_found = NotFound("the span 'gone' is gone")
    assert gone == failed_verdict(not_found, started_at=gone.started_at)


def test_each_invocation_is_taken_once(database, client, org_id, queue):
    futures = [client.begin(org_id, queue, CHECK) for _ in range(20)]
    store = store_of(database)
    taken = [store.claim(queue) for _ in range(21)]

    assert taken.pop() is None
    assert len({each.id for each in taken if each}) == len(futures)


def test_calls_are_answered_together_as_far_as_there_is_room(
    database, client, org_id, queue
):
    first, second = threading.Barrier(3), threading.Barrier(2)
    held: list[object] = []

    class Slow(Sandbox):
        def build(self, request):
            held.append(request)
            (first if len(held) <= 2 else second).wait(timeout=10)
            return CHECKED

    futures = [client.begin(org_id, queue, CHECK) for _ in range(3)]
    together = InvocationServer(
        queue=queue, store=store_of(database), spans_of=Traces(database).spans_of,
        runner=Slow(), check_code=Slow().build, at_once=2,
    )
    together.serve_aside()
    assert wait_until(lambda: len(held) == 2, deadline_s=5)
    first.wait(timeout=10)
    # Nobody looks again: who has ended takes what is left.
    assert wait_until(lambda: len(held) == 3, deadline_s=5)
    second.wait(timeout=10)
    assert [finished(each.result(timeout=5)).checked for each in futures] == [CHECKED] * 3
    # They look for more before they end, and must not do that on a closed database.
    assert wait_until(lambda: not any(map(is_serving, threading.enumerate())), deadline_s=5)


def test_an_answer_under_an_older_fence_does_not_count(database, client, org_id, queue):
    future = client.begin(org_id, queue, CHECK)
    store = store_of(database)
    late = store.claim(queue)
    let_go(database, queue)
    current = store.claim(queue)
    assert late is not None
    assert current is not None
    assert (current.id, current.attempts) == (late.id, 2)

    store.answer(late, CheckAnswer(checked=CodeCheck(problem="late")))
    store.answer(current, CheckAnswer(checked=CHECKED))
    store.answer(current, CheckAnswer(checked=CodeCheck(problem="again")))

    assert finished(future.result(timeout=5)).checked == CHECKED


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


def test_an_invocation_that_kills_its_workers_is_answered_in_the_end(
    database, client, org_id, queue
):
    future = client.begin(org_id, queue, CHECK)
    for _ in range(ATTEMPTS_MAX):
        assert store_of(database).claim(queue) is not None
        let_go(database, queue)

    assert answering(database, queue).serve_some() == 1
    with pytest.raises(CallFailed, match="3 workers died"):
        finished(future.result(timeout=5))


def test_an_error_that_nobody_foresaw_is_answered_without_its_text(
    database, client, org_id, queue, caplog
):
    future = client.begin(
        org_id, queue, RunRequest(function=function("unforeseen"), records=({"input": {}},))
    )
    answering(database, queue).serve_some()
    with pytest.raises(CallFailed, match="ZeroDivisionError; the worker's log") as caught:
        finished(future.result(timeout=5))
    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


REQUESTS = pytest.mark.parametrize(
    "request_",
    [CHECK, RunRequest(function=function(), records=({"input": {}}, {"input": {}}))],
    ids=["check", "run"],
)


@REQUESTS
def test_a_sandbox_that_is_lost_is_no_answer(database, client, org_id, queue, request_):
    future = client.begin(org_id, queue, request_)
    rung: list[str] = []
    worker = answering(database, queue, Sandbox(lost=ATTEMPTS_MAX - 1))
    worker.ring = rung.append

    assert worker.serve_some() == ATTEMPTS_MAX

    assert rung == [queue] * (ATTEMPTS_MAX - 1)
    answer = finished(future.result(timeout=5))
    if isinstance(answer, CheckAnswer):
        assert answer.checked == CHECKED
    else:
        assert [end.state for end in answer.verdicts] == [OutcomeState.COMPLETED] * 2


@REQUESTS
def test_a_sandbox_that_is_lost_each_time_is_told(database, client, org_id, queue, request_):
    future = client.begin(org_id, queue, request_)

    assert answering(database, queue, Sandbox(lost=9)).serve_some() == ATTEMPTS_MAX

    kept = future.result(timeout=5)
    if request_ is CHECK:
        with pytest.raises(CallFailed, match="infra_error: no jail"):
            finished(kept)
    else:
        first, second = finished(kept).verdicts
        assert first.state is OutcomeState.COMPLETED
        assert second.failure.error_class == "sandbox_lost"


def test_a_worker_that_stops_gives_its_invocation_back_and_takes_no_other(
    database, client, org_id, queue
):
    future, other = (client.begin(org_id, queue, CHECK) for _ in range(2))

    class Stopped(Sandbox):
        """What it runs is taken away under it."""

        def build(self, request):
            worker.stopping.set()
            raise RuntimeError("cannot schedule new futures after shutdown")

    worker = answering(database, queue, Stopped())
    worker.serve_aside()
    assert wait_until(lambda: not any(map(is_serving, threading.enumerate())), deadline_s=5)
    worker.serve_aside()
    assert not future.done()

    assert answering(database, queue).serve_some() == 2
    assert finished(future.result(timeout=5)).checked == CHECKED
    assert finished(other.result(timeout=5)).checked == CHECKED


def test_an_invocation_given_back_under_an_older_fence_stays_taken(
    database, client, org_id, queue
):
    client.begin(org_id, queue, CHECK)
    store = store_of(database)
    late = store.claim(queue)
    let_go(database, queue)
    assert late is not None
    assert store.claim(queue) is not None

    store.give_back(late)

    assert store.claim(queue) is None


def test_an_answer_that_cannot_be_kept_is_told(database, client, org_id, queue, caplog):
    future = client.begin(org_id, queue, CHECK)

    class Unreadable(Sandbox):
        def build(self, request):
            return CodeCheck(problem="half of a pair: \ud800")

    answering(database, queue, Unreadable()).serve_some()
    with pytest.raises(CallFailed, match="Error; the worker's log has it"):
        finished(future.result(timeout=5))
    assert "Traceback" in caplog.text


def test_who_stops_waiting_takes_the_invocation_back(database, client, org_id, queue):
    async def stop_waiting() -> None:
        asked = asyncio.create_task(client.ask(org_id, queue, CHECK))
        assert await asyncio.to_thread(wait_until, lambda: held(database, queue), deadline_s=5)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await asyncio.to_thread(
            wait_until, lambda: not held(database, queue), deadline_s=5
        )

    asyncio.run(stop_waiting())


def test_an_invocation_that_a_worker_has_is_answered_all_the_same(
    database, client, org_id, queue
):
    waiting = client.begin(org_id, queue, CHECK)
    store = store_of(database)
    invocation = store.claim(queue)
    assert invocation is not None
    waiting.cancel()
    warm(client, database, org_id)       # so that it has looked since

    store.answer(invocation, CheckAnswer(checked=CHECKED))

    assert held(database, queue) == 1


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


def is_serving(thread: threading.Thread) -> bool:
    return thread.name.startswith("invocation ")


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


