"""A receiver of webhooks: an HTTP server on loopback that behaves as well or badly as asked.

    with WebhookReceiver() as receiver:
        receiver.behave(status(500), status(204))     # in turn; the last one from then on
        ...post to receiver.url...
        receiver.requests[0].headers["webhook-id"]

It records what arrives and verifies nothing.
"""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

CHUNK = b"x" * 65536
DRIP_S = 0.05
"""The pause between two bytes of a drip, seconds."""

Behaviour = Callable[["Answering"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request: header names are in lower case; `at` is by time.monotonic."""

    line: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass(slots=True)
class Answering:
    """The connection on which a request is answered."""

    connection: socket.socket
    stopped: threading.Event

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hold(self) -> None:
        """Keeps the connection open, and silent, until the client or the receiver ends."""
        while not self.stopped.is_set():
            ready, _, _ = select.select([self.connection], [], [], 0.05)
            if ready and not self.connection.recv(1):
                return


def status(code: int, body: str = "", **headers: str) -> Behaviour:
    """Answers with this status."""

    def answer(to: Answering) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"HTTP/1.1 {code} Said", f"content-length: {len(body)}", *lines])
        to.send(f"{head}\r\n\r\n{body}".encode())

    return answer


def redirect_to(url: str, code: int = 302) -> Behaviour:
    """Sends the client elsewhere."""
    return status(code, location=url)


def drip_body(to: Answering) -> None:
    """Begins a body, and sends a byte of it now and then, for ever."""
    to.send(b"HTTP/1.1 200 OK\r\n\r\n")
    _drip(to, b".")


def drip_headers(to: Answering) -> None:
    """Sends the headers a byte at a time, for ever."""
    to.send(b"HTTP/1.1 200 OK\r\nx-slow: ")
    _drip(to, b".")


def endless_headers(to: Answering) -> None:
    """Sends headers as fast as it can, for ever."""
    to.send(b"HTTP/1.1 200 OK\r\n")
    while not to.stopped.is_set():
        to.send(b"x-more: " + b"y" * 1000 + b"\r\n")


def flood_body(to: Answering) -> None:
    """Sends a body as fast as it can, for ever."""
    to.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not to.stopped.is_set():
        to.send(CHUNK)


def too_short(to: Answering) -> None:
    """Promises a longer body than it sends."""
    to.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort")


def no_http(to: Answering) -> None:
    """Answers in no protocol that a client of HTTP knows."""
    to.send(b"220 mail.test ESMTP\r\n")


def hang_up(_: Answering) -> None:
    """Closes the connection without an answer."""


def reset(to: Answering) -> None:
    """Resets the connection in the middle of the answer."""
    to.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab")
    to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def never_answer(to: Answering) -> None:
    """Takes the request, and is silent."""
    to.hold()


def _drip(to: Answering, data: bytes) -> None:
    while not to.stopped.wait(DRIP_S):
        to.send(data)


@dataclass(slots=True)
class WebhookReceiver:
    """The server. With `tls` it speaks TLS with that context."""

    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    _behaviours: list[Behaviour] = field(default_factory=lambda: [status(204)])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _server: Any = None

    def __enter__(self) -> Self:
        receiver = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                receiver._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that is gone is what many tests want."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the server: its port is closed from now on."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"

    def behave(self, *behaviours: Behaviour) -> None:
        """Answer the next requests in these ways; the last one is for all that follow."""
        with self._lock:
            self._behaviours = list(behaviours)

    @property
    def message_ids(self) -> list[str]:
        """The `webhook-id` of each request, in their order."""
        return [each.headers["webhook-id"] for each in self.requests]

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        request = _read(connection)
        if request is None:
            return
        with self._lock:
            self.requests.append(request)
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
            last = len(self._behaviours) == 1
            behaviour = self._behaviours[0] if last else self._behaviours.pop(0)
        try:
            behaviour(Answering(connection, self._stopped))
        finally:
            with self._lock:
                self.in_flight -= 1


def _read(connection: socket.socket) -> Received | None:
    """The request, or None if the client went away before its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (each.partition(":") for each in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    while len(body) < int(headers.get("content-length", "0")):
        if not (more := connection.recv(65536)):
            return None
        body += more
    return Received(line=line, headers=headers, body=body, at=time.monotonic())
