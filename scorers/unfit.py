"""Says in a sentence why one of autoevals' scorers can give no score. Pure functions.

autoevals computes until Python refuses: it divides by the number of statements in an answer
that makes none, or subtracts a text from a number.
"""

from __future__ import annotations

from scorers.catalog import ScorerSpec
from spans.json import Json, JsonObject

_COMPARED = ("output", "expected")

_NOTHING_TO_COUNT = {
    "Faithfulness": "the answer makes no statement",
    "AnswerCorrectness": "neither the answer nor the expected one makes a statement",
    "ContextRelevancy": "the span's metadata.context is empty",
    "AnswerRelevancy": "an embedding has only zeros",
    "AnswerSimilarity": "an embedding has only zeros",
    "ContextEntityRecall": "an embedding has only zeros",
    "EmbeddingSimilarity": "an embedding has only zeros",
}
"""By what each scorer divides, where that can be zero."""


def unfit_value(spec: ScorerSpec, given: JsonObject) -> str | None:
    """Which of the arguments the scorer cannot compare, and why; None if it can."""
    for name in _COMPARED:
        value = given.get(name)
        match spec.name:
            case "NumericDiff" if not isinstance(value, int | float):
                return f"it compares numbers, and the span's {name} is {_kind(value)}"
            case "ListContains" if not isinstance(value, list | str):
                return f"it compares lists, and the span's {name} is {_kind(value)}"
            case "ListContains" if isinstance(value, list) and None in value:
                return f"it compares elements of lists, and one of the span's {name} is null"
            case _:
                continue
    return None


def unread(spec: ScorerSpec, error: Exception) -> str:
    """Why the scorer could not read the judge's answers, from the exception that it raised."""
    match error:
        case ZeroDivisionError() if spec.name in _NOTHING_TO_COUNT:
            return _NOTHING_TO_COUNT[spec.name]
        case KeyError():
            return f"it has no {error}, or chose it from what was not offered"
        case _:
            text = str(error) or "it has another form than the one that was asked for"
            return f"{type(error).__name__}: {text}"


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a text" if value else "an empty text"
        case int() | float():
            return "a number"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "an object"
