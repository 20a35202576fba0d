"""Rule sets, and the stored JSON of rules and functions read into `rules.model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from rules.model import NamedFunction, Rule, Scope, ScorerChoice, ShadowVersion
from rules.named_functions import NamedFunctions
from rules.outcome_requests import RuleRequests, requests_of
from rules.planning import PlannedRule
from rules.wire import ProjectScore
from scorers import catalog
from scorers.arguments import columns_of
from scorers.catalog import GLOBAL, ScorerKind
from spans.ids import FunctionId, ProjectId, RuleId, Xact
from spans.json import Json, JsonObject


def rule_from_json(stored: JsonObject) -> Rule:
    """The rule in a stored `project_score` of type "online", which `rules.wire` has checked."""
    config = _object(_object(stored["config"])["online"])
    return Rule(
        id=RuleId(UUID(str(stored["id"]))),
        project_id=ProjectId(UUID(str(stored["project_id"]))),
        name=str(stored["name"]),
        created=datetime.fromisoformat(str(stored["created"])),
        scorers=tuple(_choice(_object(item)) for item in _list(config.get("scorers"))),
        sampling_rate=float(str(config["sampling_rate"])),
        btql_filter=str(config.get("btql_filter") or ""),
        apply_to_root_span=config.get("apply_to_root_span") is True,
        apply_to_span_names=tuple(
            str(name) for name in _list(config.get("apply_to_span_names"))
        ),
        skip_logging=config.get("skip_logging") is True,
        is_paused=config.get("status") == "paused",
        scope=Scope(str(_object(config.get("scope")).get("type") or Scope.SPAN)),
    )


def rule_of(score: ProjectScore) -> Rule:
    """The rule that a project score of type "online" is."""
    return rule_from_json({
        "id": str(score.id), "project_id": str(score.project_id), "name": score.name,
        "created": score.created.isoformat(), "config": score.config,
    })


def function_from_json(stored: JsonObject) -> NamedFunction:
    """The function in a rule set's JSON, as `store.postgres.rule_revisions` writes it."""
    shadow = None
    if stored.get("shadow_version") is not None:
        shadow = ShadowVersion(
            version=Xact(int(str(stored["shadow_version"]))),
            queue=_text(stored.get("shadow_queue")),
            rate=float(str(stored["shadow_rate"])),
        )
    return NamedFunction(
        id=FunctionId(UUID(str(stored["id"]))),
        version=Xact(int(str(stored["version"]))),
        is_pinned=stored["pinned"] is True,
        name=str(stored["name"]),
        queue=_text(stored.get("queue")),
        is_deleted=stored["is_deleted"] is True,
        shadow=shadow,
    )


def _choice(item: JsonObject) -> ScorerChoice:
    kind = str(item["type"])
    version = item.get("version")
    return ScorerChoice(
        kind=kind,
        name=str(item["name"] if kind == "global" else item["id"]),
        version=None if version is None else str(version),
    )


def _text(value: Json) -> str | None:
    return None if value is None else str(value)


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """A project's rules at one revision, ready to decide, and the functions that they name.

    Each change of a rule, or of a function that a rule names, makes a new revision; a revision
    itself never changes. Rows are matched by the newest one, and what it decided is recorded
    only while it still is the newest. The record names the revision, so that `explain` can tell
    by which rules a row was matched.
    """

    revision: int
    rules: tuple[PlannedRule, ...]
    functions: NamedFunctions

    @cached_property
    def requests(self) -> Mapping[RuleId, RuleRequests]:
        """What each rule asks for, by the rule's id."""
        return {
            planned.rule.id: requests_of(planned.rule, self.functions, self.revision)
            for planned in self.rules
        }

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that are read by filters and by the scorers that run while matching."""
        read = [planned.columns for planned in self.rules]
        for planned in self.rules:
            for choice in planned.rule.scorers:
                if choice.kind == GLOBAL and catalog.is_known(choice.name):
                    spec = catalog.resolve(choice.name)
                    if spec.kind is ScorerKind.IN_PROCESS:
                        read.append(columns_of(spec))
        return frozenset().union(*read)
