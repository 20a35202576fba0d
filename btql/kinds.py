"""Kinds: what is known of a value's type before any row is seen."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The type of a value, as far as the expression alone tells it.

    A value of kind JSON may have another type in each row. A value of any other kind has that
    type, or is null.
    """

    JSON = "json"
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    INTERVAL = "interval"


def common_kind(kinds: list[Kind]) -> Kind:
    """The kind of a value that has one of these kinds: TIME if any is, else theirs, or JSON."""
    if Kind.TIME in kinds:
        return Kind.TIME
    return kinds[0] if len(set(kinds)) == 1 else Kind.JSON
