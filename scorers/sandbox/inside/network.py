"""Leads clients of models to the broker, and tells all others that a jail has no network.

None of this contains anything: the kernel refuses sockets, whatever Python code does. But a
library's own message about that would send its reader to look for a fault that is none.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from scorers.sandbox.inside import llm

SENTENCE = (
    "a scorer has no network: put what it needs into the span or into the bundle; for models, "
    f"see {llm.SETTINGS}"
)

ENVIRONMENT = {
    "OPENAI_BASE_URL": llm.BASE_URL, "OPENAI_API_KEY": llm.NO_KEY,
    "BRAINTRUST_NUM_RETRIES": "0",
}
"""What makes `OpenAI()` a client of the broker, and keeps braintrust's logger from waiting."""

_NO_LOGIN = "BRAINTRUST_API_KEY"
"""In what braintrust says if it cannot log in. Setting that variable would not help."""

CLIENTS = ("httpx", "httpx2")
"""What the package openai sends its requests with: httpx up to version 2, then httpx2."""

_CAUSES_MAX = 16                          # an exception's causes may form a circle


class NoNetwork(PermissionError):
    """A name or a socket was asked for."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, SENTENCE)


def install() -> None:
    """Change the modules of this process, and those that it is yet to import."""
    os.environ.update(ENVIRONMENT)  # noqa: TID251 the jail's own, nothing is read
    _reword_sockets()
    sys.meta_path.insert(0, _Clients())
    for name in CLIENTS:
        if name in sys.modules:
            _lead(sys.modules[name])


def reason(error: BaseException) -> str | None:
    """SENTENCE if the lack of a network caused the error and its message does not say so.

    The messages of foreign exceptions are made here, so it may raise anything.
    """
    cause: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if isinstance(cause, NoNetwork) or _NO_LOGIN in str(cause):
            return None if SENTENCE in str(error) else SENTENCE
        if cause is None:
            break
        cause = cause.__cause__ or cause.__context__
    return None


def _reword_sockets() -> None:
    look_up, make = socket.getaddrinfo, socket.socket.__init__

    def getaddrinfo(*args: Any, **more: Any) -> Any:  # noqa: ANN401 as the original's
        try:
            return look_up(*args, **more)
        except OSError:
            raise NoNetwork from None

    def made(self: socket.socket, *args: Any, **more: Any) -> None:  # noqa: ANN401 as above
        try:
            make(self, *args, **more)
        except PermissionError:
            raise NoNetwork from None

    socket.getaddrinfo = getaddrinfo
    socket.socket.__init__ = made  # type: ignore[method-assign]


class _Clients(PathFinder):
    """Finds the modules in CLIENTS, and changes each once it is loaded."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, with a loader that leads its transports to the broker."""
        spec = super().find_spec(fullname, path, target) if fullname in CLIENTS else None
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            _lead(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _lead(httpx: Any) -> None:  # noqa: ANN401 a module that ships with the scorer
    """Have the transports of httpx, or of httpx2, send requests for models to the broker."""
    send = httpx.HTTPTransport.handle_request
    send_async = httpx.AsyncHTTPTransport.handle_async_request

    def answer(request: Any, content: bytes) -> Any:  # noqa: ANN401 httpx's own
        headers = {"content-type": "application/json", "x-should-retry": "false"}
        try:
            status, body = llm.exchange(request.method, request.url.path, content)
        except llm.LlmError as error:
            status, body = error.status, json.dumps({"error": error.told()}).encode()
        return httpx.Response(status, headers=headers, content=body, request=request)

    def handle_request(self: Any, request: Any) -> Any:  # noqa: ANN401 as above
        if request.url.host != llm.HOST:
            return send(self, request)
        return answer(request, request.read())

    async def handle_async_request(self: Any, request: Any) -> Any:  # noqa: ANN401 as above
        if request.url.host != llm.HOST:
            return await send_async(self, request)
        return answer(request, await request.aread())

    httpx.HTTPTransport.handle_request = handle_request
    httpx.AsyncHTTPTransport.handle_async_request = handle_async_request
