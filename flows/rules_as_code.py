"""Rules as code: a file's rules against the ones that are there, as pure functions.

In the file a rule's `config.online` lies flat beside its name, and a scorer by name is just
its name:

    project: my-app
    rules:
      - name: close to the expected answer
        scorers: [Levenshtein]
        sampling_rate: 0.5
        btql_filter: metadata.environment = 'production'
        apply_to_root_span: true
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flows.rules import ONLINE, ProjectScore, ProjectScoreBody, read_rule, stored_config
from spans.errors import BadInput
from spans.json import Json, JsonObject

RULE_FIELDS = ("name", "description")
ONLINE_FIELDS = (
    "scorers", "sampling_rate", "btql_filter", "apply_to_root_span", "apply_to_span_names",
    "skip_logging", "scope", "status",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesFile:
    """A file's contents, checked."""

    project: str
    rules: tuple[ProjectScoreBody, ...]


class ChangeKind(StrEnum):
    """What applying the file does with one rule."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    KEEP = "keep"     # there, and not in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One rule's difference; `lines` show it, as `field: old -> new`."""

    kind: ChangeKind
    name: str
    body: ProjectScoreBody | None
    lines: tuple[str, ...] = ()


def read_file(content: Json) -> RulesFile:
    """The file's rules, every one checked. Raises BadInput that names the rule."""
    if not isinstance(content, dict) or not isinstance(content.get("project"), str):
        raise BadInput("the file names its project: `project: my-app`")
    if unknown := content.keys() - {"project", "rules"}:
        raise BadInput(f"unknown: {', '.join(sorted(unknown))}; there are project and rules")
    items = content.get("rules")
    if not isinstance(items, list):
        raise BadInput("a list", path="rules")
    rules = tuple(_read_rule(item, index) for index, item in enumerate(items))
    names = [rule.name for rule in rules]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"twice in the file: {', '.join(sorted(twice))}", path="rules")
    return RulesFile(project=str(content["project"]), rules=rules)


def differences(
    wanted: Sequence[ProjectScoreBody], present: Sequence[ProjectScore], *, prune: bool
) -> tuple[Change, ...]:
    """What it takes to get from the rules that are there to those of the file.

    Rules that are not in the file stay, unless `prune`.
    """
    there = {rule.name: rule for rule in present if rule.score_type == ONLINE}
    changes: list[Change] = []
    for body in wanted:
        rule = there.pop(body.name, None)
        after = written(body.name, body.description, stored_config(body))
        before = written(rule.name, rule.description, rule.config) if rule else {}
        lines = tuple(
            f"{field}: {_short(before.get(field))} -> {_short(after.get(field))}"
            for field in (*RULE_FIELDS, *ONLINE_FIELDS)
            if before.get(field) != after.get(field)
        )
        if lines:
            kind = ChangeKind.CHANGE if rule else ChangeKind.CREATE
            changes.append(Change(kind=kind, name=body.name, body=body, lines=lines))
    rest = ChangeKind.DELETE if prune else ChangeKind.KEEP
    changes += [Change(kind=rest, name=name, body=None) for name in sorted(there)]
    return tuple(changes)


def written(name: str, description: str | None, config: JsonObject | None) -> JsonObject:
    """A rule as the file writes it: no field that says nothing."""
    online = config.get("online") if config else None
    flat: JsonObject = {"name": name, "description": description}
    if isinstance(online, dict):
        flat.update({field: online.get(field) for field in ONLINE_FIELDS})
    rate = flat.get("sampling_rate")
    if isinstance(rate, float) and rate.is_integer():
        flat["sampling_rate"] = int(rate)   # as anyone would write it
    scorers = flat.get("scorers")
    if isinstance(scorers, list):
        flat["scorers"] = [_written_scorer(scorer) for scorer in scorers]
    return {field: value for field, value in flat.items() if value is not None}


def _read_rule(item: Json, index: int) -> ProjectScoreBody:
    if not isinstance(item, dict):
        raise BadInput("a rule with a name and scorers", path=f"rules[{index}]")
    if unknown := item.keys() - {*RULE_FIELDS, *ONLINE_FIELDS}:
        raise BadInput(
            f"unknown: {', '.join(sorted(unknown))}; a rule has "
            f"{', '.join((*RULE_FIELDS, *ONLINE_FIELDS))}",
            path=f"rules[{index}]",
        )
    online: JsonObject = {field: item[field] for field in ONLINE_FIELDS if field in item}
    scorers = online.get("scorers")
    if isinstance(scorers, list):
        online["scorers"] = [
            {"type": "global", "name": scorer} if isinstance(scorer, str) else scorer
            for scorer in scorers
        ]
    online.setdefault("sampling_rate", 1)
    body: JsonObject = {field: item[field] for field in RULE_FIELDS if field in item}
    try:
        return read_rule({**body, "score_type": ONLINE, "config": {"online": online}})
    except BadInput as error:
        raise BadInput(
            str(error).replace("config.online.", ""), path=f"rules[{index}]"
        ) from error


def _written_scorer(scorer: Json) -> Json:
    if isinstance(scorer, dict) and scorer.keys() == {"type", "name"}:
        return scorer["name"]
    return scorer


def _short(value: Json) -> str:
    return "-" if value is None else str(value)
