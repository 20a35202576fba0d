"""A trace as scorers see it: its spans, and the conversation that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spans.json import Json, JsonObject
from spans.row import ObjectRef

TRACE_SPANS_MAX = 2000
"""Spans of a trace that a scorer is given; of a longer one it would see an arbitrary part."""

TRACE_BYTES_MAX = 16 * 2**20
"""Bytes of JSON of the same; several traces are held at once, and copied into a jail."""


TRACE = "trace"
"""The argument that stands beside FIELDS where a scorer takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRef:
    """Names a trace."""

    where: ObjectRef
    root_span_id: str


class TraceStore(Protocol):
    """What reading a trace needs of stored data."""

    def spans_of(self, trace: TraceRef) -> list[JsonObject]:
        """The trace's rows as the API shows them, oldest first, score spans too.

        Raises TraceTooLarge.
        """
        ...


def trace_argument(store: TraceStore, trace: TraceRef) -> JsonObject:
    """The `trace` of a scorer's arguments: {spans, thread, configuration}."""
    spans = store.spans_of(trace)
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

    Each LLM span's input repeats what was said before it; what it adds is appended, then its
    answer. A trace without LLM spans is one exchange: the root's input and output.
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
    """What a model's input adds to the conversation that it repeats."""
    repeated = 0
    for before, now in zip(thread, messages, strict=False):
        if before != now:
            break
        repeated += 1
    return messages[repeated:]


def _messages(value: Json, *, role: str) -> list[Json]:
    """The messages in a span's input or output: chat messages, choices, or a plain value."""
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
