"""Runs the scorers that compute their score in this process, and estimates what a run costs.

They need no network. Most take microseconds, but on large values some take seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from importlib import import_module

from scorers.arguments import ScoringFields, arguments
from scorers.catalog import ScorerSpec
from scorers.results import AutoevalsScore, failure, result
from scorers.unfit import unfit_value
from spans.errors import ScorerFailed
from spans.json import Json
from spans.scoring import ScoringResult

_OWN_MODULES = {
    "ExactMatch": "scorers.heuristics.exact_match",
    "ListContains": "scorers.heuristics.list_contains",
    "ValidJSON": "scorers.heuristics.valid_json",
}
"""Scorers that replace autoevals' own; each module says what it changes and why."""

# Measured costs, in the units of `cost`.
_CHARACTER = 100.0        # read or write one character of JSON
_JSON_VALUE = 15_000.0    # visit one JSON value in JSONDiff
_PAIR = 10_000.0          # compare one pair of elements in ListContains
_PAIRING_STEP = 450.0     # one step of the search for ListContains' best pairs
_SCHEMA = 1_500_000.0     # check one JSON schema itself
_KEYWORD = 7_000.0        # check one value against one keyword of a schema

# If a schema holds one of these, the sizes of schema and value do not bound the time of a
# check: a pattern may backtrack, references may multiply, and uniqueItems compares every pair.
_UNBOUNDED_KEYWORDS = frozenset(
    {"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef", "uniqueItems"}
)


def score_in_process(spec: ScorerSpec, fields: ScoringFields) -> ScoringResult:
    """Run the scorer on this thread and return its result.

    The run cannot be interrupted, so check its `cost` first. Raises MissingArgument,
    ScorerFailed if the scorer raised or would raise, and BadResult if its score is not a
    number in 0..1.
    """
    given = arguments(spec, fields)
    if unfit := unfit_value(spec, given):
        raise ScorerFailed(f"{spec.name}: {unfit}")
    evaluate = _eval(spec)
    try:
        returned = evaluate(**given)
    # The scorer is foreign code that runs on foreign data, so it may raise anything. Whatever
    # it raises must become this span's error alone: the batch's other spans must go on.
    except Exception as error:
        raise failure(spec, error) from error
    return result(spec, given, returned)


def cost(spec: ScorerSpec, fields: ScoringFields) -> float:
    """An upper estimate of the scorer's work on these fields, right within a small factor.

    One unit takes about 0.15 ns. It is what Levenshtein takes to compare one character of
    `output` with one of `expected`: 1e6 units take 0.16 ms, 1e7 1.6 ms, 1e8 15 ms, 1e9 0.15 s,
    and 9e10 (300,000 characters each) 13 s. Measured with autoevals' polyleven on a server core
    of the 2020s; below 1e5 units a fixed cost of about 3 µs dominates. The constants of the
    other scorers are scaled to the same time. Infinity means that no bound is known, as for a
    ValidJSON schema with a pattern or a reference.
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


@cache
def _eval(spec: ScorerSpec) -> Callable[..., AutoevalsScore]:
    """The scorer's method that runs it. It keeps no state between runs, so it can be shared."""
    # Imported here because autoevals takes 0.13 s and 15 MB, and not every process needs it.
    home = _OWN_MODULES.get(spec.name, "autoevals")
    scorer = getattr(import_module(home), spec.name)()
    evaluate: Callable[..., AutoevalsScore] = scorer.eval
    return evaluate


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
