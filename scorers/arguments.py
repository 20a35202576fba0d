"""Takes the arguments of an autoevals scorer from a span."""

from __future__ import annotations

import json
from dataclasses import dataclass

from scorers.catalog import ScorerSpec
from spans.columns import SCORER_ARGUMENTS
from spans.errors import MissingArgument
from spans.json import Json, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringFields:
    """The fields of a span that a scorer may ask for. None means missing, or JSON null.

    `trace` is {spans, thread, configuration} (`scorers.run.trace`). It is costly to read,
    so it is set only for scorers that use it.
    """

    input: Json = None
    output: Json = None
    expected: Json = None
    metadata: Json = None
    tags: Json = None
    id: str | None = None
    trace: JsonObject | None = None


def arguments(spec: ScorerSpec, fields: ScoringFields) -> JsonObject:
    """The scorer's arguments by name, with the values as they are stored (not copied).

    `input`, `output`, `expected`, `metadata` and `tags` are fields of the span. Any other name
    (context, criteria, language, instructions, schema, threshold) is a key of its metadata.
    null counts as missing; false, 0, "" and [] are values. A missing optional argument is left
    out. Raises MissingArgument if a required one is missing.
    """
    given: JsonObject = {}
    for name in spec.required:
        value = _lookup(name, fields)
        if value is None:
            place = name if name in SCORER_ARGUMENTS else f"metadata.{name}"
            raise MissingArgument(
                f"{spec.name} needs {name!r}, but the span's {place} is missing or null"
            )
        given[name] = value
    for name in spec.optional:
        value = _lookup(name, fields)
        if value is not None:
            given[name] = value
    return given


def columns_of(spec: ScorerSpec) -> frozenset[str]:
    """The columns of a row that hold the scorer's arguments."""
    names = (*spec.required, *spec.optional)
    return frozenset(name if name in SCORER_ARGUMENTS else "metadata" for name in names)


def as_text(value: Json) -> str:
    """The value as a prompt shows it: a string unchanged, anything else as JSON.

    autoevals' templates would show Python's notation instead: {'a': None} for {"a": null}.
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lookup(name: str, fields: ScoringFields) -> Json:
    if name in SCORER_ARGUMENTS:
        value: Json = getattr(fields, name)
        return value
    return fields.metadata.get(name) if isinstance(fields.metadata, dict) else None
