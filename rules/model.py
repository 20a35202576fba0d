"""A rule: which spans are scored, how many of them, and by what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spans.ids import FunctionId, ProjectId, RuleId, Xact


class Scope(StrEnum):
    """What a rule scores: each span on its own, a whole trace, or a group of traces."""

    SPAN = "span"
    TRACE = "trace"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerChoice:
    """A scorer as a rule names it: "global" by name, or "function" by id.

    `version` pins one version of a function; None follows the latest.
    """

    kind: str
    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowVersion:
    """A version of a function that runs beside the one in force; its scores are not shown.

    `rate` is the share of traces that it runs on, 0..1.
    """

    version: Xact
    queue: str | None
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFunction:
    """A function that rules name, as it was at a revision of the project's rules.

    `version` is the one that was in force, or that the rule pins. Runs of it wait in `queue`;
    None: it is no scorer.
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

    `sampling_rate` is a share, 0..1. With neither `apply_to_root_span` nor
    `apply_to_span_names` every span that passes the filter is meant; with both, either is
    enough.
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
