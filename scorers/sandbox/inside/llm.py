"""Lets a scorer call models: `from tallyard import llm`.

    answer = llm.chat(model="gpt-4o-mini", messages=[{"role": "user", "content": "..."}])
    answer["choices"][0]["message"]["content"]

Requests go one at a time over the one descriptor that leads out of the jail. The scorer's
`metadata.sandbox.models` and the operator decide which models it may call, and the operator how
many tokens. Only read and write are used, because a jail has no system calls for sockets.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import types
from typing import Any

_DESCRIPTOR = 4
_REQUEST_BYTES_MAX = 2**20
_CHUNK = 65536
_BASE_URL = "http://llm.internal/v1"      # never looked up: the transport ignores it
_HOST = "host: llm.internal"              # which HTTP/1.1 demands
_turn = threading.Lock()
_this = sys.modules[__name__]             # removed from there before a scorer is loaded

JsonObject = dict[str, Any]


class LlmError(Exception):
    """The call was refused or failed. `status` is the HTTP status; `code` names the reason."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def chat(*, model: str, messages: list[JsonObject], **parameters: Any) -> JsonObject:  # noqa: ANN401
    """The answer to a chat completion request. Raises LlmError."""
    return call("/v1/chat/completions", {"model": model, "messages": messages, **parameters})


def responses(*, model: str, input: Any, **parameters: Any) -> JsonObject:  # noqa: A002, ANN401
    """The answer to a request over /responses. Raises LlmError."""
    return call("/v1/responses", {"model": model, "input": input, **parameters})


def embeddings(*, model: str, input: str | list[str], **parameters: Any) -> JsonObject:  # noqa: A002, ANN401
    """The answer to a request for embeddings of texts. Raises LlmError."""
    return call("/v1/embeddings", {"model": model, "input": input, **parameters})


def call(path: str, body: JsonObject) -> JsonObject:
    """The answer to one POST of JSON. Raises LlmError."""
    status, payload = exchange("POST", path, json.dumps(body).encode())
    answer: JsonObject = json.loads(payload)
    if status != 200:
        error = answer["error"]
        raise LlmError(status, error["code"], error["message"])
    return answer


def exchange(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer. Raises LlmError if there is no connection."""
    if len(body) > _REQUEST_BYTES_MAX:
        raise LlmError(
            413, "request_too_large", f"a request may have at most {_REQUEST_BYTES_MAX} bytes"
        )
    head = f"{method} {path} HTTP/1.1\r\n{_HOST}\r\ncontent-length: {len(body)}\r\n\r\n"
    with _turn:
        try:
            _write(head.encode() + body)
            return _read()
        except OSError as error:
            raise LlmError(
                503, "no_models",
                "no model can be called from here: list those that the scorer needs in "
                "metadata.sandbox.models, and have the operator allow them",
            ) from error


def openai_client(**options: Any) -> Any:  # noqa: ANN401 the package is the scorer's own
    """An `openai.OpenAI` that calls the same models, where the scorer brings that package."""
    openai = __import__("openai")
    # openai 2 is built on httpx, openai 3 on httpx2: only the right one is sure to be there.
    base = openai.DefaultHttpxClient.__mro__[1]
    httpx: Any = sys.modules[base.__module__.partition(".")[0]]

    class ModelTransport(httpx.BaseTransport):  # type: ignore[misc]  # as above
        def handle_request(self, request: Any) -> Any:  # noqa: ANN401 httpx's own
            status, payload = exchange(request.method, request.url.path, request.read())
            headers = {"content-type": "application/json", "x-should-retry": "false"}
            return httpx.Response(status, headers=headers, content=payload, request=request)

    settings = {
        "api_key": "none", "base_url": _BASE_URL, "max_retries": 0,
        "http_client": httpx.Client(transport=ModelTransport()), **options,
    }
    return openai.OpenAI(**settings)


def offer() -> None:
    """Make `from tallyard import llm` give this module."""
    package = types.ModuleType("tallyard")
    package.__path__ = []
    package.llm = _this  # type: ignore[attr-defined]  # as an import would set it
    sys.modules["tallyard"], sys.modules["tallyard.llm"] = package, _this


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(_DESCRIPTOR, rest[:_CHUNK]):]


def _read() -> tuple[int, bytes]:
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += _some()
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    length = int(headers["content-length"])
    while len(body) < length:
        body += _some()
    return int(start.split(" ")[1]), body


def _some() -> bytes:
    data = os.read(_DESCRIPTOR, _CHUNK)
    if not data:
        raise ConnectionResetError("the connection to the models has been closed")
    return data
