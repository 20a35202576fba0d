"""Lets a scorer call models: `from tallyard import llm`.

    answer = llm.chat(model="gpt-4o-mini", messages=[{"role": "user", "content": "..."}])
    answer["choices"][0]["message"]["content"]

The package openai works as well: `OpenAI()` and `AsyncOpenAI()` send to BASE_URL, and `network`
leads that here. Requests go one at a time over the one descriptor that leads out of the jail;
each blocks the whole process. The scorer's `metadata.sandbox.models` and the operator decide
which models it may call, and the operator how many tokens. Only read and write are used,
because a jail has no system calls for sockets.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import types
from typing import Any

_DESCRIPTOR = 4
_REQUEST_BYTES_MAX = 2**20
_CHUNK = 65536
HOST = "llm.internal"                     # never looked up
BASE_URL = f"http://{HOST}/v1"
NO_KEY = "none"                           # the worker adds its own
SETTINGS = "metadata.sandbox.models of the scorer, and TALLYARD_SANDBOX_MODELS of the workers"
_turn = threading.Lock()
_this = sys.modules[__name__]             # removed from there before a scorer is loaded

JsonObject = dict[str, Any]


class LlmError(Exception):
    """The call was refused or failed. `status` is the HTTP status; `code` names the reason."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def told(self) -> JsonObject:
        """The error in the form in which a model's endpoint answers it."""
        return {"message": str(self), "type": self.code, "code": self.code}


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
    if not _is_connected():
        raise LlmError(
            403, "no_models",
            "this scorer may call no model: its author must list the model in "
            "metadata.sandbox.models",
        )
    head = f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {len(body)}\r\n\r\n"
    with _turn:
        try:
            _write(head.encode() + body)
            return _read()
        except OSError as error:
            raise LlmError(
                503, "connection_lost", "the connection to the models has been closed"
            ) from error


def openai_client(**options: Any) -> Any:  # noqa: ANN401 the package is the scorer's own
    """An `openai.OpenAI` that calls the same models. `OpenAI()` does the same by now."""
    settings = {"api_key": NO_KEY, "base_url": BASE_URL, "max_retries": 0, **options}
    return __import__("openai").OpenAI(**settings)


def offer() -> None:
    """Make `from tallyard import llm` give this module."""
    package = types.ModuleType("tallyard")
    package.__path__ = []
    package.llm = _this  # type: ignore[attr-defined]  # as an import would set it
    sys.modules["tallyard"], sys.modules["tallyard.llm"] = package, _this


def _is_connected() -> bool:
    """Whether the run was given a connection. The scorer may use its number for a file of its
    own if not, but has no sockets."""
    try:
        return stat.S_ISSOCK(os.fstat(_DESCRIPTOR).st_mode)
    except OSError:
        return False


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
