"""Rules as code: reads a file of rules and compares it with the stored rules. Pure functions.

In the file, the fields of a rule's `config.online` stand beside its name. A scorer is given by
its name, a function by its slug, in the file's project or another. `polite` and
`{slug: polite}` are short forms for a function of the file's project; a plain name is taken for
an autoevals scorer first. Tallyard itself writes the long form:

    project: my-app
    rules:
      - name: close to the expected answer
        scorers:
          - Levenshtein
          - {type: function, slug: polite, project_name: shared, version: "10002..."}
        sampling_rate: 0.5
        btql_filter: metadata.environment = 'production'
        apply_to_root_span: true
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rules.wire import ONLINE, ProjectScore, ProjectScoreBody, read_rule, stored_config
from scorers import catalog
from spans.errors import BadInput, NotFound
from spans.file_plan import (
    Change,
    ChangeKind,
    changed_lines,
    read_items,
    refuse_twice,
    without_file,
)
from spans.json import Json, JsonObject

RULE_FIELDS = ("name", "description")
ONLINE_FIELDS = (
    "scorers", "sampling_rate", "btql_filter", "apply_to_root_span", "apply_to_span_names",
    "skip_logging", "scope", "status",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesFile:
    """The checked contents of a rules file."""

    project: str
    rules: tuple[ProjectScoreBody, ...]


class FunctionNames(Protocol):
    """Finds functions by the names that files use, and the names by id."""

    def id_of(self, project: str, slug: str) -> str:
        """The id of the function of that slug. Raises NotFound."""
        ...

    def name_of(self, function_id: str) -> FunctionName | None:
        """The function's name, or None if there is no such function or it has been deleted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionName:
    """The name of a function in a file."""

    project: str
    slug: str


def read_file(content: Json, functions: FunctionNames) -> RulesFile:
    """The file's rules, all of them checked. Raises BadInput, which names the rule."""
    project, items = read_items(content, "rules")
    rules = tuple(
        _read_rule(item, index, project, functions) for index, item in enumerate(items)
    )
    refuse_twice([rule.name for rule in rules], "rules")
    return RulesFile(project=project, rules=rules)


def differences(
    wanted: RulesFile, present: Sequence[ProjectScore], functions: FunctionNames, *,
    prune: bool,
) -> tuple[Change[ProjectScoreBody], ...]:
    """The changes that turn the rules of `present` into those of the file.

    Rules that are not in the file are kept, or deleted if `prune` is set.
    """
    def shown(name: str, description: str | None, config: JsonObject | None) -> JsonObject:
        return rule_for_file(name, description, config, wanted.project, functions)

    there = {rule.name: rule for rule in present if rule.score_type == ONLINE}
    changes: list[Change[ProjectScoreBody]] = []
    for body in wanted.rules:
        rule = there.pop(body.name, None)
        after = shown(body.name, body.description, stored_config(body))
        before = shown(rule.name, rule.description, rule.config) if rule else None
        lines = changed_lines(before, after, ("description", *ONLINE_FIELDS))
        if lines:
            kind = ChangeKind.CHANGE if rule else ChangeKind.CREATE
            changes.append(Change(kind=kind, name=body.name, body=body, lines=lines))
    return (*changes, *without_file(there, prune=prune))


def rule_for_file(
    name: str, description: str | None, config: JsonObject | None, project: str,
    functions: FunctionNames,
) -> JsonObject:
    """A rule in the form that its project's file has, without the fields that are null."""
    online = config.get("online") if config else None
    flat: JsonObject = {"name": name, "description": description}
    if isinstance(online, dict):
        flat.update({field: online.get(field) for field in ONLINE_FIELDS})
    rate = flat.get("sampling_rate")
    if isinstance(rate, float) and rate.is_integer():
        flat["sampling_rate"] = int(rate)   # people write 1, not 1.0
    scorers = flat.get("scorers")
    if isinstance(scorers, list):
        flat["scorers"] = [
            _written_scorer(scorer, project, functions) for scorer in scorers
        ]
    return {field: value for field, value in flat.items() if value is not None}


def _read_rule(
    item: Json, index: int, project: str, functions: FunctionNames
) -> ProjectScoreBody:
    if not isinstance(item, dict):
        raise BadInput("must be an object with name and scorers", path=f"rules[{index}]")
    if unknown := item.keys() - {*RULE_FIELDS, *ONLINE_FIELDS}:
        raise BadInput(
            f"unknown: {', '.join(sorted(unknown))}; use only "
            f"{', '.join((*RULE_FIELDS, *ONLINE_FIELDS))}",
            path=f"rules[{index}]",
        )
    online: JsonObject = {field: item[field] for field in ONLINE_FIELDS if field in item}
    online.setdefault("sampling_rate", 1)
    body: JsonObject = {field: item[field] for field in RULE_FIELDS if field in item}
    try:
        scorers = online.get("scorers")
        if isinstance(scorers, list):
            online["scorers"] = [_read_scorer(each, project, functions) for each in scorers]
        return read_rule({**body, "score_type": ONLINE, "config": {"online": online}})
    except (BadInput, NotFound) as error:
        raise BadInput(
            str(error).replace("config.online.", ""), path=f"rules[{index}]"
        ) from error


def _read_scorer(scorer: Json, project: str, functions: FunctionNames) -> Json:
    if isinstance(scorer, str):
        return _read_name(scorer, project, functions)
    if not isinstance(scorer, dict) or "slug" not in scorer:
        return scorer
    named = {**scorer}
    slug, where = named.pop("slug"), named.pop("project_name", project)
    if not isinstance(slug, str) or not isinstance(where, str):
        raise BadInput("slug and project_name must be strings", path="scorers")
    return {"type": "function", **named, "id": functions.id_of(where, slug)}


def _read_name(name: str, project: str, functions: FunctionNames) -> Json:
    """The autoevals scorer, or else the project's function, of that name. Raises BadInput."""
    try:
        return {"type": "global", "name": catalog.resolve(name).name}
    except BadInput as unknown:
        try:
            return {"type": "function", "id": functions.id_of(project, name)}
        except NotFound:
            raise BadInput(
                f"{str(unknown).removesuffix('?')}, or a scorer of your own, by its slug",
                path="scorers",
            ) from unknown


def _written_scorer(scorer: Json, project: str, functions: FunctionNames) -> Json:
    if not isinstance(scorer, dict):
        return scorer
    if scorer.keys() == {"type", "name"}:
        return scorer["name"]
    name = functions.name_of(str(scorer["id"])) if scorer.get("type") == "function" else None
    if name is None:
        return scorer
    told: JsonObject = {"type": "function", "slug": name.slug}
    if name.project != project:
        told["project_name"] = name.project
    if scorer.get("version") is not None:
        told["version"] = scorer["version"]
    return told
