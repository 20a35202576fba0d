"""Rules as they are kept: the wire's own shape, read into `rules.model.Rule`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from rules.model import Rule, Scope, ScorerChoice
from spans.ids import ProjectId, RuleId
from spans.json import Json, JsonObject


def rule_from_json(stored: JsonObject) -> Rule:
    """The rule of a `project_score` of type "online", as `flows.rules` validated it."""
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


def _choice(item: JsonObject) -> ScorerChoice:
    kind = str(item["type"])
    version = item.get("version")
    return ScorerChoice(
        kind=kind,
        name=str(item["name"] if kind == "global" else item["id"]),
        version=None if version is None else str(version),
    )


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
