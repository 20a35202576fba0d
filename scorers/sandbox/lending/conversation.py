"""Speaks HTTP/1.1 with users' code over one socket, one request after another.

h11 parses and serialises. This module limits the size, time and number of requests, which are
untrusted. A request that cannot be read is answered with an error and ends the conversation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11

from scorers.sandbox.lending.llm_calls import Refused
from spans.json import JsonObject

HEAD_BYTES_MAX = 16 * 1024
"""The most bytes of an incomplete head, and of one read. So a head that one more read completes
may have twice as many."""

BODY_BYTES_MAX = 2**20

REQUEST_S = 3.0
"""Seconds from a request's first byte to its last. Its sender is on this machine."""

ANSWER_S = 3.0
"""Seconds in which a scorer must read an answer."""

LINGER_S = 1.0
"""Seconds in which the other end must close after the last answer."""

REQUESTS_MAX = 1000
"""Requests in one run of a batch, including refused ones: ten for each of a hundred records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One complete request. Nothing in it has been checked yet."""

    method: str
    target: str
    body: bytes


Answer = Callable[[HttpRequest], Awaitable[tuple[int, JsonObject]]]
"""Returns the HTTP status and the body of the answer to one request."""


class Conversation:
    """Answers each request before it reads the next. Used once."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._asks_for_head = False
        self._coming = asyncio.ensure_future(reader.read(HEAD_BYTES_MAX))

    async def hold(self) -> None:
        """Answer requests until the other end closes or the conversation has to end.

        Raises ConnectionError if the other end closes in the middle of a request, and
        TimeoutError if it writes or reads too slowly.
        """
        try:
            for _ in range(REQUESTS_MAX):
                if not await self._is_asked():
                    return
                async with asyncio.timeout(REQUEST_S):
                    request = await self._read()
                answered = await self._while_it_listens(request)
                if answered is None:
                    return
                await self._write(*answered)
                if self._http.our_state is not h11.DONE:   # it sent "Connection: close"
                    await self._hang_up()
                    return
                self._http.start_next_cycle()
                self._asks_for_head = False
            if await self._is_asked():
                message = f"more than {REQUESTS_MAX} requests in one run"
                await self._refuse(Refused(429, "too_many_requests", message))
        except Refused as error:
            await self._refuse(error)
        finally:
            self._coming.cancel()

    async def _is_asked(self) -> bool:
        """Wait for the first bytes of a request. False if the other end closes instead."""
        return bool(self._http.trailing_data[0]) or await self._receive()

    async def _receive(self) -> bool:
        """Wait for bytes and give them to h11. False if the other end has closed."""
        data = await self._coming
        self._coming = asyncio.ensure_future(self._reader.read(HEAD_BYTES_MAX))
        if data:
            self._http.receive_data(data)
        return bool(data)

    async def _read(self) -> HttpRequest:
        """The next request, complete.

        Raises Refused if it cannot be read. The conversation must then end, because the start
        of the following request is unknown.
        """
        method = target = b""
        body = bytearray()
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                status, message = error.error_status_hint, f"this is not HTTP/1.1: {error}"
                raise Refused(status, "invalid_request_error", message) from error
            if isinstance(event, h11.Request):
                method, target = event.method, event.target
                self._asks_for_head = method == b"HEAD"
                _check(event)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return HttpRequest(
                    method=method.decode(), target=target.decode(), body=bytes(body)
                )
            elif not await self._receive():
                raise ConnectionResetError

    async def _while_it_listens(self, request: HttpRequest) -> tuple[int, JsonObject] | None:
        """The answer. If the other end closes first, cancel the call and return None."""
        answering = asyncio.ensure_future(self._answer(request))
        try:
            await asyncio.wait(
                {answering, self._coming}, return_when=asyncio.FIRST_COMPLETED
            )
            if self._coming.done() and not self._coming.result():
                return None
            return await answering
        finally:
            answering.cancel()

    async def _refuse(self, error: Refused) -> None:
        await self._write(error.status, error_body(error.code, str(error)), is_last=True)
        await self._hang_up()

    async def _write(self, status: int, body: JsonObject, *, is_last: bool = False) -> None:
        """Send one answer. Raises TimeoutError if the other end does not read it."""
        payload = json.dumps(body).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(payload)))]
        if status != 200:
            # Clients retry by themselves otherwise, and spend the scorer's time in vain.
            headers.append(("x-should-retry", "false"))
        if is_last:
            headers.append(("connection", "close"))
        content = [] if self._asks_for_head else [h11.Data(data=payload)]
        for event in (
            h11.Response(status_code=status, headers=headers), *content, h11.EndOfMessage()
        ):
            self._writer.write(self._http.send(event) or b"")
        async with asyncio.timeout(ANSWER_S):
            await self._writer.drain()

    async def _hang_up(self) -> None:
        """Send the end of the stream, then read and discard until the other end closes.

        If this end closed at once, a process that is still writing would lose the last answer
        and be killed by SIGPIPE. Raises TimeoutError after LINGER_S.
        """
        self._writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            while await self._coming:
                self._coming = asyncio.ensure_future(self._reader.read(HEAD_BYTES_MAX))


def error_body(code: str, message: str) -> JsonObject:
    """The body of an error, in OpenAI's form."""
    return {"error": {"message": message, "type": code, "code": code}}


def _check(request: h11.Request) -> None:
    """Raises Refused for valid HTTP that is not supported here, and for too large a body."""
    headers = dict(request.headers)
    if request.http_version != b"1.1":
        raise Refused(400, "invalid_request_error", "this is not HTTP/1.1")
    length = headers.get(b"content-length", b"" if request.method == b"POST" else b"0")
    if b"transfer-encoding" in headers or not length:
        raise Refused(411, "invalid_request_error", "a body needs its Content-Length")
    if int(length) > BODY_BYTES_MAX:
        raise Refused(
            413, "request_too_large", f"a request has at most {BODY_BYTES_MAX} bytes"
        )
