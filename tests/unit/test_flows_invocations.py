"""Invocations: a client asks, a worker serves between its batches, and each learns the end."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes.memory.invocations import MemoryInvocations
from fakes.sandbox import CRASH, FakeSandbox
from memory_tallyard import MemoryTallyard

from flows.invocations.client import INVOCATIONS_AT_ONCE, ROWS_PER_INVOCATION, finished
from flows.invocations.messages import (
    ATTEMPTS_MAX,
    Answer,
    CheckAnswer,
    CheckRequest,
    Invocation,
    RunAnswer,
    RunRequest,
)
from flows.invocations.server import INVOCATIONS_PER_LOOK, InvocationServer
from flows.logs.ingest import IngestRequest
from ops.servers.children import wait_until
from scorers.functions.body import BundledCode, InlineCode
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.run.trace import TRACE_SPANS_MAX
from scorers.sandbox.model import CodeCheck, Program, Runtime
from spans.errors import CallFailed, NoWorker, StoreUnavailable
from spans.ids import FunctionId, ProjectId, Xact
from spans.json import JsonObject
from spans.outcome import Errored, verdict_scores
from spans.queues import HEAVY, SANDBOX
from spans.row import RowKey, RowWrite

CHECK = CheckRequest(runtime=Runtime.PYTHON, code="1")
CODE = InlineCode(runtime=Runtime.PYTHON, code="1")


class World(MemoryTallyard):
    """A project with rows, and no worker but those that a test makes."""

    def __init__(self) -> None:
        super().__init__()
        self.servers.clear()
        self.app = self.project("app")
        self.where = self.projects.logs_of(self.admin, self.app)
        self.org = self.admin.org_id

    def write(self, **fields_by_id: JsonObject) -> list[RowKey]:
        writes = [
            RowWrite(key=RowKey(self.where, row_id), fields=fields)
            for row_id, fields in fields_by_id.items()
        ]
        self.rows.write([IngestRequest(
            org_id=self.org, sent_by="key", writes=tuple(writes)
        )])
        return [write.key for write in writes]

    def server(
        self, sandbox: FakeSandbox | None = None, *, queue: str = SANDBOX, **changes: Any
    ) -> InvocationServer:
        sandbox = sandbox or self.sandbox
        given = {
            "store": self.asked, "spans_of": self.rows.spans_of, "runner": sandbox,
            "check_code": sandbox.check, "ring": self.rung.append, **changes,
        }
        return InvocationServer(queue=queue, **given)

    def begin(self, request: Any = CHECK) -> Any:
        return self.client.begin(self.org, SANDBOX, request)

    def served(self, request: Any, sandbox: FakeSandbox | None = None) -> Any:
        """The answer of one server, however often it needs to try."""
        future = self.begin(request)
        server = self.server(sandbox)
        while server.serve_some():
            pass
        return future.result(timeout=0)

    def run(self, function: FunctionVersion, **asked: Any) -> list[Any]:
        """What a client gets that waits while a worker answers its bell."""
        self.servers[SANDBOX] = self.server()
        return asyncio.run(self.client.run(self.org, function, **asked))


@pytest.fixture
def world() -> World:
    return World()


def function(code: str = "output", **changes: Any) -> FunctionVersion:
    program = Program(runtime=Runtime.PYTHON, code=code, parameters=("output",))
    given = {
        "id": FunctionId(uuid.UUID(int=1)), "project_id": ProjectId(uuid.UUID(int=2)),
        "version": Xact(7), "name": "mine", "slug": "mine", "kind": FunctionKind.CODE,
        "program": program, **changes,
    }
    return FunctionVersion(**given)


def values(verdicts: Sequence[Any]) -> list[Any]:
    """The value of each verdict's score, or the class of its error."""
    return [
        verdict.failure.error_class if isinstance(verdict, Errored)
        else verdict_scores(verdict)[0].value
        for verdict in verdicts
    ]


# --- the client


def test_verdicts_come_in_the_order_of_records_and_then_of_rows(world: World) -> None:
    rows = world.write(a={"output": 0.25}, b={"output": "text"})
    gone = RowKey(world.where, "gone")

    verdicts = world.run(
        function(), records=[{"output": 1}, {"output": None}], rows=[rows[1], gone, rows[0]]
    )

    assert values(verdicts) == [1.0, None, "error", "not_found", 0.25]
    assert "'gone' is gone" in verdicts[3].failure.message
    assert all(
        verdict.result.arguments == {} for verdict in verdicts
        if not isinstance(verdict, Errored)
    )


def test_many_rows_are_several_invocations_few_of_them_at_once(world: World) -> None:
    count = ROWS_PER_INVOCATION * INVOCATIONS_AT_ONCE + 1
    rows = world.write(**{f"r{n}": {"output": n / count} for n in range(count)})
    enqueued: list[int] = []
    all_at_once = threading.Barrier(
        INVOCATIONS_AT_ONCE, action=lambda: enqueued.append(world.asked.count(SANDBOX))
    )

    class Together(FakeSandbox):
        def run(self, function: Any, records: Any) -> Any:
            if len(records) == ROWS_PER_INVOCATION:
                all_at_once.wait(timeout=30)
            return super().run(function, records)

    world.sandbox = Together()
    verdicts = world.run(function(), rows=rows)

    assert values(verdicts) == [n / count for n in range(count)]
    assert enqueued == [INVOCATIONS_AT_ONCE]      # the last one was not enqueued yet
    assert len(world.sandbox.ran) == INVOCATIONS_AT_ONCE + 1


def test_code_is_checked_by_a_sandbox_worker(world: World) -> None:
    world.servers[SANDBOX] = world.server()
    bundle = BundledCode(
        runtime=Runtime.NODE, runtime_version="20", bundle="ab" * 32, index=3
    )

    inline, packed, wrong = (
        asyncio.run(world.client.check(world.org, code))
        for code in (CODE, bundle, replace(CODE, code="no scorer"))
    )

    assert world.sandbox.checked[:2] == [CODE, bundle]
    assert inline.program is not None
    assert packed.program is not None
    assert (packed.program.bundle, packed.program.index) == (bundle.bundle, 3)
    assert (wrong.program, wrong.line) == (None, 1)


def test_a_queue_whose_workers_cannot_answer_is_asked_nothing(world: World) -> None:
    world.refusals[SANDBOX] = "no sandbox can be started on host: install bubblewrap"

    with pytest.raises(NoWorker, match="install bubblewrap"):
        world.begin()

    assert (world.asked.count(SANDBOX), world.rung) == (0, [])


def test_an_invocation_that_is_not_stored_is_waited_for_by_nobody(world: World) -> None:
    world.asked.away = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        world.begin()
    with pytest.raises(StoreUnavailable):
        asyncio.run(world.client.check(world.org, CODE))
    assert (world.asked.count(SANDBOX), world.rung) == (0, [])


def test_a_client_that_stops_waiting_withdraws_its_invocation(world: World) -> None:
    async def stop_waiting() -> None:
        asked = asyncio.create_task(world.client.ask(world.org, SANDBOX, CHECK))
        assert await asyncio.to_thread(
            wait_until, lambda: world.asked.count(SANDBOX), deadline_s=10
        )
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(stop_waiting())
    assert world.asked.count(SANDBOX) == 0


def test_a_client_that_stops_before_its_invocation_is_stored_withdraws_it_then(
    world: World,
) -> None:
    entered, opened = threading.Event(), threading.Event()

    class Slow(MemoryInvocations):
        def ask(self, *asked: Any) -> None:
            entered.set()
            assert opened.wait(timeout=30)
            super().ask(*asked)

    slow = Slow(rows=world.rows)
    client = replace(world.client, store=slow, answers=slow)

    async def stop_waiting() -> None:
        asked = asyncio.create_task(client.ask(world.org, SANDBOX, CHECK))
        await asyncio.to_thread(entered.wait, 30)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        opened.set()
        assert await asyncio.to_thread(
            wait_until, lambda: world.rung and slow.count(SANDBOX) == 0, deadline_s=10
        )

    asyncio.run(stop_waiting())


def test_an_answer_to_another_question_is_an_error(world: World) -> None:
    class Confused(MemoryInvocations):
        def answer(self, invocation: Invocation, answer: Answer) -> None:
            is_check = isinstance(answer, CheckAnswer)
            other = RunAnswer(verdicts=()) if is_check else CheckAnswer(checked=CodeCheck())
            super().answer(invocation, other)

    confused = Confused(rows=world.rows)
    client = replace(world.client, store=confused, answers=confused)
    world.servers[SANDBOX] = world.server(store=confused)

    with pytest.raises(CallFailed, match="was to check it"):
        asyncio.run(client.check(world.org, CODE))
    with pytest.raises(CallFailed, match="was to run it"):
        asyncio.run(client.run(world.org, function(), records=[{}]))


# --- the server


def test_a_function_that_takes_the_trace_gets_its_spans(world: World) -> None:
    rows = world.write(
        a={"span_id": "r", "root_span_id": "r", "output": 1},
        b={"span_id": "s", "root_span_id": "r", "span_parents": ["r"], "output": 0},
        c={"output": 1},
    )
    program = Program(runtime=Runtime.PYTHON, code="output", parameters=("output", "trace"))

    assert values(world.run(function(program=program), rows=rows)) == [1.0, 0.0, 1.0]

    ((_, records),) = world.sandbox.ran
    traces = [[span["id"] for span in record["trace"]["spans"]] for record in records]
    assert traces == [["a", "b"], ["a", "b"], ["c"]]
    world.run(function(), rows=rows)
    assert "trace" not in world.sandbox.ran[-1][1][0]


def test_a_trace_that_is_too_large_is_the_error_of_its_rows_alone(world: World) -> None:
    many = {f"r{n}": {"root_span_id": "large"} for n in range(TRACE_SPANS_MAX + 1)}
    world.write(**many)
    (small,) = world.write(small={"output": 1})
    rows = [RowKey(world.where, "r0"), small]
    program = Program(runtime=Runtime.PYTHON, code="output", parameters=None)

    verdicts = world.run(function(program=program), rows=rows)

    assert values(verdicts) == ["trace_too_large", 1.0]
    assert len(world.sandbox.ran[0][1]) == 1


def test_rows_that_are_all_gone_run_nothing(world: World) -> None:
    gone = [RowKey(world.where, "gone")]
    assert values(world.run(function(), rows=gone)) == ["not_found"]
    assert world.sandbox.ran == []


def test_global_scorers_run_in_the_workers_own_process(world: World) -> None:
    exact = function(
        program=None, kind=FunctionKind.GLOBAL, global_name="ExactMatch", name="same"
    )
    world.servers[HEAVY] = MemoryTallyard().servers[HEAVY]
    world.servers[HEAVY].store = world.asked

    verdicts = asyncio.run(world.client.run(
        world.org, exact, records=[{"output": "a", "expected": "a"}, {"output": "a"}]
    ))

    assert values(verdicts)[0] == 1.0
    assert verdict_scores(verdicts[0])[0].name == "same"


def test_a_worker_serves_a_few_and_goes_back_to_its_own_work(world: World) -> None:
    futures = [world.begin() for _ in range(INVOCATIONS_PER_LOOK + 1)]
    server = world.server()

    assert server.serve_some() == INVOCATIONS_PER_LOOK
    assert [future.done() for future in futures] == [True] * INVOCATIONS_PER_LOOK + [False]
    assert [server.serve_some(), server.serve_some()] == [1, 0]


def test_calls_are_answered_together_as_far_as_there_is_room(world: World) -> None:
    first, second = threading.Barrier(3), threading.Barrier(2)
    held: list[object] = []

    class Slow(FakeSandbox):
        def check(self, code: Any) -> CodeCheck:
            held.append(code)
            (first if len(held) <= 2 else second).wait(timeout=30)
            return super().check(code)

    futures = [world.begin() for _ in range(3)]
    together = world.server(Slow(), at_once=2)

    assert together.serve_aside() == 2
    assert wait_until(lambda: len(held) == 2, deadline_s=10)
    assert together.serve_aside() == 0
    first.wait(timeout=30)
    # Nobody looks again: the thread that has ended takes what is left.
    assert wait_until(lambda: len(held) == 3, deadline_s=10)
    second.wait(timeout=30)
    assert all(finished(each.result(timeout=10)).checked.program for each in futures)
    together.finish(within_s=10)
    assert wait_until(lambda: not any(map(is_serving, threading.enumerate())), deadline_s=10)


def test_a_worker_that_stops_gives_its_invocation_back_and_takes_no_other(
    world: World,
) -> None:
    future, other = world.begin(), world.begin()

    class Stopped(FakeSandbox):
        """What it runs is taken away under it."""

        def check(self, code: Any) -> CodeCheck:
            worker.stopping.set()
            raise RuntimeError("cannot schedule new futures after shutdown")

    worker = world.server(Stopped())
    worker.serve_aside()
    worker.finish(within_s=10)
    assert wait_until(lambda: not any(map(is_serving, threading.enumerate())), deadline_s=10)
    assert worker.serve_aside() == 0
    assert not future.done()

    assert world.server().serve_some() == 2
    for each in (future, other):
        assert finished(each.result(timeout=0)).checked.program is not None


REQUESTS = pytest.mark.parametrize(
    "request_",
    [CHECK, RunRequest(function=function(), records=({"output": 1}, {"output": 0}))],
    ids=["check", "run"],
)


@REQUESTS
def test_a_sandbox_that_is_lost_is_no_answer(world: World, request_: Any) -> None:
    sandbox = FakeSandbox(lost=1)

    answer = finished(world.served(request_, sandbox))

    assert world.rung == [SANDBOX] * 2     # one of the client, one for the next worker
    if isinstance(answer, CheckAnswer):
        assert answer.checked.program is not None
    else:
        assert values(answer.verdicts) == [1.0, 0.0]


@REQUESTS
def test_a_sandbox_that_is_lost_each_time_is_told(world: World, request_: Any) -> None:
    answer = world.served(request_, FakeSandbox(lost=ATTEMPTS_MAX))

    assert world.rung == [SANDBOX] * ATTEMPTS_MAX
    if request_ is CHECK:
        with pytest.raises(CallFailed, match="infra_error: no jail"):
            finished(answer)
    else:
        assert values(finished(answer).verdicts) == [0.0, "sandbox_lost"]


def test_an_invocation_that_kills_its_workers_is_answered_in_the_end(world: World) -> None:
    future = world.begin()
    for _ in range(ATTEMPTS_MAX):
        assert world.asked.claim(SANDBOX) is not None
        world.asked.let_go(SANDBOX)

    assert world.server().serve_some() == 1

    with pytest.raises(CallFailed, match="3 workers died"):
        finished(future.result(timeout=0))
    assert world.sandbox.checked == []


def test_an_error_that_nobody_foresaw_is_answered_without_its_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CallFailed, match="ZeroDivisionError; the worker's log") as caught:
        finished(world.served(RunRequest(function=function(CRASH), records=({},))))
    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


def test_a_worker_that_checks_no_code_says_so(world: World) -> None:
    future = world.begin()
    world.server(check_code=None).serve_some()
    with pytest.raises(CallFailed, match="cannot check code"):
        finished(future.result(timeout=0))


def test_an_answer_waits_for_a_store_that_is_away_for_a_moment(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Flaky(MemoryInvocations):
        failures = 1

        def answer(self, invocation: Invocation, answer: Answer) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise StoreUnavailable("gone")
            super().answer(invocation, answer)

    flaky = Flaky(rows=world.rows)
    future = replace(world.client, store=flaky, answers=flaky).begin(world.org, SANDBOX, CHECK)
    with caplog.at_level(logging.WARNING):
        assert world.server(store=flaky).serve_some() == 1

    assert finished(future.result(timeout=0)).checked.program is not None
    assert "gone" in caplog.text
    assert len(world.sandbox.checked) == 1      # it is not run a second time


def is_serving(thread: threading.Thread) -> bool:
    return thread.name.startswith("invocation ")
