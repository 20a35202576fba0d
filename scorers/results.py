"""From what autoevals returns or raises to what Tallyard keeps."""

from __future__ import annotations

from typing import Protocol

from scorers.catalog import ScorerSpec
from spans.errors import BadResult, ScorerFailed
from spans.json import Json, JsonObject
from spans.scoring import Score, ScoringResult, Usage

MESSAGE_CHARACTERS_MAX = 2048
DEPTH_MAX = 32
NO_USAGE = Usage()


class Verdict(Protocol):
    """An autoevals Score."""

    @property
    def score(self) -> object: ...

    @property
    def metadata(self) -> dict[str, object] | None: ...


def result(
    spec: ScorerSpec, given: JsonObject, verdict: Verdict, usage: Usage = NO_USAGE
) -> ScoringResult:
    """The verdict under the scorer's own name. Raises BadResult if it is no score."""
    metadata = _metadata(verdict.metadata) if verdict.metadata else {}
    score = Score(name=spec.name, value=_value(spec, verdict.score), metadata=metadata)
    return ScoringResult(scores=(score,), arguments=given, usage=usage)


def failure(spec: ScorerSpec, error: BaseException) -> ScorerFailed:
    """The scorer's own exception, as its author reads it: class and message, at most 2 kB."""
    message = f"{spec.name} raised {type(error).__name__}: {error}"
    return ScorerFailed(message[:MESSAGE_CHARACTERS_MAX])


def _value(spec: ScorerSpec, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN fails this too
        raise BadResult(f"{spec.name} gave {value!r:.99}, and a score is a number in 0..1")
    return float(value)


def _metadata(metadata: dict[str, object]) -> JsonObject:
    return {str(name): _json(value, DEPTH_MAX) for name, value in metadata.items()}


def _json(value: object, depth: int) -> Json:
    """The value as JSON: scores inside metadata as objects, NaN as null, the rest as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(value) if value - value == 0 else None
        case dict() if depth:
            return {str(name): _json(each, depth - 1) for name, each in value.items()}
        case list() | tuple() if depth:
            return [_json(each, depth - 1) for each in value]
        case _:
            as_dict = getattr(value, "as_dict", None)
            return _json(as_dict(), depth - 1) if as_dict and depth else str(value)
