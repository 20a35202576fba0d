"""Lends a user's code an LLM: one socket into the jail, and nothing behind it but three calls.

The code has no network and no key. What it writes to its end of a socket pair is read here as
HTTP, believed in nothing, and, if it is one of the calls that its author and the operator
both allow, made for it with the worker's own key.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from scorers.judge.call_costs import CallCosts
from scorers.sandbox.lending.llm_calls import CHAT, EMBEDDINGS, RESPONSES, Refused, admitted
from spans.clock import Clock, system_clock
from spans.errors import (
    BadResult,
    JudgeRefused,
    JudgeUnavailable,
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

HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 2**20
LENGTH_DIGITS_MAX = 9

REQUEST_S = 3.0
"""From a request's first byte to its last; it is written by a process on this machine."""

ANSWER_S = 3.0
"""How long a scorer may take to read an answer."""

LINGER_S = 1.0

REQUESTS_MAX = 1000
"""Of one run of a batch, refused ones included: ten for each of a hundred records."""

PATHS = {f"/v1{path}": path for path in (CHAT, EMBEDDINGS, RESPONSES)}

_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
            405: "Method Not Allowed", 411: "Length Required",
            413: "Content Too Large", 429: "Too Many Requests",
            431: "Request Header Fields Too Large", 502: "Bad Gateway",
            503: "Service Unavailable", 504: "Gateway Timeout"}
_STATUS_OF: dict[type[TallyardError], int] = {
    RateLimited: 429, Timeout: 504, JudgeUnavailable: 502, JudgeRefused: 502, BadResult: 502,
    StoreUnavailable: 503,
}


class TokenBudget(Protocol):
    """What a scorer may spend in a day, kept where every worker sees it."""

    def reserve(self, scorer_id: str, tokens: int) -> bool:
        """Take tokens before a call; False, and nothing taken, if there are not so many."""
        ...

    def give_back(self, scorer_id: str, tokens: int) -> None:
        """Give back what a call did not need."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Makes calls for users' code. Safe to share between threads.

    `models` is the operator's list. `tokens_per_call` is the most that one answer may take.
    The key goes into the call's header, and nowhere else.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    timeout_s: float
    models: frozenset[str]
    tokens_per_call: int
    budget: TokenBudget
    clock: Clock = system_clock

    def serve(self, end: socket.socket, *, scorer_id: str, models: Collection[str]) -> Usage:
        """Answer requests on `end` until the other end closes, or `end` is shut down; what
        they cost. Closes `end`. `models` are those that the scorer asks for.

        Blocks: for a thread of its own. Never raises for what the other end does.
        """
        return asyncio.run(self._serve(end, scorer_id, self.models.intersection(models)))

    async def _serve(
        self, end: socket.socket, scorer_id: str, models: frozenset[str]
    ) -> Usage:
        execution = CallCosts()
        endpoint: JudgeEndpoint = import_module("scorers.judge.http").JudgeEndpoint(
            base_url=self.base_url, api_key=self.api_key, timeout_s=self.timeout_s,
            in_flight=1, clock=self.clock,
        )
        lending = _Lending(
            broker=self, endpoint=endpoint, scorer_id=scorer_id, models=models,
            execution=execution,
        )
        reader, writer = await asyncio.open_connection(sock=end, limit=HEAD_BYTES_MAX)
        writer.transport.set_write_buffer_limits(0)   # an answer is written when it is read
        try:
            await _converse(reader, writer, lending)
        except (ConnectionError, TimeoutError):
            pass   # it went away, or does not read its answer: nobody is left to be told
        finally:
            writer.transport.abort()
            await endpoint.close()
        return execution.usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lending:
    """One conversation's side of the world."""

    broker: Broker
    endpoint: JudgeEndpoint
    scorer_id: str
    models: frozenset[str]
    execution: CallCosts

    async def answer(self, request: _Request) -> JsonObject:
        """The model's answer. Raises Refused, or what the endpoint raises."""
        call = admitted(
            request.path, request.body, models=self.models,
            tokens_max=self.broker.tokens_per_call,
        )
        # No token is shorter than a byte, so this is the most that the call can cost.
        reserved = len(json.dumps(call.body)) + call.completion_tokens_max
        if not self.broker.budget.reserve(self.scorer_id, reserved):
            raise Refused(
                429, "insufficient_quota",
                "this scorer has spent the tokens that it may spend in a day "
                "(TALLYARD_SANDBOX_TOKENS_PER_DAY)",
            )
        spent = reserved   # unless it is known better: an endpoint may charge and not answer
        try:
            before = self._spent()
            self.execution.calls += 1
            answer = await self.endpoint.post(call.path, call.body)
            self.execution.count(answer, call.model)
            # An endpoint that counts nothing is taken to have needed all.
            spent = self._spent() - before or reserved
        except (RateLimited, JudgeRefused):
            spent = 0
            raise
        finally:
            if spent < reserved:
                with suppress(TransientError):   # then it stays taken
                    self.broker.budget.give_back(self.scorer_id, reserved - spent)
        return answer

    def _spent(self) -> int:
        return self.execution.prompt_tokens + self.execution.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    path: str
    body: JsonObject


class _Unreadable(Refused):
    """After this there is no telling where the next request would begin."""


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lending: _Lending
) -> None:
    """One request after another. A peer that goes away ends the call under way for it."""
    first = asyncio.ensure_future(reader.read(1))
    try:
        for _ in range(REQUESTS_MAX):
            if not await first:
                return
            try:
                async with asyncio.timeout(REQUEST_S):
                    raw = await _read(reader, first.result())
            except _Unreadable as error:
                await _write(writer, error.status, _error(error.code, str(error)), close=True)
                await _hang_up(reader, writer)
                return
            first = asyncio.ensure_future(reader.read(1))
            answering = asyncio.ensure_future(_answer(raw, lending))
            try:
                await asyncio.wait({answering, first}, return_when=asyncio.FIRST_COMPLETED)
                if first.done() and not first.result():
                    return
                status, body = await answering
            finally:
                answering.cancel()
            await _write(writer, status, body)
        if await first:
            message = f"more than {REQUESTS_MAX} requests in one run"
            await _write(writer, 429, _error("too_many_requests", message), close=True)
            await _hang_up(reader, writer)
    finally:
        first.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    method: str
    target: str
    body: bytes


async def _read(reader: asyncio.StreamReader, first: bytes) -> _Raw:
    """One request. Raises _Unreadable."""
    try:
        head = first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise _Unreadable(431, "invalid_request_error", "the header is too long") from error
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError from error
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = start.split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1":
        raise _Unreadable(400, "invalid_request_error", "this is not HTTP/1.1")
    headers = {name.strip().lower(): value.strip() for name, _, value in
               (line.partition(":") for line in lines)}
    length = headers.get("content-length", "" if words[0] == "POST" else "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
        raise _Unreadable(411, "invalid_request_error", "a body needs its Content-Length")
    if len(length) > LENGTH_DIGITS_MAX or int(length) > BODY_BYTES_MAX:
        raise _Unreadable(
            413, "request_too_large", f"a request has at most {BODY_BYTES_MAX} bytes"
        )
    try:
        body = await reader.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError from error
    return _Raw(method=words[0], target=words[1], body=body)


async def _answer(raw: _Raw, lending: _Lending) -> tuple[int, JsonObject]:
    """Status and body."""
    try:
        return 200, await lending.answer(_parsed(raw))
    except Refused as error:
        return error.status, _error(error.code, str(error))
    except RecursionError:
        return 400, _error("invalid_request_error", "the body is nested too deeply")
    except TallyardError as error:
        told = _told(error, lending.broker.base_url)
        return _STATUS_OF.get(type(error), 502), _error(error.error_class(), told)


def _told(error: TallyardError, base_url: str) -> str:
    """What the model's server said is a scorer's business; where that stands is not."""
    if not isinstance(error, RateLimited | JudgeRefused | BadResult):
        return "the model is away, failing, or too slow: try again later"
    host = urlsplit(base_url).hostname or ""
    return str(error).replace(base_url.rstrip("/"), "").replace(host, "the endpoint")


def _parsed(raw: _Raw) -> _Request:
    path = PATHS.get(raw.target)
    if path is None:
        raise Refused(404, "not_found", f"there are only {', '.join(PATHS)}")
    if raw.method != "POST":
        raise Refused(405, "invalid_request_error", "only POST")
    try:
        body = json.loads(raw.body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "invalid_request_error", "the body is no JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request_error", "the body is no JSON object")
    return _Request(path=path, body=body)


async def _write(
    writer: asyncio.StreamWriter, status: int, body: JsonObject, *, close: bool = False
) -> None:
    """Raises TimeoutError if the other end does not read."""
    payload = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "content-type: application/json",
        f"content-length: {len(payload)}",
        # Clients that try again by themselves would spend the scorer's time in vain.
        *(["x-should-retry: false"] if status != 200 else []),
        *(["connection: close"] if close else []),
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
    async with asyncio.timeout(ANSWER_S):
        await writer.drain()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """For a moment, read and forget what is on its way: who still writes to a closed socket
    loses the last answer, and is killed by a signal."""
    writer.write_eof()
    async with asyncio.timeout(LINGER_S):
        while await reader.read(HEAD_BYTES_MAX):
            pass


def _error(code: str, message: str) -> JsonObject:
    """An error as OpenAI words it."""
    return {"error": {"message": message, "type": code, "code": code}}
