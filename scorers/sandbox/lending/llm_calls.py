"""Checks the model calls of users' code, and cuts them to their token limits.

Only listed fields are let through; nothing is let through because no rule forbids it. The
endpoints offer tools that search the web, files by their address, and conversations stored in
the operator's account. Each would be a way out of the jail or into somebody else's data.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from spans.json import Json, JsonObject

CHAT, EMBEDDINGS, RESPONSES = "/chat/completions", "/embeddings", "/responses"

_SHARED = frozenset({"model", "temperature", "top_p", "tools", "tool_choice",
                     "parallel_tool_calls"})
_FIELDS = {
    CHAT: _SHARED | {
        "messages", "max_tokens", "max_completion_tokens", "stop", "seed", "logit_bias",
        "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "response_format",
        "reasoning_effort", "verbosity", "n", "stream", "store",
    },
    RESPONSES: _SHARED | {
        "input", "instructions", "max_output_tokens", "reasoning", "text", "stream", "store",
    },
    EMBEDDINGS: frozenset({"model", "input", "dimensions", "encoding_format"}),
}
# Fields that may be sent, but only with their default value.
_FIXED: JsonObject = {"n": 1, "stream": False, "store": False}
_CEILINGS = {
    CHAT: ("max_tokens", "max_completion_tokens"), RESPONSES: ("max_output_tokens",),
    EMBEDDINGS: (),
}

# `id` is not among them: an item with nothing but an id names one that anybody stored before.
_ITEM_FIELDS = frozenset({"type", "role", "content", "name", "refusal", "tool_calls",
                          "tool_call_id", "call_id", "arguments", "output", "status"})
_ITEMS = ("message", "function_call", "function_call_output", None)
_PARTS = ("text", "input_text", "output_text", "refusal")


class Refused(Exception):
    """The call is refused. `status` is the answer's HTTP status, `code` OpenAI's error code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A call that may be made. `completion_tokens_max` is the most tokens of its answer."""

    path: str
    model: str
    body: JsonObject
    completion_tokens_max: int


def admitted(
    path: str, body: JsonObject, *, listed: Set[str], allowed: Set[str], tokens_max: int
) -> ModelCall:
    """The call as it goes out to the endpoint.

    The model must be `listed` by the scorer's author and `allowed` by the operator.
    `tokens_max` is the most tokens that one answer may take. Raises Refused.
    """
    model = body.get("model")
    if not isinstance(model, str):
        raise Refused(403, "model_not_allowed", f"{model!r:.99} is no name of a model")
    if model not in listed & allowed:
        lacking = [
            f"{who} must list it in {where}"
            for who, where, names in (
                ("the scorer's author", "metadata.sandbox.models", listed),
                ("the operator", "TALLYARD_SANDBOX_MODELS", allowed),
            )
            if model not in names
        ]
        usable = ", ".join(sorted(listed & allowed)) or "none"
        raise Refused(
            403, "model_not_allowed",
            f"this scorer may not use {model!r:.99}: {', and '.join(lacking)}. "
            f"It may use: {usable}",
        )
    if unknown := sorted(set(body) - _FIELDS[path]):
        raise _invalid(f"{unknown[0]:.99} is not let through from a scorer")
    for name, value in _FIXED.items():
        if body.get(name) not in (None, value):
            raise _invalid(f"{name} must be {value!r}".replace("False", "false"))
    _check_tools(body.get("tools"))
    _check_texts(body.get("messages" if path == CHAT else "input"))
    kept = {name: value for name, value in body.items() if name not in _FIXED}
    if path == EMBEDDINGS:
        return ModelCall(path=path, model=model, body=kept, completion_tokens_max=0)
    most = _ceiling(path, kept, tokens_max)
    return ModelCall(path=path, model=model, body=kept, completion_tokens_max=most)


def _ceiling(path: str, body: JsonObject, tokens_max: int) -> int:
    """Put the token limit into the body, unless the caller set a lower one. Return it."""
    given = [name for name in _CEILINGS[path] if body.get(name) is not None]
    for name in given:
        value = body[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _invalid(f"{name} must be a whole number from 1")
        body[name] = min(value, tokens_max)
    if not given:
        body[_CEILINGS[path][0]] = tokens_max   # renamed for a model that refuses the name
    return tokens_max


def _check_tools(tools: Json) -> None:
    if tools is None:
        return
    if not isinstance(tools, list) or not all(
        isinstance(tool, dict) and tool.get("type") == "function" for tool in tools
    ):
        raise _invalid("tools must be functions: what an endpoint would run itself is not let "
                       "through")


def _check_texts(given: Json) -> None:
    """Raise Refused unless these are messages, items or text that refer to nothing else."""
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, str):
            continue
        if not isinstance(item, dict) or item.get("type") not in _ITEMS:
            raise _invalid("messages and inputs must be text, messages or function calls")
        if unknown := sorted(set(item) - _ITEM_FIELDS):
            raise _invalid(f"{unknown[0]:.99} is not let through in a message")
        for part in _parts(item.get("content")) + _parts(item.get("output")):
            if not isinstance(part, str) and not (
                isinstance(part, dict) and part.get("type") in _PARTS
            ):
                raise _invalid("a message's content must be text")


def _parts(content: Json) -> list[Json]:
    if content is None:
        return []
    return content if isinstance(content, list) else [content]


def _invalid(message: str) -> Refused:
    return Refused(400, "invalid_request_error", message)
