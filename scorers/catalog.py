"""The scorers of the autoevals library, by name: what each needs, and how it runs.

Importing this module does not import autoevals (0.13 s, 15 MB): a process that only checks
names in a rule never pays for it.
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

    IN_PROCESS = "in_process"  # computes, microseconds
    JUDGED = "judged"          # calls a model over HTTP, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSpec:
    """A scorer's needs. An argument is a field of the span or a key of its metadata."""

    name: str
    kind: ScorerKind
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def is_known(name: str) -> bool:
    """Whether there is a scorer of exactly this name."""
    return name in _SPECS


def names() -> tuple[str, ...]:
    """Every scorer's name, in order."""
    return tuple(sorted(_SPECS))


def resolve(name: str) -> ScorerSpec:
    """The scorer of this name.

    Raises BadInput for an unknown name, with the nearest ones: `factuality` is not known.
    """
    spec = _SPECS.get(name)
    if spec is None:
        raise BadInput(f"there is no scorer {name!r}; {_suggestion(name)}")
    return spec


def ref(name: str) -> ScorerRef:
    """The serialisable name and version; a new autoevals is a new version. Raises BadInput."""
    return ScorerRef(kind=GLOBAL, name=resolve(name).name, version=installed_version())


def at_version(wanted: ScorerRef) -> ScorerSpec:
    """The scorer, at just the version wanted. Raises BadInput if another is installed."""
    spec = resolve(wanted.name)
    if wanted.version != installed_version():
        raise BadInput(
            f"{wanted.name} is asked for at version {wanted.version}, and autoevals "
            f"{installed_version()} is installed: unpin it in the rule"
        )
    return spec


@cache
def installed_version() -> str:
    """The release of autoevals that is installed: the version of all of its scorers."""
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


# The Context* scorers judge the retrieved context, not the answer: `output` may be missing.
# ExactMatch and JSONDiff accept a missing `expected` in autoevals, and would then say 0 of
# every span; here it is an error that names the field. LLMClassifier is not in the list: it
# is nothing without its template.
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
