"""Lists the scorers of the autoevals library: the arguments that each needs, and how it runs.

This module does not import autoevals, which takes 0.13 s and 15 MB. A process that only checks
the scorers' names in a rule need not load it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import version

from spans.errors import BadInput
from spans.scoring import ScorerRef

GLOBAL = "global"


class ScorerKind(StrEnum):
    """How a scorer runs."""

    IN_PROCESS = "in_process"  # computes its score within microseconds
    JUDGED = "judged"          # calls a model over HTTP, which takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSpec:
    """A scorer and its arguments: each is a field of the span or a key of its metadata."""

    name: str
    kind: ScorerKind
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def is_known(name: str) -> bool:
    """Whether there is a scorer of exactly this name; case matters."""
    return name in _SPECS


def names() -> tuple[str, ...]:
    """Every scorer's name, in alphabetical order."""
    return tuple(sorted(_SPECS))


def resolve(name: str) -> ScorerSpec:
    """The scorer of exactly this name; case matters.

    Raises BadInput for an unknown name, and suggests the nearest known ones.
    """
    spec = _SPECS.get(name)
    if spec is None:
        raise BadInput(f"there is no scorer {name!r}; {_suggestion(name)}")
    return spec


def at_version(wanted: ScorerRef) -> ScorerSpec:
    """The scorer at exactly the wanted version.

    Raises BadInput for an unknown name, or if another version of autoevals is installed.
    """
    spec = resolve(wanted.name)
    if wanted.version != installed_version():
        raise BadInput(
            f"the rule wants {wanted.name} at version {wanted.version}, but autoevals "
            f"{installed_version()} is installed: remove the version from the rule"
        )
    return spec


@cache
def installed_version() -> str:
    """The installed release of autoevals, which is the version of all its scorers.

    So a new release of autoevals is a new version of every scorer.
    """
    return version("autoevals")


def _suggestion(name: str) -> str:
    by_lower = {each.lower(): each for each in _SPECS}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    if not near:
        return "the scorers are " + ", ".join(names())
    return "did you mean " + " or ".join(by_lower[each] for each in near) + "?"


def _in_process(name: str, *required: str, optional: tuple[str, ...] = ()) -> ScorerSpec:
    return ScorerSpec(
        name=name, kind=ScorerKind.IN_PROCESS, required=required, optional=optional
    )


def _judged(name: str, *required: str, optional: tuple[str, ...] = ()) -> ScorerSpec:
    return ScorerSpec(name=name, kind=ScorerKind.JUDGED, required=required, optional=optional)


# The Context* scorers judge the retrieved context, not the answer, so `output` may be missing.
# autoevals' ExactMatch and JSONDiff accept a missing `expected` and then score every span 0.
# Here a missing `expected` is an error that names the field. LLMClassifier is left out because
# it cannot run without a template; users write their own classifiers as functions.
_SPECS: dict[str, ScorerSpec] = {
    spec.name: spec
    for spec in (
        _in_process("ExactMatch", "output", "expected"),
        _in_process("Levenshtein", "output", "expected"),
        _in_process("NumericDiff", "output", "expected"),
        _in_process("JSONDiff", "output", "expected"),
        _in_process("ValidJSON", "output", optional=("schema",)),
        _in_process("ListContains", "output", "expected"),
        _judged("EmbeddingSimilarity", "output", "expected"),
        _judged("Moderation", "output", optional=("threshold",)),
        _judged("Factuality", "input", "output", "expected"),
        _judged("ClosedQA", "input", "output", "criteria"),
        _judged("Battle", "instructions", "output", "expected"),
        _judged("Possible", "input", "output"),
        _judged("Sql", "input", "output", "expected"),
        _judged("Summary", "input", "output", "expected"),
        _judged("Translation", "input", "output", "expected", "language"),
        _judged("Humor", "output"),
        _judged("Security", "output"),
        _judged("ContextRelevancy", "input", "context", optional=("output",)),
        _judged("ContextRecall", "input", "expected", "context", optional=("output",)),
        _judged("ContextPrecision", "input", "expected", "context", optional=("output",)),
        _judged("ContextEntityRecall", "expected", "context", optional=("output",)),
        _judged("Faithfulness", "input", "output", "context"),
        _judged("AnswerRelevancy", "input", "output", "context"),
        _judged("AnswerSimilarity", "output", "expected"),
        _judged("AnswerCorrectness", "input", "output", "expected"),
    )
}
