"""What a scorer is called with, taken from a span."""

from __future__ import annotations

import json
from dataclasses import dataclass

from scorers.catalog import ScorerSpec
from spans.columns import SCORER_ARGUMENTS
from spans.errors import MissingArgument
from spans.json import Json, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringFields:
    """The fields of a span that a scorer may ask for. None: missing, or JSON null.

    `trace` is read only for scorers that want it: {spans, thread, configuration}, see
    `scorers.running.trace`.
    """

    input: Json = None
    output: Json = None
    expected: Json = None
    metadata: Json = None
    tags: Json = None
    id: str | None = None
    trace: JsonObject | None = None


def arguments(spec: ScorerSpec, fields: ScoringFields) -> JsonObject:
    """The scorer's arguments by name, as stored: nothing is copied or reordered.

    `input`, `output`, `expected`, `metadata` and `tags` are the span's own fields; any other
    name (context, criteria, language, instructions, schema, threshold) is a key of its
    metadata. null is missing; false, 0, "" and [] are values. Optional ones that are missing
    are left out. Raises MissingArgument.
    """
    given: JsonObject = {}
    for name in spec.required:
        value = _lookup(name, fields)
        if value is None:
            place = name if name in SCORER_ARGUMENTS else f"metadata.{name}"
            raise MissingArgument(
                f"{spec.name} needs {name!r}, and the span's {place} is missing or null"
            )
        given[name] = value
    for name in spec.optional:
        value = _lookup(name, fields)
        if value is not None:
            given[name] = value
    return given


def columns_of(spec: ScorerSpec) -> frozenset[str]:
    """The columns of a row that the scorer's arguments are taken from."""
    names = (*spec.required, *spec.optional)
    return frozenset(name if name in SCORER_ARGUMENTS else "metadata" for name in names)


def as_text(value: Json) -> str:
    """The value as a prompt shows it: a string as it is, anything else as JSON.

    autoevals' templates would show Python's own notation: {'a': None} for {"a": null}.
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lookup(name: str, fields: ScoringFields) -> Json:
    if name in SCORER_ARGUMENTS:
        value: Json = getattr(fields, name)
        return value
    return fields.metadata.get(name) if isinstance(fields.metadata, dict) else None
