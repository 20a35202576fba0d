"""Turns what an autoevals scorer returns or raises into what Tallyard stores."""

from __future__ import annotations

import math
import re
from typing import Protocol

from scorers.catalog import ScorerSpec
from spans.errors import BadResult, ScorerFailed
from spans.json import Json, JsonObject
from spans.scoring import Score, ScoringResult, Usage, within_0_and_1

MESSAGE_CHARACTERS_MAX = 2048
DEPTH_MAX = 32
_SURROGATE = re.compile("[\ud800-\udfff]")
NO_USAGE = Usage()


class AutoevalsScore(Protocol):
    """The parts of an `autoevals.Score` that are read here. autoevals ships no types."""

    @property
    def score(self) -> object: ...

    @property
    def metadata(self) -> dict[str, object] | None: ...


def result(
    spec: ScorerSpec, given: JsonObject, returned: AutoevalsScore, usage: Usage = NO_USAGE
) -> ScoringResult:
    """The result to store, with one score that bears the scorer's own name.

    `given` are the arguments that the scorer was called with. Raises BadResult if the value
    is neither None nor a number in 0..1.
    """
    metadata = _metadata(returned.metadata) if returned.metadata else {}
    score = Score(name=spec.name, value=_value(spec, returned.score), metadata=metadata)
    return ScoringResult(scores=(score,), arguments=given, usage=usage)


def failure(spec: ScorerSpec, error: BaseException) -> ScorerFailed:
    """The error to store for an exception that the scorer raised.

    Its message names the exception's class and text, cut to MESSAGE_CHARACTERS_MAX.
    """
    text = str(error)
    message = f"{spec.name} raised {type(error).__name__}" + (f": {text}" if text else "")
    return ScorerFailed(storable(message[:MESSAGE_CHARACTERS_MAX]))


def storable(text: str) -> str:
    """The text with U+FFFD in place of NUL and of lone surrogates.

    PostgreSQL can store neither. Scorers and judges may send both, and a single one would make
    the write of the whole batch fail.
    """
    if "\0" not in text and not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub("\ufffd", text.replace("\0", "\ufffd"))


def _value(spec: ScorerSpec, value: object) -> float | None:
    if value is None:
        return None
    number = within_0_and_1(value) if isinstance(value, int | float) else None
    if number is None:
        raise BadResult(f"{spec.name} returned {value!r:.99}: a score is a number in 0..1")
    return float(number)


def _metadata(metadata: dict[str, object]) -> JsonObject:
    return {storable(str(name)): _json(value, DEPTH_MAX) for name, value in metadata.items()}


def _json(value: object, depth: int) -> Json:
    """The value as JSON, nested at most `depth` deep.

    A score inside the metadata becomes an object and NaN becomes null. Anything else that JSON
    has no form for, or that is nested deeper, becomes text.
    """
    match value:
        case None | bool():
            return value
        case str():
            return storable(value)
        case int() | float():
            return _number(value)
        case dict() if depth:
            return {storable(str(name)): _json(each, depth - 1) for name, each in value.items()}
        case list() | tuple() if depth:
            return [_json(each, depth - 1) for each in value]
        case _:
            as_dict = getattr(value, "as_dict", None)
            return _json(as_dict(), depth - 1) if as_dict and depth else storable(str(value))


def _number(value: float) -> Json:
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)  # JSON writers stop at 64 bits
    return float(value) if math.isfinite(value) else None
