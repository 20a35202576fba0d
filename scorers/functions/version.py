"""A scorer of the user's own, at one version: what it is and what runs it.

A version, once made, never changes, so that whoever has read one may keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scorers.judge.classifier import Classifier
from scorers.sandbox.model import Program
from spans.ids import FunctionId, ProjectId, Xact

FUNCTION = "function"
"""The kind of a ScorerRef whose name is a function's id, and whose version is an `_xact_id`."""


class FunctionKind(StrEnum):
    """What a function consists of."""

    CODE = "code"              # inline, or a pushed bundle: run in a sandbox
    CLASSIFIER = "classifier"  # a prompt whose answer is one of some choices: asked of a judge
    GLOBAL = "global"          # an autoevals scorer under a name of the user's own
    PROMPT = "prompt"          # a prompt without a parser: kept and given back, no scorer
    OTHER = "other"            # a kind that Tallyard keeps and does not run (graph, facet, ...)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionVersion:
    """One version of a function, ready to run, or with the `problem` that keeps it from it.

    Of `program`, `classifier` and `global_name` the one that fits `kind` is set; `program` may
    be missing while its bundle has not been uploaded. `name` is how it is shown, and the name
    of a score that brings none of its own.
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
