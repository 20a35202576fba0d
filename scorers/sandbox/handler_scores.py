"""Reads the scores from what a handler returned."""

from __future__ import annotations

import json
from dataclasses import dataclass

from spans.errors import BadResult
from spans.json import Json, JsonObject
from spans.scoring import Score, within_0_and_1

NAME_CHARACTERS_MAX = 100
SCORES_MAX = 100
"""Most scores of one run. More are taken for a mistake."""

@dataclass(frozen=True, slots=True)
class HandlerScores:
    """The scores of one run, and a line for each change to what stands beside them."""

    scores: tuple[Score, ...]
    changes: tuple[str, ...] = ()


def scores_of(value: Json, *, name: str) -> HandlerScores:
    """The scores that `value` holds. A score without a name of its own gets `name`.

    `value` is a number or a boolean, null (the scorer declines, which is one score without a
    value), an object with `score` and perhaps `name` and `metadata`, or a list of these. Other
    fields of an object are put into its metadata. Raises BadResult for anything else: one value
    that is no score costs the other scores of the run, as an exception would.
    """
    changes: list[str] = []
    if not isinstance(value, list):
        return HandlerScores((_score(value, name, "", changes),), tuple(changes))
    if not 0 < len(value) <= SCORES_MAX:
        raise BadResult(f"{len(value)} scores, and a list holds 1 to {SCORES_MAX}")
    scores = tuple(
        _score(each, name, f"[{place}].", changes) for place, each in enumerate(value)
    )
    names = [each.name for each in scores]
    for each in names:
        if names.count(each) > 1:
            raise BadResult(f"two scores are named {each!r}: give each a name of its own")
    return HandlerScores(scores, tuple(changes))


def _score(value: Json, name: str, at: str, changes: list[str]) -> Score:
    if not isinstance(value, dict):
        return Score(name=name, value=_number(value, at))
    if "score" not in value:
        raise BadResult("an object without score: a result is a number, or has a score")
    return Score(
        name=_name(value.get("name"), name, at, changes),
        value=_number(value["score"], at),
        metadata=_metadata(value, at, changes),
    )


def _number(value: Json, at: str) -> float | None:
    where = f"{at}score: " if at else ""
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise BadResult(
            f"{where}{value!r:.99} is no score: that is a number in 0..1, or nothing"
        )
    number = within_0_and_1(value)
    if number is None:
        raise BadResult(f"{where}{value!r:.99} lies outside 0..1")
    return float(number)


def _name(given: Json, otherwise: str, at: str, changes: list[str]) -> str:
    """The name that a score brings, cut and made printable, or the one that it gets."""
    if given is None or given == "":
        return otherwise
    text = given if isinstance(given, str) else json.dumps(given)
    printable = "".join(each if each.isprintable() else " " for each in text)
    kept = printable[:NAME_CHARACTERS_MAX].strip() or otherwise
    if kept != given:
        changes.append(
            f"{at}name is not a text of 1 to {NAME_CHARACTERS_MAX} printable characters: the "
            f"score is named {kept!r}"
        )
    return kept


def _metadata(value: JsonObject, at: str, changes: list[str]) -> JsonObject:
    """A score's metadata, with the fields of the score that have no place of their own."""
    given = value.get("metadata")
    if given is None:
        metadata: JsonObject = {}
    elif isinstance(given, dict):
        metadata = {**given}
    else:
        metadata = {"metadata": given}
        changes.append(f"{at}metadata is no object: it is stored as metadata.metadata")
    for key, each in value.items():
        if key in {"score", "name", "metadata"} or each is None:
            continue
        if key in metadata:
            changes.append(f"{at}{key:.99} stands in metadata too: that one is stored")
            continue
        metadata[key] = each
        changes.append(f"{at}{key:.99} is stored as metadata.{key:.99}")
    return metadata
