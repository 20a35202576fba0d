"""A trace as scorers see it: its spans, and the conversation in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spans.json import Json, JsonObject
from spans.row import ObjectRef

TRACE_SPANS_MAX = 2000
"""Most spans of a trace that a scorer is given. A larger trace is refused, not cut: a scorer
would judge an arbitrary part of it."""

TRACE_BYTES_MAX = 16 * 2**20
"""Largest trace, bytes of JSON. A worker holds several at once and copies them into jails."""

TRACE = "trace"
"""The name of the argument that holds the trace, for scorers that take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRef:
    """Names a trace."""

    where: ObjectRef
    root_span_id: str


SpansOf = Callable[[TraceRef], list[JsonObject]]
"""Reads a trace's rows as the API shows them, oldest first, with its score spans. Raises
TraceTooLarge above TRACE_SPANS_MAX or TRACE_BYTES_MAX."""


def trace_argument(spans_of: SpansOf, trace: TraceRef) -> JsonObject:
    """The value of a scorer's `trace` argument: {spans, thread, configuration}.

    Raises TraceTooLarge.
    """
    spans = spans_of(trace)
    return {
        "spans": [*spans],
        "thread": [*thread_of(spans)],
        "configuration": {
            "object_type": trace.where.object_type.value,
            "object_id": str(trace.where.object_id),
            "root_span_id": trace.root_span_id,
        },
    }


def thread_of(spans: Sequence[JsonObject]) -> list[Json]:
    """The conversation of a trace: its messages, {role, content, ...}, oldest first.

    The input of an LLM span usually repeats the conversation so far. Only the messages that it
    adds are appended, and then the span's output. A trace without LLM spans counts as one
    exchange: the root span's input and output.
    """
    thread: list[Json] = []
    for span in spans:
        if _attributes(span).get("type") != "llm":
            continue
        thread += _said_anew(thread, _messages(span.get("input"), role="user"))
        thread += _messages(span.get("output"), role="assistant")
    if not thread:
        for span in spans:
            if span.get("is_root") is True:
                thread += _messages(span.get("input"), role="user")
                thread += _messages(span.get("output"), role="assistant")
    return thread


def _said_anew(thread: Sequence[Json], messages: Sequence[Json]) -> Sequence[Json]:
    """The messages that follow those which repeat the start of the thread."""
    repeated = 0
    for before, now in zip(thread, messages, strict=False):
        if before != now:
            break
        repeated += 1
    return messages[repeated:]


def _messages(value: Json, *, role: str) -> list[Json]:
    """The messages in a span's input or output.

    It may hold chat messages or a completion's choices. Any other value becomes one message of
    the given role; an empty value gives none.
    """
    if value is None or value in ("", [], {}):
        return []
    match value:
        case {"messages": list(messages)}:
            return _messages(messages, role=role)
        case {"choices": list(choices)}:
            return _messages(choices, role=role)
        case {"message": dict(message)}:
            return [message]
        case {"role": str()}:
            return [value]
        case list() if all(isinstance(one, dict) and _is_message(one) for one in value):
            return [each for one in value for each in _messages(one, role=role)]
        case _:
            return [{"role": role, "content": value}]


def _is_message(value: JsonObject) -> bool:
    return isinstance(value.get("role"), str) or isinstance(value.get("message"), dict)


def _attributes(span: JsonObject) -> JsonObject:
    attributes = span.get("span_attributes")
    return attributes if isinstance(attributes, dict) else {}
