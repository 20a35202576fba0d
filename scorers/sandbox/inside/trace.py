"""The trace that a handler may ask for: its spans, its thread of messages, where it is stored.

All of it came with the record. Each answer may be used at once or awaited, since handlers are
written either way.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

JsonObject = dict[str, Any]


class Span(dict[str, Any]):
    """A span's fields, as keys and as attributes; None for what it lacks."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 any JSON
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class _List(list[Any]):
    def __await__(self) -> Generator[None, None, list[Any]]:
        yield from ()
        return self


class _Object(dict[str, Any]):
    def __await__(self) -> Generator[None, None, dict[str, Any]]:
        yield from ()
        return self


class Trace:
    """What a handler's `trace` argument offers."""

    def __init__(self, given: JsonObject) -> None:
        self._given = given

    def get_spans(
        self,
        span_type: Sequence[str] | str | None = None,
        include_scorers: bool = False,  # noqa: FBT001, FBT002 handlers call it by position, too
    ) -> _List:
        """Its spans, oldest first; those of the given types alone, without scorers' own."""
        types = [span_type] if isinstance(span_type, str) else span_type
        return _List(
            Span(each)
            for each in self._given.get("spans") or ()
            if (types is None or _attribute(each, "type") in types)
            and (include_scorers or _attribute(each, "purpose") != "scorer")
        )

    def get_thread(self, preprocessor: str | None = None) -> _List:
        """Its messages in order. There is one preprocessor, the default."""
        if preprocessor not in (None, "project_default"):
            raise ValueError(f"there is no preprocessor {preprocessor!r} here: leave it out")
        return _List(self._given.get("thread") or ())

    def get_configuration(self) -> _Object:
        """`object_type`, `object_id` and `root_span_id`: where the trace is stored."""
        return _Object(self._given.get("configuration") or {})


def _attribute(span: JsonObject, name: str) -> object:
    attributes = span.get("span_attributes")
    return attributes.get(name) if isinstance(attributes, dict) else None
