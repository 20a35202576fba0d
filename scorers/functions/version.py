"""A user's function at one version, in the form in which workers run it.

A version never changes once it is made, so it can be cached for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scorers.judge.classifier import Classifier
from scorers.sandbox.model import Program
from spans.ids import FunctionId, ProjectId, Xact

FUNCTION = "function"
"""The `kind` of a ScorerRef that names a function: its id, and its version's `_xact_id`."""


class FunctionKind(StrEnum):
    """What a function consists of."""

    CODE = "code"              # inline source or a pushed bundle; runs in a sandbox
    CLASSIFIER = "classifier"  # a prompt with choices; a judge answers it
    GLOBAL = "global"          # an autoevals scorer under a name of the user's own
    PROMPT = "prompt"          # a prompt without a parser; stored, but not a scorer
    OTHER = "other"            # stored, but never run (graph, facet, ...)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionVersion:
    """One version of a function, ready to run, or with the `problem` that prevents it.

    `kind` says which of `program`, `classifier` and `global_name` is set. `program` is missing
    until its bundle has been uploaded. `name` is shown to users, and names a score that brings
    no name of its own.
    """

    id: FunctionId
    project_id: ProjectId
    version: Xact
    name: str
    slug: str
    kind: FunctionKind
    program: Program | None = None
    classifier: Classifier | None = None
    global_name: str | None = None
    problem: str | None = None
