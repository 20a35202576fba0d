"""A rule as values: which spans are scored, how many of them, and by which scorers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spans.ids import FunctionId, ProjectId, RuleId, Xact


class Scope(StrEnum):
    """What a rule scores as one: a span, a trace, or a group of traces."""

    SPAN = "span"
    TRACE = "trace"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerChoice:
    """A scorer as a rule names it: kind "global" by its name, kind "function" by its id.

    `version` pins one version. With None the rule follows the version in force.
    """

    kind: str
    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowVersion:
    """A version of a function that runs beside the one in force; its scores are not shown.

    `rate` is the share of traces that it runs on, 0..1. `queue` is None if it is no scorer.
    """

    version: Xact
    queue: str | None
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFunction:
    """A function that rules name, as it was at one revision of the project's rules.

    `version` is the version in force then, or the one that a rule pins. `queue` is where its
    runs wait, or None if the function is no scorer.
    """

    id: FunctionId
    version: Xact
    is_pinned: bool
    name: str
    queue: str | None
    is_deleted: bool = False
    shadow: ShadowVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An online scoring rule; on the wire a `project_score` of type "online".

    `sampling_rate` is the share of traces, 0..1. A span is a target if it is the root and
    `apply_to_root_span` is set, or if its name is in `apply_to_span_names`. With neither set,
    every span is a target.
    """

    id: RuleId
    project_id: ProjectId
    name: str
    created: datetime
    scorers: tuple[ScorerChoice, ...]
    sampling_rate: float
    btql_filter: str = ""
    apply_to_root_span: bool = False
    apply_to_span_names: tuple[str, ...] = ()
    skip_logging: bool = False
    is_paused: bool = False
    scope: Scope = Scope.SPAN
