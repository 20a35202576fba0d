"""What every store of invocations does with what clients ask and workers answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from store_behaviours.logs import LogStores

from flows.invocations.client import AnswerStore
from flows.invocations.messages import (
    Answer,
    CheckAnswer,
    CheckRequest,
    FailureAnswer,
    Invocation,
    InvocationStore,
    Request,
    RunAnswer,
    RunRequest,
    UnpackRequest,
)
from ops.servers.children import wait_until
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.sandbox.model import CodeCheck, Program, Runtime
from spans.columns import SCORER_ARGUMENTS
from spans.ids import FunctionId, InvocationId, ProjectId, Xact
from spans.outcome import Errored, Failure, verdict_of
from spans.row import RowKey
from spans.scoring import Score, ScoringResult, Usage

CHECK = CheckRequest(runtime=Runtime.PYTHON, code="def handler(): return 1")
CHECKED = CodeCheck(program=Program(runtime=Runtime.PYTHON, code="x", parameters=()))
UNPACK = UnpackRequest(
    bundle="ab" * 32, runtime=Runtime.NODE, runtime_version="20", index=3
)
ANSWER_S = 10.0
"""Long beside the time that an answer takes, seconds."""


def function(name: str = "mine") -> FunctionVersion:
    return FunctionVersion(
        id=FunctionId(uuid.UUID(int=1)), project_id=ProjectId(uuid.UUID(int=2)),
        version=Xact(7), name=name, slug=name, kind=FunctionKind.CODE, program=CHECKED.program,
    )


@dataclass(kw_only=True)
class InvocationStores:
    """The stores of invocations of one database, and a queue of the test's own in it.

    `let_go` does to the queue's claims what the death of their worker does. `count` tells how
    many invocations of the queue are kept.
    """

    store: InvocationStore
    answers: AnswerStore
    logs: LogStores
    let_go: Callable[[str], None]
    count: Callable[[str], int]

    def __post_init__(self) -> None:
        self.queue = f"queue {uuid.uuid4().hex}"

    def ask(self, request: Request = CHECK) -> Future[Answer]:
        invocation_id = InvocationId(uuid.uuid4())
        future = self.answers.expect(invocation_id)
        self.store.ask(invocation_id, self.logs.org, self.queue, request)
        return future

    def claim(self) -> Invocation:
        found = self.store.claim(self.queue)
        assert found is not None
        return found


class InvocationBehaviours:
    """A subclass has a fixture `stores` that gives InvocationStores."""

    def test_each_invocation_is_claimed_once_the_oldest_first(
        self, stores: InvocationStores
    ) -> None:
        wanted = [CHECK, UNPACK, RunRequest(function=function())]
        for request in wanted:
            stores.ask(request)

        claims = [stores.claim() for _ in wanted]

        assert [claim.request for claim in claims] == wanted
        assert {claim.attempts for claim in claims} == {1}
        assert stores.store.claim(stores.queue) is None
        assert stores.store.claim("another queue") is None

    def test_a_request_reaches_the_worker_as_it_was(self, stores: InvocationStores) -> None:
        row = RowKey(stores.logs.where, "a\u2028b")
        asked = RunRequest(
            function=function(), records=({"input": {"z": 1, "a": None}}, {}), rows=(row,)
        )
        stores.ask(asked)

        request = stores.claim().request

        assert isinstance(request, RunRequest)
        assert request == asked
        assert list(request.records[0]["input"]) == ["z", "a"]   # ExactMatch depends on it

    def test_an_answer_reaches_the_client_as_it_was(self, stores: InvocationStores) -> None:
        scored = verdict_of(
            ScoringResult(
                scores=(Score(name="s", value=0.5, metadata={"z": 1, "a": 2}),
                        Score(name="none", value=None)),
                arguments={}, usage=Usage(calls=1, prompt_tokens=2, model="m"),
            ),
            started_at=1.0, run_ms=2.5, log="printed",
        )
        failure = Failure(error_class="error", message="why")
        declined = verdict_of(
            ScoringResult(scores=(Score(name="s", value=None),), arguments={}),
            started_at=1.0, run_ms=0.5,
        )
        errored = Errored(failure=failure, started_at=1.0, run_ms=2.0)
        for answer in (
            CheckAnswer(checked=CHECKED), RunAnswer(verdicts=(scored, declined, errored)),
            FailureAnswer(failure=failure),
        ):
            future = stores.ask()
            stores.store.answer(stores.claim(), answer)

            assert future.result(timeout=ANSWER_S) == answer

    def test_an_answer_counts_once_and_only_under_the_latest_claim(
        self, stores: InvocationStores
    ) -> None:
        future = stores.ask()
        late = stores.claim()
        stores.let_go(stores.queue)
        current = stores.claim()
        assert (current.id, current.attempts) == (late.id, 2)
        assert current.fence > late.fence

        stores.store.answer(late, CheckAnswer(checked=CodeCheck(problem="late")))
        stores.store.answer(current, CheckAnswer(checked=CHECKED))
        stores.store.answer(current, CheckAnswer(checked=CodeCheck(problem="again")))

        assert future.result(timeout=ANSWER_S) == CheckAnswer(checked=CHECKED)
        assert stores.store.claim(stores.queue) is None

    def test_an_invocation_that_is_given_back_is_claimed_by_the_next_worker(
        self, stores: InvocationStores
    ) -> None:
        stores.ask()
        first = stores.claim()

        stores.store.give_back(first)
        second = stores.claim()
        stores.store.give_back(first)    # under an older fence: it stays claimed

        assert (second.id, second.attempts) == (first.id, 2)
        assert stores.store.claim(stores.queue) is None

    def test_a_client_that_stops_waiting_withdraws_what_no_worker_has(
        self, stores: InvocationStores
    ) -> None:
        waiting = stores.ask()

        waiting.cancel()

        assert wait_until(lambda: not stores.count(stores.queue), deadline_s=ANSWER_S)
        assert stores.store.claim(stores.queue) is None

    def test_an_invocation_that_a_worker_has_outlives_its_client(
        self, stores: InvocationStores
    ) -> None:
        waiting, other = stores.ask(), stores.ask()
        claim = stores.claim()
        waiting.cancel()
        other.cancel()     # once this one is withdrawn, both were looked at
        assert wait_until(lambda: stores.count(stores.queue) == 1, deadline_s=ANSWER_S)

        stores.store.answer(claim, CheckAnswer(checked=CHECKED))

        assert stores.count(stores.queue) == 1

    def test_rows_are_given_in_order_with_what_a_scorer_may_take(
        self, stores: InvocationStores
    ) -> None:
        logs = stores.logs
        logs.send(
            logs.row("a", fields={"input": {"z": 1, "a": 2}, "tags": ["t"]}),
            logs.row("b"), logs.row("gone"),
        )
        logs.send(logs.row("gone", fields={}, is_delete=True))
        keys = [RowKey(logs.where, row_id) for row_id in ("b", "gone", "a", "unknown")]

        b, gone, a, unknown = stores.store.subjects(keys)

        assert (gone, unknown) == (None, None)
        assert a is not None
        assert b is not None
        assert (a.key, b.key) == (keys[2], keys[0])
        assert {name: a.view[name] for name in SCORER_ARGUMENTS} == {
            "input": {"z": 1, "a": 2}, "output": None, "expected": None, "metadata": None,
            "tags": ["t"],
        }
        assert b.view["input"] == "of b"
        assert stores.store.subjects([]) == []
