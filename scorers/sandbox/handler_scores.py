"""Reads the scores from what a handler returned."""

from __future__ import annotations

from spans.errors import BadResult
from spans.json import Json, JsonObject
from spans.scoring import Score, within_0_and_1

NAME_CHARACTERS_MAX = 100
SCORES_MAX = 100
"""Most scores of one run. More are taken for a mistake."""

_KEYS = frozenset({"score", "name", "metadata"})


def scores_of(value: Json, *, name: str) -> tuple[Score, ...]:
    """The scores that `value` holds. A score without a name of its own gets `name`.

    `value` is a number or a boolean, null (the scorer declines, which is one score without a
    value), an object with `score` and perhaps `name` and `metadata`, or a list of these. Raises
    BadResult for anything else.
    """
    if not isinstance(value, list):
        return (_score(value, name),)
    if not 0 < len(value) <= SCORES_MAX:
        raise BadResult(f"{len(value)} scores, and a list holds 1 to {SCORES_MAX}")
    scores = tuple(_score(each, name) for each in value)
    names = [each.name for each in scores]
    for each in names:
        if names.count(each) > 1:
            raise BadResult(f"two scores are named {each!r}: give each a name of its own")
    return scores


def _score(value: Json, name: str) -> Score:
    if not isinstance(value, dict):
        return Score(name=name, value=_number(value))
    if "score" not in value:
        raise BadResult("an object without score: a result is a number, or has a score")
    unknown = sorted(value.keys() - _KEYS)
    if unknown:
        raise BadResult(f"unknown {unknown[0]!r:.99}: beside score stand name and metadata")
    return Score(
        name=_name(value.get("name"), name),
        value=_number(value["score"]),
        metadata=_metadata(value.get("metadata")),
    )


def _number(value: Json) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise BadResult(f"{value!r:.99} is no score: that is a number in 0..1, or nothing")
    number = within_0_and_1(value)
    if number is None:
        raise BadResult(f"{value!r:.99} lies outside 0..1")
    return float(number)


def _name(given: Json, otherwise: str) -> str:
    if given is None:
        return otherwise
    if not isinstance(given, str) or not 0 < len(given) <= NAME_CHARACTERS_MAX:
        raise BadResult(f"a score's name has 1 to {NAME_CHARACTERS_MAX} characters")
    if not given.isprintable():
        raise BadResult(f"the name {given!r:.99} has characters that cannot be printed")
    return given


def _metadata(given: Json) -> JsonObject:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadResult("a score's metadata is an object")
    return given
