"""Lets users' code call an LLM through one socket, which gives it three calls and no more.

The code has no network and no key. It writes HTTP requests to its end of a socket pair. The
worker reads them here as untrusted input. If the author and the operator both allow a call, the
worker makes it with its own key.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from scorers.judge.call_costs import CallCosts
from scorers.judge.endpoints import Endpoint, Endpoints
from scorers.judge.parameters import Dialect
from scorers.judge.purse import REFUSED, Purse, receipt_of_lost_calls
from scorers.sandbox.lending.conversation import (
    HEAD_BYTES_MAX,
    Conversation,
    HttpRequest,
    error_body,
)
from scorers.sandbox.lending.llm_calls import (
    CHAT,
    EMBEDDINGS,
    RESPONSES,
    ModelCall,
    Refused,
    admitted,
)
from spans.clock import Clock, system_clock
from spans.errors import (
    BadResult,
    BudgetSpent,
    ContentRefused,
    JudgeRefused,
    JudgeUnavailable,
    JudgeUnfit,
    JudgeUnpaid,
    NoPrice,
    PermanentError,
    PromptTooLong,
    RateLimited,
    StoreUnavailable,
    TallyardError,
    Timeout,
    TransientError,
)
from spans.json import JsonObject
from spans.scoring import Usage

if TYPE_CHECKING:
    from scorers.judge.http import JudgeEndpoint

PATHS = {f"/v1{path}": path for path in (CHAT, EMBEDDINGS, RESPONSES)}

_STATUS_OF: dict[type[TallyardError], int] = {
    RateLimited: 429, Timeout: 504, JudgeUnavailable: 502, JudgeRefused: 502, JudgeUnpaid: 502,
    BadResult: 502, StoreUnavailable: 503, JudgeUnfit: 400, PromptTooLong: 400,
    ContentRefused: 400, BudgetSpent: 429, NoPrice: 400,
}


class TokenBudget(Protocol):
    """How many tokens a scorer may spend in a day. All workers share the count."""

    def reserve(self, scorer_id: str, tokens: int) -> bool:
        """Take `tokens` before a call. Return False and take none if too few are left."""
        ...

    def give_back(self, scorer_id: str, tokens: int) -> None:
        """Give back reserved tokens that a call did not use."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What came of the calls of one run of code.

    `failure` is the error of a call that failed by no fault of the code: one that time may heal
    if there is any, else one that the operator must mend.
    """

    usage: Usage = field(default_factory=Usage)
    failure: TransientError | PermanentError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Makes calls for users' code. Safe to share between threads.

    A model is asked at the endpoint that `endpoints` has for it. `models` is the operator's
    list. `tokens_per_call` is the most that one answer may take.
    The key goes into the call's header, and nowhere else. `dialects` are what the endpoints are
    known to refuse, by their names: they only rename, so that each call keeps its token limit.
    """

    endpoints: Endpoints
    models: frozenset[str]
    tokens_per_call: int
    budget: TokenBudget
    clock: Clock = system_clock
    dialects: dict[str, Dialect] = field(init=False)

    def __post_init__(self) -> None:
        dialects = {each.name: Dialect(each.name, may_drop=False) for each in self.endpoints}
        object.__setattr__(self, "dialects", dialects)

    def serve(
        self, end: socket.socket, *, scorer_id: str, models: Collection[str],
        purse: Purse | None = None,
    ) -> Lent:
        """Answer requests until the other end closes or `end` is shut down.

        `models` are the models that the scorer asks for. Budgets cap the calls by
        `purse`. Closes `end`. Blocks, so call it in a thread of its own. Nothing that the other
        end does makes it raise.
        """
        return asyncio.run(self._serve(end, scorer_id, frozenset(models), purse))

    async def _serve(
        self, end: socket.socket, scorer_id: str, models: frozenset[str], purse: Purse | None
    ) -> Lent:
        lending = _Lending(broker=self, scorer_id=scorer_id, models=models, purse=purse)
        reader, writer = await asyncio.open_connection(sock=end, limit=HEAD_BYTES_MAX)
        writer.transport.set_write_buffer_limits(0)   # drain() then waits for the reader
        try:
            await Conversation(reader, writer, lending.answer).hold()
        except (ConnectionError, TimeoutError):
            pass   # the other end is gone or too slow, so no answer would reach it
        finally:
            writer.transport.abort()
            await lending.close()
        return Lent(usage=lending.execution.usage(), failure=lending.failure)


@dataclass(slots=True, kw_only=True)
class _Lending:
    """Answers the requests of one conversation, for one scorer."""

    broker: Broker
    scorer_id: str
    models: frozenset[str]
    purse: Purse | None
    execution: CallCosts = field(default_factory=CallCosts)
    opened: dict[str, JudgeEndpoint] = field(default_factory=dict)
    failure: TransientError | PermanentError | None = None

    async def close(self) -> None:
        """Close the connections to the endpoints that have been asked."""
        for endpoint in self.opened.values():
            await endpoint.close()

    async def answer(self, request: HttpRequest) -> tuple[int, JsonObject]:
        """The HTTP status and body: the model's answer, or an error in OpenAI's form."""
        try:
            path, body = _path_and_body(request)
            call = admitted(
                path, body, listed=self.models, allowed=self.broker.models,
                tokens_max=self.broker.tokens_per_call,
            )
            return await self._answer(call, self.broker.endpoints.of(call.model))
        except Refused as error:
            return error.status, error_body(error.code, str(error))
        except RecursionError:
            return 400, error_body("invalid_request_error", "the body is nested too deeply")

    async def _answer(self, call: ModelCall, endpoint: Endpoint) -> tuple[int, JsonObject]:
        try:
            return 200, await self._call(call, endpoint)
        except TallyardError as error:
            self._remember(error, endpoint)
            told = _told(error, endpoint, self.broker.endpoints)
            return _STATUS_OF.get(type(error), 502), error_body(error.error_class(), told)

    def _remember(self, error: TallyardError, endpoint: Endpoint) -> None:
        if isinstance(self.failure, BudgetSpent):
            return   # the run is held back, whatever else it met
        if isinstance(error, BudgetSpent):
            self.failure = error
            return
        message = f"a call to the endpoint {endpoint.name} failed: {error}"
        if isinstance(error, TransientError):
            self.failure = type(error)(message, retry_after_s=error.retry_after_s)
        elif isinstance(error, PermanentError) and self.failure is None:
            self.failure = type(error)(message)

    async def _call(self, call: ModelCall, endpoint: Endpoint) -> JsonObject:
        """The model's answer. Raises Refused, or the endpoint's error."""
        # No token is shorter than a byte, so this is the most that the call can cost.
        reserved = len(json.dumps(call.body)) + call.completion_tokens_max
        if not self.broker.budget.reserve(self.scorer_id, reserved):
            raise Refused(
                429, "insufficient_quota",
                "this scorer has spent the tokens that it may spend in a day "
                "(TALLYARD_SANDBOX_TOKENS_PER_DAY)",
            )
        spent = reserved   # until the cost is known: an endpoint may charge and not answer
        try:
            before = self._spent()
            answer = await self._paid(call, endpoint)
            # If the endpoint reports no tokens, count all reserved ones as spent.
            spent = self._spent() - before or reserved
        except (*REFUSED, BudgetSpent, NoPrice):
            spent = 0
            raise
        finally:
            if spent < reserved:
                with suppress(TransientError):   # the tokens then stay reserved
                    self.broker.budget.give_back(self.scorer_id, reserved - spent)
        return answer

    async def _paid(self, call: ModelCall, endpoint: Endpoint) -> JsonObject:
        """The model's answer, paid from the purse.

        Raises BudgetSpent and NoPrice without a call.
        """
        prices = self.broker.endpoints.prices_of(call.model)
        receipt = None
        if self.purse is not None:
            size = len(json.dumps(call.body))
            receipt = await self.purse.reserve(
                None if prices is None else prices.dearest(size, call.completion_tokens_max)
            )
        self.execution.calls += 1
        with receipt_of_lost_calls(receipt):
            answer = await self._at(endpoint).post(call.path, call.body, by_author=True)
        cost = self.execution.count(answer, call.model, prices)
        if receipt is not None:
            receipt.settle(cost)
        return answer

    def _at(self, endpoint: Endpoint) -> JudgeEndpoint:
        if endpoint.name not in self.opened:
            make: type[JudgeEndpoint] = import_module("scorers.judge.http").JudgeEndpoint
            self.opened[endpoint.name] = make(
                endpoint, clock=self.broker.clock, dialect=self.broker.dialects[endpoint.name]
            )
        return self.opened[endpoint.name]

    def _spent(self) -> int:
        return self.execution.prompt_tokens + self.execution.completion_tokens


def _told(error: TallyardError, asked: Endpoint, endpoints: Endpoints) -> str:
    """The error's text for the scorer: with the endpoint's name, and without any address."""
    if not isinstance(error, (*REFUSED, BadResult, BudgetSpent, NoPrice)):
        return (
            "the model is away, failing, or too slow: try again later "
            f"(endpoint {asked.name})"
        )
    told = str(error)
    for path in PATHS.values():
        told = told.replace(
            f"judge {asked.base_url.rstrip('/')}{path}", f"the endpoint {asked.name}"
        )
    # The server's own words may name an address too.
    return _addresses(endpoints).sub("the endpoint", told)


def _addresses(endpoints: Endpoints) -> re.Pattern[str]:
    """Finds the endpoints' hosts, each with the URL that it stands in."""
    found = {urlsplit(endpoint.base_url).hostname or "" for endpoint in endpoints} - {""}
    hosts = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))
    return re.compile(
        rf"(?<![\w.-])(https?://)?\[?({hosts})\]?(?![\w-])(:\d+)?(/[\w./%~-]*)?",
        re.IGNORECASE,
    )


def _path_and_body(request: HttpRequest) -> tuple[str, JsonObject]:
    """The call's path and its JSON body. Raises Refused if the request is none of the calls."""
    path = PATHS.get(request.target)
    if path is None:
        raise Refused(404, "not_found", f"there are only {', '.join(PATHS)}")
    if request.method != "POST":
        raise Refused(405, "invalid_request_error", "only POST")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "invalid_request_error", "the body is no JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request_error", "the body is no JSON object")
    return path, body
