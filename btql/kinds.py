"""What is known of a value before any row is seen."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """JSON is a value that shows its type row by row; the others are known, or null."""

    JSON = "json"
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    INTERVAL = "interval"


def common_kind(kinds: list[Kind]) -> Kind:
    """The kind of a value that comes from one of several places; a time wins."""
    if Kind.TIME in kinds:
        return Kind.TIME
    return kinds[0] if len(set(kinds)) == 1 else Kind.JSON
