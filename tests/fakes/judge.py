"""A working OpenAI-compatible judge on the loopback, whose behaviour the prompt chooses.

    with FakeJudge() as judge:
        client = ... judge.url ...
        judge.calls        # what came in, in order

A prompt that holds `judge!429;times=2;retry-after=1.5` is answered 429 twice, and properly
from then on. `judge.then("500", "hang")` does the same for the next calls, whatever they say,
and `judge.reply(400, {...})` answers the next call with exactly this.
BEHAVIOURS lists the names. `python tests/fakes/judge.py` serves until its stdin closes, so
that a benchmark can measure its own process alone; it prints its URL first.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
import json
import math
import re
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

MARKER = re.compile(r"judge!([\w-]+)((?:;[\w-]+=[^;\s\"\\]+)*)")
DIMENSIONS = 64
HUGE_BYTES = 10 * 2**20
CALLS_KEPT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as it came in. `prompt` is the text of all messages (or the input)."""

    path: str
    model: str | None
    key: str | None
    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """A name of BEHAVIOURS (or a status code) and its parameters."""

    name: str = "ok"
    parameters: dict[str, str] = field(default_factory=dict)
    reply: tuple[int, bytes, dict[str, str]] | None = None

    @classmethod
    def parse(cls, text: str) -> Behaviour:
        match = MARKER.search(text)
        if match is None:
            return ORDINARY
        pairs = (pair.split("=", 1) for pair in match[2].split(";") if pair)
        return cls(name=match[1], parameters=dict(pairs))


ORDINARY = Behaviour()


class FakeJudge:
    """Serves from a thread of its own. `delay_s` holds back every answer.

    `refuses` are parameters that no model accepts; `tool_choice by name` is one. `lacks` are
    paths that the server does not have.
    """

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.refuses: set[str] = set()
        self.lacks: set[str] = set()
        self.calls: collections.deque[Call] = collections.deque(maxlen=CALLS_KEPT)
        self.outage: str | None = None
        """How every call behaves meanwhile, such as "503"."""
        self.in_flight = 0
        self.in_flight_max = 0
        self.url = ""
        self._next: collections.deque[Behaviour] = collections.deque()
        self._turns: collections.Counter[str] = collections.Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="fake-judge", daemon=True)
        self._ready = threading.Event()
        self._released: asyncio.Event | None = None

    def __enter__(self) -> FakeJudge:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fake judge did not start within 10 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def then(self, *behaviours: str) -> None:
        """The next calls behave so, one each, in this order; before any marker."""
        self._next.extend(Behaviour.parse(f"judge!{text}") for text in behaviours)

    def reply(self, status: int, body: object, **headers: str) -> None:
        """The next call is answered so: `body` as it is if it is bytes, else as JSON."""
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        self._next.append(Behaviour(name="reply", reply=(status, payload, headers)))

    def forget(self) -> None:
        """Forget calls, turns, what was queued, and what is refused."""
        self.calls.clear()
        self.refuses.clear()
        self.lacks.clear()
        self._next.clear()
        self._turns.clear()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve_until_stopped())
        finally:
            self._loop.close()

    async def _serve_until_stopped(self) -> None:
        self._stop = asyncio.Event()
        self._released = asyncio.Event()
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._ready.set()
        await self._stop.wait()
        self._released.set()  # hanging answers end, so that stopping is quick
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = orjson.loads(raw)
        prompt = _prompt(body)
        path = request.path.removeprefix("/v1")
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        self.calls.append(
            Call(
                path=path,
                model=body.get("model"),
                key=key if scheme == "Bearer" else None,
                prompt=prompt,
                body=body,
                headers=dict(request.headers),
                raw=raw,
            )
        )
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await self._behave(request, path, body, prompt)
        except ConnectionError:  # the client went away, as it should from some behaviours
            return web.Response()
        finally:
            self.in_flight -= 1

    async def _behave(
        self, request: web.Request, path: str, body: dict[str, Any], prompt: str
    ) -> web.StreamResponse:
        if path in self.lacks:
            return web.json_response({"detail": "Not Found"}, status=404)
        if refused := self._refused(body):
            return refused
        if self.outage:
            behaviour = Behaviour.parse(f"judge!{self.outage}")
        else:
            behaviour = self._next.popleft() if self._next else Behaviour.parse(prompt)
        parameters = behaviour.parameters
        delay_s = float(parameters.get("delay", self.delay_s))
        if delay_s:
            await asyncio.sleep(delay_s)
        if "times" in parameters:
            turn_key = f"{behaviour.name}:{prompt}"
            self._turns[turn_key] += 1
            if self._turns[turn_key] > int(parameters["times"]):
                behaviour = ORDINARY
        if behaviour.reply is not None:
            status, payload, headers = behaviour.reply
            return web.Response(
                status=status, body=payload, headers=headers, content_type="application/json"
            )
        if behaviour.name.isdigit():
            key = request.headers.get("Authorization", "")
            return _refuse(int(behaviour.name), parameters, key=key)
        return await BEHAVIOURS[behaviour.name](self, request, path, body, parameters)

    def _refused(self, body: dict[str, Any]) -> web.Response | None:
        """The refusal of the first parameter that is in `refuses`, as OpenAI words it."""
        for name, value in body.items():
            form = f"{name} by name" if isinstance(value, dict) else name
            if not self.refuses.isdisjoint({name, form}):
                error = {
                    "message": f"Unsupported parameter: '{name}' is not supported with this "
                    "model.", "type": "invalid_request_error", "param": name,
                    "code": "unsupported_parameter",
                }
                return web.json_response({"error": error}, status=400)
        return None

    async def hold(self) -> None:
        """Until the server stops: an answer that never comes."""
        assert self._released is not None
        await self._released.wait()


def _prompt(body: dict[str, Any]) -> str:
    given = body.get("messages") or body.get("input") or ""
    if isinstance(given, str):
        return given
    return "\n".join(
        item if isinstance(item, str) else str(item.get("content", "")) for item in given
    )


def _refuse(status: int, parameters: dict[str, str], *, key: str) -> web.Response:
    """An error as OpenAI words it; `echo=1` repeats the key, as some servers do."""
    message = parameters.get("message", f"fake refusal {status}")
    if "echo" in parameters:
        message += f" (key {key})"
    names = {"retry-after": "Retry-After", "retry-after-ms": "Retry-After-Ms"}
    headers = {
        names[name]: value.replace("_", " ")
        for name, value in parameters.items()
        if name in names
    }
    error = {"error": {"message": message, "type": "fake", "code": str(status)}}
    return web.json_response(error, status=status, headers=headers)


def _answer_for(path: str, body: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    if path == "/embeddings":
        return _embedding(body, parameters)
    if path == "/moderations":
        value = float(parameters.get("flagged", "0"))
        result = {"flagged": value > 0.5, "category_scores": {"hate": value, "violence": 0.0}}
        return {"id": "modr-1", "model": "fake-moderation", "results": [result]}
    if not body.get("tools"):
        return _spoken(path, body, parameters.get("text", "as you say"))
    tool = body["tools"][0]
    schema = (tool.get("function") or tool)["parameters"]
    arguments = _instance(schema, schema.get("$defs", {}), parameters)
    if "choice" in parameters:
        arguments["choice"] = parameters["choice"]
    if "reasons" in arguments:
        arguments["reasons"] = parameters.get("reasons", "because the fake judge says so")
    return _tool_call(path, body, orjson.dumps(arguments).decode())


def _spoken(path: str, body: dict[str, Any], text: str) -> dict[str, Any]:
    """An answer in words, where no tool is offered."""
    if path == "/responses":
        content = [{"type": "output_text", "text": text}]
        usage = {"input_tokens": len(_prompt(body)) // 4, "output_tokens": 7, "total_tokens": 7}
        output = [{"type": "message", "role": "assistant", "content": content}]
        return {"id": "resp_1", "model": body["model"], "output": output, "usage": usage}
    message = {"role": "assistant", "content": text}
    return _completion(body, [{"index": 0, "message": message, "finish_reason": "stop"}])


def _tool_call(path: str, body: dict[str, Any], arguments: str) -> dict[str, Any]:
    tool = body["tools"][0]
    name = (tool.get("function") or tool)["name"]
    prompt_tokens = len(_prompt(body)) // 4
    if path == "/responses":
        call = {"type": "function_call", "call_id": "c1", "name": name, "arguments": arguments}
        usage = {"input_tokens": prompt_tokens, "output_tokens": 7, "total_tokens": 7}
        output = [{"type": "reasoning", "id": "r1", "summary": []}, call]
        return {
            "id": "resp_1",
            "object": "response",
            "model": body["model"],
            "status": "completed",
            "output": output,
            "usage": usage,
        }
    function = {"name": name, "arguments": arguments}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    return _completion(body, [{"index": 0, "message": message, "finish_reason": "stop"}])


def _completion(body: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": choices,
        "usage": {"prompt_tokens": len(_prompt(body)) // 4, "completion_tokens": 7},
    }


def _instance(schema: dict[str, Any], definitions: dict[str, Any], parameters: dict[str, str]):
    """The least value that fits the schema: the first choice, one item, the number 1."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {
                name: _instance(each, definitions, parameters)
                for name, each in properties.items()
            }
        case "array":
            item = _instance(schema["items"], definitions, parameters)
            repeat = int(parameters.get("repeat", "1"))
            return [item] if repeat == 1 else [f"{item} {n}" for n in range(repeat)]
        case "integer" | "number":
            return int(parameters.get("number", "1"))
        case _:
            return parameters.get("text", "a fact")


def _embedding(body: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """A vector that is a function of the text, so that equal texts are equally placed."""
    digest = hashlib.shake_128(str(body["input"]).encode()).digest(DIMENSIONS)
    vector: Any = [byte / 255 for byte in digest]
    if body.get("encoding_format") == "base64" and "floats" not in parameters:
        vector = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": body["model"],
        "usage": {"prompt_tokens": len(str(body["input"])) // 4, "total_tokens": 0},
    }


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


async def _ok(_judge, _request, path, body, parameters):
    answer = _answer_for(path, body, parameters)
    if "cached" in parameters:
        cached = {"cached_tokens": int(parameters["cached"])}
        answer["usage"] |= {"prompt_tokens_details": cached, "input_tokens_details": cached}
    return _json(answer)


async def _uncounted(_judge, _request, path, body, parameters):
    answer = _answer_for(path, body, parameters)
    return _json({name: value for name, value in answer.items() if name != "usage"})


async def _hang(judge, _request, _path, _body, _parameters):
    await judge.hold()
    return web.Response()


async def _hang_after_headers(judge, request, _path, _body, _parameters):
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"id": ')
    await judge.hold()
    return response


async def _drip(judge, request, path, body, parameters):
    """A right answer, a few bytes at a time: no single read times out."""
    payload = orjson.dumps(_answer_for(path, body, parameters))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(payload)
    await response.prepare(request)
    for start in range(0, len(payload), 4):
        await response.write(payload[start : start + 4])
        await asyncio.sleep(float(parameters.get("pause", "0.05")))
    return response


async def _bad_json(_judge, _request, _path, _body, _parameters):
    return web.Response(body=b'{"choices": [', content_type="application/json")


async def _html(_judge, _request, _path, _body, parameters):
    page = "<html><body>Sign in to continue</body></html>"
    return web.Response(
        text=page, status=int(parameters.get("status", "200")), content_type="text/html"
    )


async def _list_body(_judge, _request, _path, _body, _parameters):
    return _json([1, 2, 3])


async def _unknown_choice(_judge, _request, path, body, _parameters):
    return _json(_tool_call(path, body, '{"reasons": "hm", "choice": "Z"}'))


async def _bad_arguments(_judge, _request, path, body, _parameters):
    return _json(_tool_call(path, body, '{"choice": '))


async def _deep_arguments(_judge, _request, path, body, _parameters):
    return _json(_tool_call(path, body, "[" * 200_000))


async def _empty_choices(_judge, _request, path, body, _parameters):
    if path == "/responses":
        return _json({"id": "resp_1", "model": body["model"], "output": []})
    return _json(_completion(body, []))


async def _refusal(_judge, _request, path, body, _parameters):
    words = "I cannot help with that."
    if path == "/responses":
        content = [{"type": "refusal", "refusal": words}]
        return _json({"id": "resp_1", "output": [{"type": "message", "content": content}]})
    message = {"role": "assistant", "content": None, "refusal": words}
    return _json(_completion(body, [{"index": 0, "message": message}]))


async def _nan(_judge, _request, path, body, parameters):
    """NaN where a number belongs. Not JSON, yet Python servers send it."""
    if path == "/embeddings":
        answer = _embedding(body, parameters)
        answer["data"][0]["embedding"] = [math.nan] * DIMENSIONS
        return web.Response(body=json.dumps(answer), content_type="application/json")
    arguments = orjson.dumps(_answer_arguments(body)).decode()
    return _json(_tool_call(path, body, arguments.replace('"verdict":1', '"verdict":NaN')))


def _answer_arguments(body: dict[str, Any]) -> dict[str, Any]:
    tool = body["tools"][0]
    schema = (tool.get("function") or tool)["parameters"]
    return _instance(schema, schema.get("$defs", {}), {})


async def _huge(_judge, request, _path, _body, parameters):
    """10 MB, without a length unless `length=1`."""
    response = web.StreamResponse(status=int(parameters.get("status", "200")))
    response.content_type = "application/json"
    if "length" in parameters:
        response.content_length = HUGE_BYTES
    await response.prepare(request)
    for _ in range(HUGE_BYTES // 65536):
        await response.write(b"x" * 65536)
    return response


async def _reset(_judge, request, _path, _body, _parameters):
    request.transport.abort()
    return web.Response()


async def _reset_after_headers(_judge, request, _path, _body, _parameters):
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"id": ')
    request.transport.abort()
    return response


async def _not_http(_judge, request, _path, _body, _parameters):
    request.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    request.transport.close()
    return web.Response()


async def _redirect(_judge, _request, _path, _body, parameters):
    target = parameters.get("to", "http://127.0.0.1:9/elsewhere")
    return web.Response(status=307, headers={"Location": target})


Behave = Callable[..., Awaitable[web.StreamResponse]]
BEHAVIOURS: dict[str, Behave] = {
    "ok": _ok,
    "uncounted": _uncounted,
    "hang": _hang,
    "hang_after_headers": _hang_after_headers,
    "drip": _drip,
    "bad_json": _bad_json,
    "html": _html,
    "list_body": _list_body,
    "unknown_choice": _unknown_choice,
    "bad_arguments": _bad_arguments,
    "deep_arguments": _deep_arguments,
    "empty_choices": _empty_choices,
    "refusal": _refusal,
    "nan": _nan,
    "huge": _huge,
    "reset": _reset,
    "reset_after_headers": _reset_after_headers,
    "not_http": _not_http,
    "redirect": _redirect,
}


def main() -> None:
    """Serve until stdin closes."""
    delay_s = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    with FakeJudge(delay_s=delay_s) as judge:
        print(judge.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
