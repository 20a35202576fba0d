"""The `trace` argument of a handler: its spans, its conversation, and where it is stored.

All of its data came with the record. Its methods' results can be used at once or awaited,
because handlers are written either way.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

JsonObject = dict[str, Any]


class Span(dict[str, Any]):
    """A span's fields, as keys and as attributes. A missing attribute is None."""

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
    """A handler's `trace` argument."""

    def __init__(self, given: JsonObject) -> None:
        self._given = given

    def get_spans(
        self,
        span_type: Sequence[str] | str | None = None,
        include_scorers: bool = False,  # noqa: FBT001, FBT002 handlers call it by position, too
    ) -> _List:
        """Its spans, oldest first: those of the given types, and no scorers' own."""
        types = [span_type] if isinstance(span_type, str) else span_type
        return _List(
            Span(each)
            for each in self._given.get("spans") or ()
            if (types is None or _attribute(each, "type") in types)
            and (include_scorers or _attribute(each, "purpose") != "scorer")
        )

    def get_thread(self, preprocessor: str | None = None) -> _List:
        """Its messages in order. Raises ValueError for any preprocessor but the default."""
        if preprocessor not in (None, "project_default"):
            raise ValueError(f"there is no preprocessor {preprocessor!r} here: leave it out")
        return _List(self._given.get("thread") or ())

    def get_configuration(self) -> _Object:
        """`object_type`, `object_id` and `root_span_id`: where the trace is stored."""
        return _Object(self._given.get("configuration") or {})


def _attribute(span: JsonObject, name: str) -> object:
    attributes = span.get("span_attributes")
    return attributes.get(name) if isinstance(attributes, dict) else None
