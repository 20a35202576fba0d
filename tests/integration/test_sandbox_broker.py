"""Which calls leave a jail through the broker's socket, and which are refused."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import parse_headers
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from fakes.judge import FakeJudge
from fakes.memory.functions import MemoryBundles
from fakes.memory.purse import MemoryPurse
from fakes.memory.token_budget import MemoryTokenBudget
from judges import endpoint_at
from stack import ROOT

from ops.servers.children import wait_until
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.judge.endpoints import Endpoint, Endpoints
from scorers.judge.prices import Prices, PriceTable
from scorers.run.code import CodeBuilder, CodeScorers
from scorers.sandbox.lending.broker import Broker, Lent
from scorers.sandbox.lending.conversation import BODY_BYTES_MAX, REQUESTS_MAX
from scorers.sandbox.model import CodeEnd, Limits, Program, Runtime
from scorers.sandbox.place import find_place
from scorers.sandbox.pool import Owner, Sandboxes
from spans.errors import (
    BudgetSpent,
    JudgeRefused,
    JudgeUnavailable,
    JudgeUnpaid,
    RateLimited,
    StoreUnavailable,
    Timeout,
    TransientError,
)
from spans.ids import FunctionId, ProjectId, Xact
from spans.outcome import Errored
from spans.scoring import Usage

SCORERS_PYTHON = ROOT / ".venv-scorers" / "bin" / "python"
KEY = "sk-of-the-operator"
MODEL, OTHER = "gpt-4o-mini", "gpt-4o"
CHAT = "/v1/chat/completions"
HOST = "Host: llm.internal\r\n"
POST = f"POST {CHAT} HTTP/1.1\r\n{HOST}"
HELLO = [{"role": "user", "content": "hello"}]
ASKED = {"model": MODEL, "messages": HELLO}


def request(body: object, *, path: str = CHAT, method: str = "POST") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\n{HOST}Content-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


class Scorer:
    """The other end: what a scorer's code could do with its descriptor."""

    def __init__(
        self, broker: Broker, *, models: tuple[str, ...] = (MODEL,),
        purse: MemoryPurse | None = None,
    ) -> None:
        ours, self.end = socket.socketpair()
        self.end.settimeout(10)
        self.received = self.end.makefile("rb")
        self.lent = Lent()

        def serve() -> None:
            self.lent = broker.serve(ours, scorer_id="one", models=models, purse=purse)

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()

    def ask(self, body: object, *, path: str = CHAT, method: str = "POST") -> tuple[int, dict]:
        self.send(request(body, path=path, method=method))
        return self.answer()

    def send(self, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.end.sendall(data)

    def answer(self) -> tuple[int, dict]:
        status = int(self.received.readline().split()[1])
        headers = parse_headers(self.received)
        return status, json.loads(self.received.read(int(headers["content-length"])))

    def is_let_go(self) -> bool:
        """Whether the broker has hung up."""
        try:
            return self.received.read(1) == b""
        except ConnectionResetError:
            return True

    def leave(self) -> Lent:
        self.received.close()
        self.end.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.lent


def broker_to(fake: FakeJudge, *, timeout_s: float = 5.0, **changes: object) -> Broker:
    settings = {
        "endpoints": Endpoints(endpoint_at(fake.url, key=KEY, timeout_s=timeout_s)),
        "models": frozenset({MODEL, OTHER}), "tokens_per_call": 100,
        "budget": MemoryTokenBudget(),
    }
    return Broker(**{**settings, **changes})


@pytest.fixture
def scorer(fake: FakeJudge) -> Iterator[Scorer]:
    made = Scorer(broker_to(fake))
    yield made
    made.leave()


def code(answer: tuple[int, dict]) -> tuple[int, str]:
    status, body = answer
    return status, body["error"]["code"]


@pytest.mark.parametrize(
    ("path", "body", "ceiling"),
    [
        (CHAT, ASKED, {"max_tokens": 100}),
        ("/v1/responses", {"model": MODEL, "input": "hello"}, {"max_output_tokens": 100}),
        ("/v1/embeddings", {"model": MODEL, "input": "hello"}, {}),
    ],
)
def test_the_three_calls_are_made_with_the_operators_key_and_a_ceiling(
    fake, scorer, path, body, ceiling
):
    status, answer = scorer.ask(body, path=path)

    assert status == 200
    assert "usage" in answer
    (call,) = fake.calls
    assert (f"/v1{call.path}", call.key) == (path, KEY)
    assert call.body == {**body, **ceiling}


def test_many_requests_go_over_one_connection_and_are_summed_up(fake, scorer):
    for _ in range(5):
        assert scorer.ask(ASKED)[0] == 200

    lent = scorer.leave()

    assert lent.failure is None
    assert lent.usage == Usage(calls=5, prompt_tokens=5, completion_tokens=35, model=MODEL)
    assert len(fake.calls) == 5


@pytest.mark.parametrize(
    ("wanted", "allowed"), [((MODEL,), False), ((MODEL, OTHER), True), ((), False)]
)
def test_a_model_needs_both_the_author_and_the_operator(fake, wanted, allowed):
    scorer = Scorer(broker_to(fake), models=(*wanted, "only-the-author"))

    assert (scorer.ask({**ASKED, "model": OTHER})[0] == 200) is allowed
    assert code(scorer.ask({**ASKED, "model": "only-the-author"})) == (403, "model_not_allowed")

    assert len(fake.calls) == allowed
    scorer.leave()


@pytest.mark.parametrize(
    "change",
    [
        {"model": ["gpt-4o-mini"]},
        {"model": None},
    ],
)
def test_a_model_that_is_no_name_is_none_that_is_allowed(fake, scorer, change):
    assert code(scorer.ask({**ASKED, **change})) == (403, "model_not_allowed")
    assert not fake.calls


# Each would be a way out of the jail, a way into what is stored at the endpoint, or a way
# past the ceiling.
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"stream": True}),
        (CHAT, {"n": 1000}),
        (CHAT, {"max_tokens": 0}),
        (CHAT, {"max_tokens": "many"}),
        (CHAT, {"store": True}),
        (CHAT, {"web_search_options": {}}),
        (CHAT, {"modalities": ["audio"]}),
        (CHAT, {"extra_body": {}}),
        (CHAT, {"tools": [{"type": "web_search"}]}),
        (CHAT, {"tools": {"type": "function"}}),
        (CHAT, {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://evil.example/?secret"}}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": {"type": "file", "file_id": "f"}}]}),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "of-another"}}]}),
        (CHAT, {"messages": [3]}),
        (CHAT, {"messages": [{"role": "user", "type": []}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": {}}]}]}),
        (CHAT, {"tools": [{"type": []}]}),
        ("/v1/responses", {"input": "x", "tools": [
            {"type": "mcp", "server_label": "x", "server_url": "http://evil.example"}]}),
        ("/v1/responses", {"input": "x", "background": True}),
        ("/v1/responses", {"input": "x", "previous_response_id": "of-another"}),
        ("/v1/responses", {"input": "x", "prompt": {"id": "of-another"}}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "of-another"}]}),
        ("/v1/responses", {"input": [{"id": "of-another"}]}),
        ("/v1/responses", {"input": [{"type": "message", "role": "user", "content": [
            {"type": "input_image", "image_url": "http://evil.example"}]}]}),
        ("/v1/responses", {"input": [{"type": "function_call_output", "call_id": "c",
            "output": [{"type": "input_file", "file_url": "http://evil.example"}]}]}),
        ("/v1/embeddings", {"input": "x", "user": "x"}),
    ],
)
def test_what_would_lead_elsewhere_or_past_the_ceiling_is_refused(fake, scorer, path, body):
    base = {"model": MODEL, "messages": HELLO} if path == CHAT else {"model": MODEL}

    assert code(scorer.ask({**base, **body}, path=path)) == (400, "invalid_request_error")

    assert not fake.calls
    assert scorer.ask(ASKED)[0] == 200   # the connection is as good as before


def test_the_smaller_of_two_ceilings_counts_by_the_name_that_the_model_knows(fake, scorer):
    for body in ({"max_tokens": 7}, {"max_completion_tokens": 10**9}, {"max_tokens": None}):
        assert scorer.ask({**ASKED, **body})[0] == 200
    fake.refuses.add("max_tokens")
    other = Scorer(broker_to(fake, models=frozenset({"o3"})), models=("o3",))
    for _ in range(2):
        assert other.ask({**ASKED, "model": "o3"})[0] == 200
    other.leave()

    names = ("max_tokens", "max_completion_tokens")
    assert [tuple(call.body.get(name) for name in names) for call in fake.calls] == [
        (7, None), (None, 100), (100, None), (100, None), (None, 100), (None, 100),
    ]


def test_a_model_is_asked_at_its_own_endpoint(fake):
    with FakeJudge() as elsewhere:
        other = Endpoint(
            name="other", base_url=elsewhere.url, api_key="sk-other", timeout_s=5, in_flight=1,
            models=(OTHER,),
        )
        endpoints = Endpoints(endpoint_at(fake.url, key=KEY), [other])
        scorer = Scorer(broker_to(fake, endpoints=endpoints), models=(MODEL, OTHER))
        for model in (MODEL, OTHER):
            assert scorer.ask({**ASKED, "model": model})[0] == 200
        scorer.leave()
        assert [(call.key, call.model) for call in elsewhere.calls] == [("sk-other", OTHER)]
    assert [(call.key, call.model) for call in fake.calls] == [(KEY, MODEL)]


def test_a_call_is_never_made_without_its_ceiling(fake, scorer):
    fake.refuses |= {"max_tokens", "max_completion_tokens"}

    assert code(scorer.ask(ASKED)) == (400, "judge_unfit")

    assert all({*call.body} & fake.refuses for call in fake.calls)


@pytest.mark.parametrize(
    ("path", "method", "wanted"),
    [
        ("/v1/moderations", "POST", (404, "not_found")),
        ("/v1/chat/completions/../files", "POST", (404, "not_found")),
        ("http://evil.example/v1/chat/completions", "POST", (404, "not_found")),
        ("/v1/models", "GET", (404, "not_found")),
        (CHAT, "GET", (405, "invalid_request_error")),
    ],
)
def test_there_is_nothing_else_behind_it(fake, scorer, path, method, wanted):
    assert code(scorer.ask(ASKED, path=path, method=method)) == wanted
    assert not fake.calls


@pytest.mark.parametrize("body", [b"{", b"[1]", b"", b"\xff", b"[" * 100_000, b'"x"'])
def test_a_body_that_is_no_object_is_refused(fake, scorer, body):
    assert code(scorer.ask(body)) == (400, "invalid_request_error")
    assert not fake.calls


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"{POST}Content-Length: {BODY_BYTES_MAX + 1}\r\n\r\n", 413),
        (f"{POST}Content-Length: {'9' * 4000}\r\n\r\n", 400),
        (f"{POST}Content-Length: -1\r\n\r\n", 400),
        (f"{POST}Content-Length: \u00b2\r\n\r\n", 400),
        (f"{POST}Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (f"{POST}\r\n", 411),
        (f"{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (f"{POST}Transfer-Encoding: x\r\nContent-Length: 1\r\n\r\n", 501),
        (f"POST {CHAT} HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 400),
        (f"{POST}Content-Length : 1\r\n\r\n", 400),
        (f"POST {CHAT} HTTP/1.0\r\n{HOST}Content-Length: 1\r\n\r\n", 400),
        ("\0\r\n\r\n", 400),
        (f"{POST}X: {'x' * 100_000}\r\n\r\n", 431),
        ("x" * 100_000, 431),
    ],
)
def test_what_cannot_be_told_from_the_next_request_ends_the_connection(fake, head, status):
    scorer = Scorer(broker_to(fake))

    scorer.send(head.encode("latin-1"))

    assert scorer.answer()[0] == status
    assert scorer.is_let_go()
    assert not fake.calls
    scorer.leave()


def test_a_request_may_come_in_pieces_and_another_with_it(fake, scorer):
    both = request(ASKED) * 2
    for place in range(0, len(both), 7):
        scorer.send(both[place : place + 7])

    assert [scorer.answer()[0] for _ in range(2)] == [200, 200]


def test_an_answer_to_head_has_no_body_and_the_next_begins_behind_it(fake, scorer):
    scorer.send(request(ASKED, method="HEAD"))
    status = int(scorer.received.readline().split()[1])
    parse_headers(scorer.received)

    assert status == 405
    assert scorer.ask(ASKED)[0] == 200
    assert len(fake.calls) == 1


def test_who_asks_for_an_end_gets_an_answer_and_then_the_end(fake, scorer):
    scorer.send(request(ASKED).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    assert scorer.answer()[0] == 200
    assert scorer.is_let_go()


def test_100_megabytes_are_not_read(fake):
    scorer = Scorer(broker_to(fake))
    size = 100 * 2**20

    scorer.send(f"{POST}Content-Length: {size}\r\n\r\n".encode())
    scorer.send(b"x" * size)

    assert scorer.answer()[0] == 413
    assert scorer.is_let_go()
    scorer.leave()


def test_a_request_that_drips_is_given_up(fake):
    scorer = Scorer(broker_to(fake))

    scorer.send(f"{POST}Content-Length: 1000\r\n\r\n{{".encode())

    assert scorer.is_let_go()
    scorer.leave()


def test_an_answer_that_nobody_reads_is_given_up(fake):
    scorer = Scorer(broker_to(fake))
    long = [{"role": "user", "content": f"judge!ok;text={'x' * 900_000}"}]

    scorer.send(request({**ASKED, "messages": long}))

    assert wait_until(lambda: not scorer.thread.is_alive(), deadline_s=30)
    scorer.leave()


def test_ten_thousand_requests_are_not_made(fake):
    scorer = Scorer(broker_to(fake))
    writing = threading.Thread(
        target=scorer.send, args=(request(ASKED) * 10_000,), daemon=True
    )
    writing.start()

    statuses = [scorer.answer()[0] for _ in range(REQUESTS_MAX + 1)]

    assert set(statuses[:-1]) == {200}
    assert statuses[-1] == 429
    assert scorer.is_let_go()
    assert len(fake.calls) == REQUESTS_MAX
    assert fake.in_flight_max == 1
    writing.join(10)
    scorer.leave()


def test_the_key_is_nowhere_but_in_the_header(fake, scorer):
    fake.then("401;echo=1", "429;echo=1;retry-after=3", "500;echo=1", "html", "bad_json")

    bodies = [scorer.ask(ASKED) for _ in range(5)]

    assert [status for status, _ in bodies] == [502, 429, 502, 502, 502]
    assert KEY not in json.dumps(bodies)
    assert fake.url not in json.dumps(bodies)
    assert all(call.key == KEY and KEY not in json.dumps(call.body) for call in fake.calls)
    assert KEY not in repr(broker_to(fake))


def test_a_scorer_reads_what_the_server_said_and_not_where_it_stands(fake):
    fake.then("400;message=no_such_model")
    scorer = Scorer(broker_to(fake))
    away = Scorer(broker_to(fake, endpoints=Endpoints(endpoint_at("http://127.0.0.1:9/v1"))))

    refused, unreachable = scorer.ask(ASKED), away.ask(ASKED)

    assert "no_such_model" in refused[1]["error"]["message"]
    assert code(unreachable) == (502, "judge_unavailable")
    assert "127.0.0.1" not in json.dumps([refused, unreachable])
    scorer.leave()
    away.leave()


def test_a_refusal_names_the_endpoint_and_no_address(fake):
    port = urlsplit(fake.url).port
    other = Endpoint(
        name="paid", base_url=fake.url, api_key=KEY, timeout_s=5, in_flight=1, models=(OTHER,)
    )
    elsewhere = endpoint_at("http://127.0.0.1:9/v1")   # the same host, and another port
    broker = broker_to(fake, endpoints=Endpoints(elsewhere, [other]))
    scorer = Scorer(broker, models=(OTHER,))
    fake.reply(402, {"error": {"message": f"pay at {fake.url}/billing or 127.0.0.1:{port}."}})

    _, body = scorer.ask({**ASKED, "model": OTHER})

    assert body["error"]["message"] == (
        "the endpoint paid answered 402: pay at the endpoint or the endpoint.; "
        "pay at the provider or raise the quota there"
    )
    scorer.leave()


@pytest.mark.parametrize(
    ("listed", "allowed", "blamed"),
    [
        ((OTHER,), MODEL, {"the scorer's author"}),
        ((MODEL,), OTHER, {"the operator"}),
        ((OTHER,), OTHER, {"the scorer's author", "the operator"}),
        ((MODEL,), "", {"the operator"}),
    ],
)
def test_a_refused_model_names_who_has_not_listed_it(fake, listed, allowed, blamed):
    scorer = Scorer(broker_to(fake, models=frozenset({allowed} - {""})), models=listed)

    status, body = scorer.ask(ASKED)

    message = body["error"]["message"]
    assert status == 403
    assert {who for who in ("the scorer's author", "the operator") if who in message} == blamed
    assert ("metadata.sandbox.models" in message) is ("the scorer's author" in blamed)
    assert ("TALLYARD_SANDBOX_MODELS" in message) is ("the operator" in blamed)
    scorer.leave()


@pytest.mark.parametrize(
    ("behaviours", "failure"),
    [
        (["502"], JudgeUnavailable),
        (["429;retry-after=7"], RateLimited),
        (["hang"], Timeout),
        (["reset"], JudgeUnavailable),
        (["402"], JudgeUnpaid),
        (["401"], JudgeRefused),
        (["redirect"], JudgeRefused),
        (["401", "503", "402"], JudgeUnavailable),   # what time may heal comes first
        (["503", "ok"], JudgeUnavailable),           # code that asks at once may need them all
        (["400"], None),
        (["400;message=no_such_model"], None),
        (["ok"], None),
    ],
)
def test_a_call_that_fails_by_no_fault_of_the_code_is_remembered(fake, behaviours, failure):
    scorer = Scorer(broker_to(fake, timeout_s=0.5))
    fake.then(*behaviours)

    for _ in behaviours:
        scorer.ask(ASKED)

    found = scorer.leave().failure
    assert (found and type(found)) is failure
    if found is not None:
        assert str(found).startswith("a call to the endpoint default failed: judge http://")
    if isinstance(found, RateLimited):
        assert found.retry_after_s == 7


@pytest.mark.parametrize(
    ("behaviour", "status"), [("hang", 504), ("reset", 502), ("huge", 502), ("redirect", 502)]
)
def test_an_endpoint_that_fails_costs_one_answer_and_no_more(fake, behaviour, status):
    scorer = Scorer(broker_to(fake, timeout_s=0.5))
    fake.then(behaviour)

    assert scorer.ask(ASKED)[0] == status
    assert scorer.ask(ASKED)[0] == 200
    scorer.leave()


def test_a_scorer_that_dies_takes_its_call_with_it(fake):
    scorer = Scorer(broker_to(fake, timeout_s=60.0))
    fake.then("hang")
    scorer.send(request(ASKED))
    assert wait_until(lambda: len(fake.calls) == 1, deadline_s=10)

    scorer.leave()


def test_a_host_that_hangs_up_ends_it(fake):
    broker = broker_to(fake)
    ours, theirs = socket.socketpair()
    serving = threading.Thread(
        target=broker.serve, args=(ours,), kwargs={"scorer_id": "one", "models": (MODEL,)}
    )
    serving.start()

    ours.shutdown(socket.SHUT_RDWR)

    serving.join(10)
    assert not serving.is_alive()
    theirs.close()


def test_a_scorer_that_has_spent_its_day_makes_no_more_calls(fake):
    budget = MemoryTokenBudget(per_day=400)
    scorer = Scorer(broker_to(fake, budget=budget))

    statuses = [scorer.ask(ASKED)[0] for _ in range(60)]

    made = statuses.count(200)
    assert made == len(fake.calls) > 1
    assert statuses == [200] * made + [429] * (60 - made)
    assert budget.left("one") == 400 - made * 8   # 1 of the prompt, 7 of the answer
    assert code(scorer.ask(ASKED)) == (429, "insufficient_quota")
    scorer.leave()


@pytest.mark.parametrize(
    ("behaviour", "is_charged"),
    [("429", False), ("400", False), ("500", True), ("hang", True), ("uncounted", True)],
)
def test_only_what_an_endpoint_surely_did_not_charge_is_given_back(fake, behaviour, is_charged):
    budget = MemoryTokenBudget()
    scorer = Scorer(broker_to(fake, budget=budget, timeout_s=0.5))
    fake.then(behaviour)

    scorer.ask(ASKED)

    scorer.leave()
    assert budget.left("one") == 1_000_000 - (budget.reserved[0] if is_charged else 0)


class AwayBudget(MemoryTokenBudget):
    """One whose database is away."""

    def reserve(self, scorer_id: str, tokens: int) -> bool:
        raise StoreUnavailable("PostgreSQL: 10.1.2.3 is gone")


class LateBudget(MemoryTokenBudget):
    """One whose database goes away during a call."""

    def give_back(self, scorer_id: str, tokens: int) -> None:
        raise StoreUnavailable("PostgreSQL: 10.1.2.3 is gone")


def test_without_a_place_to_count_no_call_is_made_and_nothing_told_of_it(fake):
    scorer = Scorer(broker_to(fake, budget=AwayBudget()))

    answer = scorer.ask(ASKED)

    assert code(answer) == (503, "store_unavailable")
    assert "10.1.2.3" not in json.dumps(answer)
    assert not fake.calls
    scorer.leave()


def test_an_answer_that_is_paid_for_is_given_even_if_its_change_is_lost(fake):
    scorer = Scorer(broker_to(fake, budget=LateBudget()))

    assert scorer.ask(ASKED)[0] == 200
    scorer.leave()


def test_a_body_of_any_depth_is_sent_or_refused(fake):
    scorer = Scorer(broker_to(fake))

    depths = range(900, 1000)
    statuses = {
        scorer.ask(b'{"model": "gpt-4o-mini", "messages": [], "logit_bias": '
                   + b"[" * depth + b"]" * depth + b"}")[0]
        for depth in depths
    }

    assert statuses <= {200, 400}
    assert scorer.ask(ASKED)[0] == 200
    scorer.leave()


PYTHON = """
from tallyard import llm
def handler(input):
    try:
        answer = llm.chat(model=input, messages=[{"role": "user", "content": "hi"}])
        return {"score": 1, "metadata": {"said": answer["choices"][0]["message"]["content"]}}
    except llm.LlmError as error:
        return {"score": 0, "metadata": {"said": error.code}}
"""
JAVASCRIPT = """
export async function handler({ input }) {
  try {
    const asked = { model: input, messages: [{ role: 'user', content: 'hi' }] };
    const answer = await tallyard.llm.chat(asked);
    return { score: 1, metadata: { said: answer.choices[0].message.content } };
  } catch (error) { return { score: 0, metadata: { said: error.code } }; }
}
"""
NEEDS_ITS_MODEL = """
from tallyard import llm
def handler(input):
    try:
        llm.chat(model="gpt-4o-mini", messages=[{"role": "user", "content": input}])
    except llm.LlmError:
        if input.endswith("or not"):
            return 0.5
        raise
    return 1
"""
NEEDS_ITS_MODEL_TOO = """
export async function handler({ input }) {
  try {
    const messages = [{ role: 'user', content: input }];
    await tallyard.llm.chat({ model: 'gpt-4o-mini', messages });
  } catch (error) {
    if (input.endsWith('or not')) return 0.5;
    throw error;
  }
  return 1;
}
"""
WANTS_THE_KEY = """
import gc, os
def handler():
    memory = " ".join(str(each) for each in gc.get_objects() if isinstance(each, (str, dict)))
    return {"score": "sk-of" "-the-operator" in memory + str(os.environ)}
"""


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Sandboxes]:
    made = Sandboxes(find_place(), kept=4, idle_s=60.0)
    yield made
    made.close()


def said(sandboxes: Sandboxes, runtime: Runtime, code: str, broker: Broker | None) -> list:
    """What a scorer that asks two models said of each, in a real jail."""
    program = Program(runtime=runtime, code=code, models=(MODEL,))
    owner = Owner(project_id="p", scorer_id=str(hash(code)), version="1")

    def lend(end: socket.socket) -> None:
        assert broker is not None
        broker.serve(end, scorer_id="one", models=program.models)

    records = [{"input": MODEL}, {"input": OTHER}, {"input": MODEL}]
    ran = sandboxes.run(owner, program, records, lend if broker else None)
    assert [one.ended for one in ran] == [CodeEnd.OK] * 3, ran
    return [one.value for one in ran]


@pytest.mark.parametrize(
    ("runtime", "code"), [(Runtime.PYTHON, PYTHON), (Runtime.NODE, JAVASCRIPT)]
)
def test_code_in_a_jail_reaches_the_models_that_it_may_use_and_no_others(
    fake, sandboxes, runtime, code
):
    lent = said(sandboxes, runtime, code, broker_to(fake))
    alone = said(sandboxes, runtime, code, None)

    assert [one["metadata"]["said"] for one in lent] == [
        "as you say", "model_not_allowed", "as you say",
    ]
    assert [one["metadata"]["said"] for one in alone] == ["no_models"] * 3
    assert [call.key for call in fake.calls] == [KEY, KEY]


@pytest.mark.parametrize(
    ("runtime", "code"),
    [(Runtime.PYTHON, NEEDS_ITS_MODEL), (Runtime.NODE, NEEDS_ITS_MODEL_TOO)],
)
def test_code_that_needs_a_model_fails_for_the_models_cause(fake, sandboxes, runtime, code):
    function = FunctionVersion(
        id=FunctionId(uuid4()), project_id=ProjectId(uuid4()), version=Xact(1), name="asks",
        slug="asks", kind=FunctionKind.CODE,
        program=Program(runtime=runtime, code=code, models=(MODEL,)),
    )
    scorers = CodeScorers(
        sandboxes, CodeBuilder(sandboxes=sandboxes, bundles=MemoryBundles()),
        most=Limits(time_s=60.0, load_s=60.0), lending=broker_to(fake),
    )
    asked = [
        "judge!502", "judge!502 or not", "judge!402", "judge!402 or not", "judge!400", "well",
    ]

    down, up_to_it, unpaid, paid_or_not, wrong, well = scorers.run(
        function, [{"input": each} for each in asked]
    )

    assert isinstance(down, JudgeUnavailable)
    assert "endpoint default" in str(down)
    assert isinstance(unpaid, Errored)
    assert unpaid.failure.error_class == "judge_unpaid"
    assert "then the scorer ended: " in unpaid.failure.message
    assert isinstance(wrong, Errored)
    assert wrong.failure.error_class == "error"
    for verdict, score in ((up_to_it, 0.5), (paid_or_not, 0.5), (well, 1.0)):
        assert not isinstance(verdict, Errored | TransientError)
        assert [each.value for each in verdict.result.scores] == [score]


def test_code_in_a_jail_finds_no_key(fake, sandboxes):
    assert said(sandboxes, Runtime.PYTHON, WANTS_THE_KEY, broker_to(fake)) == [
        {"score": False}
    ] * 3


OPENAI = """
import asyncio, json, os, sys
os.dup2(int(sys.argv[1]), 4)
from scorers.sandbox.inside import llm, network
llm.offer()
network.install()
import openai
from tallyard.llm import openai_client
hello = [{"role": "user", "content": "hello"}]

async def asked():
    client = openai.AsyncOpenAI()
    chat, response = await asyncio.gather(
        client.chat.completions.create(model="gpt-4o-mini", messages=hello),
        client.responses.create(model="gpt-4o-mini", input="hello"),
    )
    return [chat.choices[0].message.content, response.output_text]

def refused(client):
    try:
        client.chat.completions.create(model="gpt-4o", messages=hello)
    except openai.PermissionDeniedError as error:
        return error.code

def said(client):
    chat = client.chat.completions.create(model="gpt-4o-mini", messages=hello)
    response = client.responses.create(model="gpt-4o-mini", input="hello")
    return [chat.choices[0].message.content, response.output_text]

print(json.dumps({
    "major": openai.__version__.partition(".")[0],
    "said": said(openai.OpenAI()) + said(openai_client()) + asyncio.run(asked()),
    "refused": [refused(openai.OpenAI()), refused(openai_client())],
}))
"""


@pytest.mark.parametrize("major", ["2", "3"])
def test_the_openai_package_works_over_the_same_descriptor(fake, client_python, major):
    # What users' scorers run with has openai 3, and no httpx beside it.
    python = client_python("openai-2") if major == "2" else SCORERS_PYTHON
    ours, theirs = socket.socketpair()
    serving = threading.Thread(
        target=broker_to(fake).serve, args=(ours,),
        kwargs={"scorer_id": "one", "models": (MODEL,)},
    )
    serving.start()

    done = subprocess.run(
        [str(python), "-c", OPENAI, str(theirs.fileno())], cwd=ROOT,
        pass_fds=[theirs.fileno()], capture_output=True, check=False, timeout=60,
    )

    theirs.close()
    serving.join(10)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "major": major, "said": ["as you say"] * 6, "refused": ["model_not_allowed"] * 2,
    }  # fmt: skip


OPENAI_IN_A_JAIL = """
import openai
def handler(input):
    try:
        answer = openai.OpenAI().responses.create(model=input, input="hi")
        return {"score": 1, "metadata": {"said": answer.output_text}}
    except openai.PermissionDeniedError as error:
        return {"score": 0, "metadata": {"said": error.code}}
"""
FETCH = """
export async function handler({ input }) {
  const answer = await fetch(`${process.env.OPENAI_BASE_URL}/responses`, {
    method: 'POST', headers: { authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
    body: JSON.stringify({ model: input, input: 'hi' }),
  });
  const body = await answer.json();
  const said = answer.ok ? body.output[0].content[0].text : body.error.code;
  return { score: answer.ok ? 1 : 0, metadata: { said } };
}
"""


@pytest.fixture(scope="module")
def with_packages() -> Iterator[Sandboxes]:
    """Sandboxes with the packages that scorers may import."""
    (packages,) = (ROOT / ".venv-scorers" / "lib").glob("python3*/site-packages")
    made = Sandboxes(find_place(packages=packages), kept=4, idle_s=60.0)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("runtime", "code"), [(Runtime.PYTHON, OPENAI_IN_A_JAIL), (Runtime.NODE, FETCH)]
)
def test_what_the_environment_names_is_the_model_and_without_one_it_says_so(
    fake, with_packages, runtime, code
):
    lent = said(with_packages, runtime, code, broker_to(fake))
    alone = said(with_packages, runtime, code, None)

    assert [one["metadata"]["said"] for one in lent] == [
        "as you say", "model_not_allowed", "as you say",
    ]
    assert [one["metadata"]["said"] for one in alone] == ["no_models"] * 3


NO_NETWORK = "a scorer has no network: put what it needs into the span or into the bundle"


@pytest.mark.parametrize(
    ("runtime", "code", "why"),
    [
        (Runtime.PYTHON, "import requests\ndef handler(): requests.get('https://a.example')",
         "ConnectionError: HTTPSConnectionPool"),
        (Runtime.PYTHON, "import requests\ndef handler(): requests.get('http://10.0.0.1')",
         "ConnectionError: HTTPConnectionPool"),
        (Runtime.PYTHON, "import urllib.request as r\ndef handler(): r.urlopen('http://a.b')",
         "URLError"),
        (Runtime.PYTHON, "import socket\ndef handler(): socket.socket()", "NoNetwork"),
        (Runtime.PYTHON, "import asyncio\nasync def handler():\n"
         "  await asyncio.open_connection('a.example', 80)", "NoNetwork"),
        (Runtime.PYTHON, "import braintrust\n"
         "def handler(): braintrust.invoke(project_name='x', slug='y', input=1)",
         "ValueError: Could not login"),
        (Runtime.PYTHON, "import braintrust\ndef handler(): braintrust.login(api_key='sk-1')",
         "RetryExhausted"),
        (Runtime.PYTHON, "from openai import OpenAI\ndef handler():\n"
         "  OpenAI(base_url='https://api.openai.com/v1').models.list()",
         "APIConnectionError: Connection error"),
        (Runtime.NODE, "export default () => fetch('https://a.example')", "fetch failed"),
    ],
    ids=["requests", "an address", "urllib", "a socket", "asyncio", "invoke", "login", "openai",
         "fetch"],
)  # fmt: skip
def test_who_looks_for_a_network_is_told_that_there_is_none(
    with_packages, runtime, code, why
):
    program = Program(runtime=runtime, code=code, limits=Limits(time_s=30.0, load_s=30.0))
    (ran,) = with_packages.run(Owner("p", code, "1"), program, [{}])

    assert ran.ended is CodeEnd.ERROR
    assert why in ran.detail
    assert ran.detail.count(NO_NETWORK) == 1


def test_a_library_that_logs_where_nobody_is_costs_no_score(with_packages):
    code = """
import braintrust
logger = braintrust.init_logger(project="x")
@braintrust.traced
def step(output): return braintrust.Score(name="own", score=output)
def handler(output):
    logger.log(input=1, output=output)
    return step(output)
"""
    program = Program(runtime=Runtime.PYTHON, code=code, limits=Limits(time_s=30, load_s=30))
    (ran,) = with_packages.run(Owner("p", "logs", "1"), program, [{"output": 0.5}])

    assert (ran.ended, ran.value["score"], ran.value["name"]) == (CodeEnd.OK, 0.5, "own")


def test_calls_of_code_are_paid_from_its_purse_and_a_budget_that_is_spent_is_told(
    fake: FakeJudge,
) -> None:
    table = PriceTable(prices={MODEL: Prices(prompt=2.0, cached=2.0, completion=8.0)})
    endpoints = Endpoints(endpoint_at(fake.url, key=KEY), (), table)
    plenty = MemoryPurse(money=10**12)
    first = Scorer(broker_to(fake, endpoints=endpoints), purse=plenty)
    assert first.ask(ASKED)[0] == 200
    lent = first.leave()
    (receipt,) = plenty.receipts
    assert receipt.reserved == len(fake.calls[-1].raw) * 2000 + 100 * 8000
    assert receipt.spent == round((lent.usage.cost or 0) * 1e9) < receipt.reserved
    before = len(fake.calls)

    budget = MemoryTokenBudget(per_day=1000)
    poor = Scorer(
        broker_to(fake, endpoints=endpoints, budget=budget), purse=MemoryPurse(money=1)
    )
    status, body = poor.ask(ASKED)

    assert (status, body["error"]["code"]) == (429, "budget_spent")
    lent = poor.leave()
    assert isinstance(lent.failure, BudgetSpent)
    assert lent.failure.budget_no == 7
    assert (lent.usage.calls, len(fake.calls)) == (0, before)
    assert budget.left("one") == 1000
