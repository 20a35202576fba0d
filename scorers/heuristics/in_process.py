"""Scorers that compute their score here: no network, microseconds to seconds."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import import_module
from typing import Protocol

from scorers.arguments import ScoringFields, arguments
from scorers.catalog import ScorerSpec
from scorers.results import AutoevalsScore, failure, result
from spans.json import Json
from spans.scoring import ScoringResult

_OWN_MODULES = {
    "ListContains": "scorers.heuristics.list_contains",
    "ValidJSON": "scorers.heuristics.valid_json",
}
"""Scorers of autoevals that are run in a changed form; each module says what and why."""

# Units of cost (see `cost`), each measured: one character that is turned to or from JSON, one
# JSON value that JSONDiff visits, one pair of elements that ListContains compares, one step
# of pairing them, one schema that is itself checked, one keyword of it against one value.
_CHARACTER = 100.0
_JSON_VALUE = 15_000.0
_PAIR = 10_000.0
_PAIRING_STEP = 450.0
_SCHEMA = 1_500_000.0
_KEYWORD = 7_000.0

# With one of these in a schema, checking a value has no bound that the sizes tell: a pattern
# may backtrack, references may multiply, and uniqueItems compares every pair.
_UNBOUNDED_KEYWORDS = frozenset(
    {"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef", "uniqueItems"}
)


def score_in_process(spec: ScorerSpec, fields: ScoringFields) -> ScoringResult:
    """Run the scorer now, on this thread; it cannot be interrupted (see `cost`).

    Raises MissingArgument, ScorerFailed if the scorer raised, and BadResult if its score is no
    number in 0..1.
    """
    given = arguments(spec, fields)
    scorer = _scorer(spec)
    try:
        verdict = scorer.eval(**given)
    # A scorer is foreign code over foreign data and may raise anything: whatever it is must
    # become this span's error, and must not take the spans of the same batch with it.
    except Exception as error:
        raise failure(spec, error) from error
    return result(spec, given, verdict)


def cost(spec: ScorerSpec, fields: ScoringFields) -> float:
    """About how much work the scorer would have; an upper estimate, within a small factor.

    The unit is one character of `output` against one of `expected` in Levenshtein, some
    0.15 ns: 1e6 takes 0.16 ms, 1e7 1.6 ms, 1e8 15 ms, 1e9 0.15 s, 9e10 (300,000 characters
    each) 13 s. Measured on one 2020s server core with autoevals' polyleven; below 1e5 the
    fixed cost of some 3 µs governs. The other scorers are scaled to the same time. infinity:
    no bound is known (a ValidJSON schema with a pattern or a reference).
    """
    match spec.name:
        case "Levenshtein":
            return float(_characters(fields.output) * _characters(fields.expected))
        case "JSONDiff":
            output, expected = json.dumps(fields.output), json.dumps(fields.expected)
            visits = output.count(",") + expected.count(",") + 2
            linear = _CHARACTER * (len(output) + len(expected))
            return len(output) * len(expected) + linear + _JSON_VALUE * visits
        case "ListContains":
            shorter, longer = sorted((_length(fields.output), _length(fields.expected)))
            comparing = _characters(fields.output) * _characters(fields.expected)
            pairing = _PAIRING_STEP * shorter * shorter * longer
            return comparing + _PAIR * shorter * longer + pairing
        case "ValidJSON":
            return _validation_cost(fields)
        case _ if isinstance(fields.output, str) and isinstance(fields.expected, str):
            return float(len(fields.output) + len(fields.expected))
        case _:
            return _CHARACTER * (_characters(fields.output) + _characters(fields.expected))


class _InProcessScorer(Protocol):
    def eval(self, **given: Json) -> AutoevalsScore: ...


@cache
def _scorer(spec: ScorerSpec) -> _InProcessScorer:
    """One instance per scorer; they keep no state between evaluations."""
    # Imported here and not above: 0.13 s and 15 MB that a process without scorers saves.
    home = _OWN_MODULES.get(spec.name, "autoevals")
    scorer: _InProcessScorer = getattr(import_module(home), spec.name)()
    return scorer


def _validation_cost(fields: ScoringFields) -> float:
    schema = fields.metadata.get("schema") if isinstance(fields.metadata, dict) else None
    output = str(fields.output)
    parsing = _CHARACTER * len(output)
    if schema is None:
        return parsing
    if _has_unbounded_keyword(schema):
        return math.inf
    values = output.count(",") + output.count("{") + output.count("[") + 1
    return parsing + _SCHEMA + _KEYWORD * values * (str(schema).count(":") + 1)


def _has_unbounded_keyword(schema: Json) -> bool:
    if isinstance(schema, dict):
        return not _UNBOUNDED_KEYWORDS.isdisjoint(schema) or any(
            _has_unbounded_keyword(each) for each in schema.values()
        )
    return isinstance(schema, list) and any(_has_unbounded_keyword(each) for each in schema)


def _characters(value: Json) -> int:
    return len(value) if isinstance(value, str) else len(str(value))


def _length(value: Json) -> int:
    return len(value) if isinstance(value, str | list | dict) else 1
