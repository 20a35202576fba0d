"""Automations as code: reads a file of automations, and compares it with what is stored.

In the file, the fields of an automation's `config` stand beside its name, and the interval is a
duration. Secrets are not in the file: it names variables of the environment that hold them.

    project: my-app
    automations:
      - name: errors in production
        btql_filter: error IS NOT NULL AND metadata.environment = 'production'
        interval: 1h
        action:
          type: webhook
          url: https://alerts.example.com/tallyard
          authorization: {env: ALERTS_AUTHORIZATION}
      - name: low scores
        btql_filter: scores.Factuality < 0.5
        interval: 1d
        action: {type: slack, url: {env: SLACK_URL}}

What Tallyard itself writes has ******** for a secret. Read again, that stands for the secret
which is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from automations.model import LOGS, Automation, AutomationStatus
from automations.wire import HIDDEN, AutomationFields, action_json, read_automation
from spans.duration import read_duration, write_duration
from spans.errors import BadInput
from spans.file_plan import (
    Change,
    ChangeKind,
    changed_lines,
    read_items,
    refuse_twice,
    without_file,
)
from spans.json import Json, JsonObject

ITEMS = "automations"
FIELDS = ("name", "description", "btql_filter", "interval", "status", "action")
SECRETS = ("url", "authorization")
"""The fields of an action that may be named by variables of the environment."""

SECRET_CHANGES = f"action: {HIDDEN} -> another value"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationsFile:
    """The checked contents of a file of automations."""

    project: str
    automations: tuple[AutomationFields, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredItem:
    """A stored automation as a file is compared with it. `authorization` is the value of that
    header, or HIDDEN if it is not known; None: there is none."""

    automation: Automation
    authorization: str | None

    def fields(self) -> AutomationFields:
        """The automation as a file would give it, with its secrets."""
        stored = self.automation
        return AutomationFields(
            name=stored.name, description=stored.description, btql_filter=stored.btql_filter,
            interval_s=stored.interval_s, status=stored.status, action=stored.action,
            authorization=self.authorization,
        )


def read_file(content: Json, environment: Mapping[str, str]) -> AutomationsFile:
    """The file's automations, all of them checked. Raises BadInput, which names the one."""
    project, items = read_items(content, ITEMS)
    automations = tuple(
        _read_item(item, f"{ITEMS}[{index}]", environment) for index, item in enumerate(items)
    )
    refuse_twice([each.name for each in automations], ITEMS)
    return AutomationsFile(project=project, automations=automations)


def differences(
    wanted: Sequence[AutomationFields], present: Sequence[StoredItem], *, prune: bool
) -> tuple[Change[AutomationFields], ...]:
    """The changes that turn the automations of `present` into those that are wanted.

    Automations that are not wanted are kept, or deleted if `prune` is set. No line shows a
    secret.
    """
    there = {each.automation.name: each for each in present}
    changes: list[Change[AutomationFields]] = []
    for fields in wanted:
        stored = there.pop(fields.name, None)
        before = stored.fields() if stored else None
        if before and before.authorization and fields.authorization == HIDDEN:
            before = replace(before, authorization=HIDDEN)
        if before == fields:
            continue
        told = None if before is None else fields_for_file(before)
        lines = changed_lines(told, fields_for_file(fields), FIELDS[1:])
        changes.append(
            Change(
                kind=ChangeKind.CREATE if before is None else ChangeKind.CHANGE,
                name=fields.name, body=fields, lines=lines or (SECRET_CHANGES,),
            )
        )
    return (*changes, *without_file(there, prune=prune))


def automation_for_file(automation: Automation) -> JsonObject:
    """An automation in the form that a file has, its secrets hidden."""
    hidden = HIDDEN if automation.has_authorization else None
    return fields_for_file(StoredItem(automation=automation, authorization=hidden).fields())


def fields_for_file(fields: AutomationFields) -> JsonObject:
    """The same for an automation that need not be stored yet."""
    told: JsonObject = {"name": fields.name}
    if fields.description is not None:
        told["description"] = fields.description
    told |= {"btql_filter": fields.btql_filter, "interval": write_duration(fields.interval_s)}
    if fields.status is not AutomationStatus.ACTIVE:
        told["status"] = fields.status.value
    told["action"] = action_json(
        fields.action, has_authorization=fields.authorization is not None, shows_url=False
    )
    return told


def _read_item(item: Json, path: str, environment: Mapping[str, str]) -> AutomationFields:
    if not isinstance(item, dict):
        raise BadInput(f"must be an object with {', '.join(FIELDS)}", path=path)
    if unknown := item.keys() - set(FIELDS):
        raise BadInput(
            f"unknown: {', '.join(sorted(unknown))}; use only {', '.join(FIELDS)}", path=path
        )
    try:
        return read_automation(_body(item, environment))
    except BadInput as error:
        told = str(error).replace("config.interval_seconds", "interval").replace("config.", "")
        raise BadInput(told, path=path) from error


def _body(item: JsonObject, environment: Mapping[str, str]) -> JsonObject:
    """The automation as a request has it."""
    config: JsonObject = {
        field: item[field] for field in ("btql_filter", "status") if field in item
    }
    if "interval" in item:
        config["interval_seconds"] = _seconds(item["interval"])
    if "action" in item:
        config["action"] = _action(item["action"], environment)
    named: JsonObject = {
        field: item[field] for field in ("name", "description") if field in item
    }
    return {**named, "config": {"event_type": LOGS, **config}}


def _seconds(interval: Json) -> Json:
    if not isinstance(interval, str):
        return interval
    return int(read_duration(interval, path="interval").total_seconds())


def _action(action: Json, environment: Mapping[str, str]) -> Json:
    if not isinstance(action, dict):
        return action
    told = {**action}
    for field in SECRETS:
        value = action.get(field)
        if isinstance(value, dict):
            told[field] = _from_environment(value, environment, path=f"action.{field}")
    return told


def _from_environment(value: JsonObject, environment: Mapping[str, str], *, path: str) -> str:
    name = value.get("env")
    if value.keys() != {"env"} or not isinstance(name, str):
        raise BadInput("must be a text, or {env: NAME} for that variable's", path=path)
    if not (found := environment.get(name)):
        raise BadInput(f"the environment has no variable {name}: set it", path=path)
    return found
