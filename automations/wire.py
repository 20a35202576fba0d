"""Automations (`project_automation`) as clients send and get them, and their checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from automations.model import (
    INTERVAL_MAX_S,
    LOGS,
    Action,
    Automation,
    AutomationStatus,
    SlackAction,
    WebhookAction,
)
from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from spans.errors import BadInput
from spans.json import Json, JsonObject
from spans.validation import first_problem

HIDDEN = "********"
"""Stands for a secret that is stored and not shown. A client that sends it leaves the secret as
it is."""

FILTER_CHARS_MAX = 8000
"""Characters of a filter. A notification has it in a link, and servers take links of 8 kB."""

DESCRIPTION_CHARS_MAX = 2000
"""Characters of a description. Each notification has it."""

HEADERS_MAX = 10
HEADER_CHARS_MAX = 1024
HEADER_NAME = re.compile(r"X-[A-Za-z0-9-]{1,40}")
HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
"""A value that a request carries unchanged: servers drop spaces at its ends."""


WEBHOOK, SLACK = "webhook", "slack"

ACTION_TAGS = frozenset({WEBHOOK, SLACK})
"""Parts that pydantic adds to the path of an error. The client never wrote them."""

# Event types of automations elsewhere, and what a client that sends one may use here.
NOT_HERE = {
    "environment_update": "Tallyard has no environments",
    "btql_export": "Tallyard does not export on its own; POST /btql reads what is stored",
    "retention": "TALLYARD_LOG_DAYS and `tallyard expire` delete old rows",
    "async_query": "Tallyard has no queries in the background; POST /btql answers at once",
    "topic": "Tallyard has no topics",
    "topic_digest": "Tallyard has no topics",
    "windowed": "Tallyard has no thresholds over windows yet",
}

# Fields that actions have elsewhere.
SLACK_APP_FIELDS = frozenset({"workspace_id", "channel"})
MESSAGE_FIELDS = ("formatting_prompt", "message_template")


class WebhookBody(BaseModel):
    """A webhook as it is sent. `authorization` is never shown again."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["webhook"]
    url: str
    headers: dict[str, str] | None = Field(None, max_length=HEADERS_MAX)
    authorization: str | None = Field(None, min_length=1, max_length=HEADER_CHARS_MAX)

    @field_validator("headers")
    @classmethod
    def _may_be_sent(cls, headers: dict[str, str] | None) -> dict[str, str] | None:
        for name, value in (headers or {}).items():
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot be sent: a header's name must be X- and 1 to 40 letters, "
                    "digits or -; put the value of Authorization into `authorization`"
                )
            if len(value) > HEADER_CHARS_MAX or not HEADER_VALUE.fullmatch(value):
                raise ValueError(
                    f"the value of {name} must have 1 to {HEADER_CHARS_MAX} printable ASCII "
                    "characters, and no space at its ends"
                )
        if len({name.lower() for name in headers or ()}) < len(headers or ()):
            raise ValueError("two headers have the same name; upper and lower case are equal")
        return headers or None

    @field_validator("authorization")
    @classmethod
    def _is_printable(cls, value: str | None) -> str | None:
        if value is not None and not HEADER_VALUE.fullmatch(value):
            raise ValueError(
                "must have printable ASCII characters only, and no space at its ends"
            )
        return value


class SlackBody(BaseModel):
    """An incoming webhook of Slack. Its URL is its secret."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["slack"]
    url: str


class LogsConfig(BaseModel):
    """`config` of an automation over logs."""

    model_config = ConfigDict(extra="forbid")
    event_type: Literal["logs"]
    btql_filter: str = Field(max_length=FILTER_CHARS_MAX)
    interval_seconds: int = Field(strict=True, ge=1, le=INTERVAL_MAX_S)
    status: AutomationStatus | None = None
    action: Annotated[WebhookBody | SlackBody, Field(discriminator="type")]

    @field_validator("event_type", mode="before")
    @classmethod
    def _is_logs(cls, value: Json) -> Json:
        if isinstance(value, str) and (reason := NOT_HERE.get(value)) is not None:
            raise ValueError(
                f"there are no automations of type {value!r} here ({reason}): use {LOGS!r}"
            )
        if value != LOGS:
            raise ValueError(f"must be {LOGS!r}, the only type of automation that there is")
        return value

    @field_validator("btql_filter")
    @classmethod
    def _compiles(cls, text: str) -> str:
        if text.strip():
            try:
                compile_filter(parse_filter(text))
            except BtqlError as error:
                raise ValueError(str(error)) from error
        return text

    @field_validator("interval_seconds", mode="before")
    @classmethod
    def _is_integral(cls, value: Json) -> Json:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @field_validator("action", mode="before")
    @classmethod
    def _is_ours(cls, action: Json) -> Json:
        if not isinstance(action, dict):
            raise ValueError(  # noqa: TRY004 pydantic takes this one for a mistake
                'must be an object as {"type": "webhook", "url": "https://..."}'
            )
        kind = action.get("type")
        if kind == SLACK and "url" not in action and action.keys() & SLACK_APP_FIELDS:
            raise ValueError(
                "Tallyard is no app of a Slack workspace: make an incoming webhook in Slack "
                'and send {"type": "slack", "url": "https://hooks.slack.com/..."}'
            )
        if told := [name for name in MESSAGE_FIELDS if name in action]:
            raise ValueError(
                f"there is no {told[0]} here: a notification always has the documented body"
            )
        if kind not in (WEBHOOK, SLACK):
            raise ValueError('type must be "webhook" or "slack"')
        return action


class AutomationBody(BaseModel):
    """An automation as a client sends it."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=256)
    description: str | None = Field(None, max_length=DESCRIPTION_CHARS_MAX)
    config: LogsConfig

    @field_validator("config", mode="before")
    @classmethod
    def _is_object(cls, config: Json) -> Json:
        if not isinstance(config, dict):
            raise ValueError(  # noqa: TRY004 pydantic takes this one for a mistake
                "must be an object with event_type, btql_filter, interval_seconds and action"
            )
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationFields:
    """What a client decides of an automation, checked.

    `authorization` is the value of that header for a webhook, HIDDEN for the one that is
    stored, or None for none.
    """

    name: str
    description: str | None
    btql_filter: str
    interval_s: int
    status: AutomationStatus
    action: Action
    authorization: str | None = field(repr=False)


def read_automation(body: Mapping[str, Json]) -> AutomationFields:
    """The automation in a request. Raises BadInput with the field and what is wrong."""
    try:
        checked = AutomationBody.model_validate(dict(body))
    except ValidationError as error:
        raise BadInput(first_problem(error, hidden=ACTION_TAGS)) from error
    config, sent = checked.config, checked.config.action
    return AutomationFields(
        name=checked.name, description=checked.description, btql_filter=config.btql_filter,
        interval_s=config.interval_seconds, status=config.status or AutomationStatus.ACTIVE,
        action=(
            WebhookAction(url=sent.url, headers=sent.headers or {})
            if isinstance(sent, WebhookBody) else SlackAction(url=sent.url)
        ),
        authorization=sent.authorization if isinstance(sent, WebhookBody) else None,
    )


def patch_automation(
    automation: Automation, changes: Mapping[str, Json]
) -> AutomationFields:
    """The automation with `changes` applied, checked as a whole. Raises BadInput.

    The fields of `config` that are given replace the present ones, one by one.
    """
    known = body_of(automation)
    merged = {**known, **changes}
    if isinstance(sent := changes.get("config"), dict):
        merged["config"] = {**config_json(automation), **sent}
    return read_automation(merged)


def with_stored_secrets(
    fields: AutomationFields, present: Automation | None
) -> AutomationFields:
    """The fields with the URL of Slack that is stored, if a client sends a hidden one back.

    Raises BadInput if HIDDEN stands for nothing, or for the secret of another server: a secret
    that was given for one server is not sent to another unseen.
    """
    sent = fields.action
    if isinstance(sent, SlackAction) and HIDDEN in sent.url:
        stored = None if present is None else present.action
        if not isinstance(stored, SlackAction) or sent.url != _hidden_url(stored):
            raise BadInput(
                f"send the whole URL: {HIDDEN} stands for no URL that is stored",
                path="config.action.url",
            )
        return replace(fields, action=stored)
    if fields.authorization == HIDDEN:
        path = "config.action.authorization"
        if present is None or not present.has_authorization:
            raise BadInput(
                f"send the value itself: {HIDDEN} stands for none that is stored", path=path
            )
        if _server(sent) != _server(present.action):
            raise BadInput("send the value again: the server of the URL has changed", path=path)
    return fields


def body_of(automation: Automation) -> JsonObject:
    """The automation as a client could have sent it, its secrets hidden."""
    return {
        "name": automation.name, "description": automation.description,
        "config": config_json(automation),
    }


def config_json(automation: Automation, *, shows_url: bool = True) -> JsonObject:
    """`config` as it is shown. Without `shows_url`, a URL that is a secret is hidden."""
    return {
        "event_type": LOGS,
        "btql_filter": automation.btql_filter,
        "interval_seconds": automation.interval_s,
        "status": automation.status.value,
        "action": action_json(
            automation.action, has_authorization=automation.has_authorization,
            shows_url=shows_url,
        ),
    }


def action_json(
    action: Action, *, has_authorization: bool = False, shows_url: bool = True
) -> JsonObject:
    """An action as it is shown and sent."""
    if isinstance(action, SlackAction):
        return {"type": SLACK, "url": action.url if shows_url else _hidden_url(action)}
    told: JsonObject = {"type": WEBHOOK, "url": action.url}
    if action.headers:
        told["headers"] = dict(action.headers)
    if has_authorization:
        told["authorization"] = HIDDEN
    return told


def stored_config(fields: AutomationFields) -> JsonObject:
    """`config` as it is stored: without `authorization`, which is kept encrypted."""
    return {
        "event_type": LOGS, "btql_filter": fields.btql_filter,
        "interval_seconds": fields.interval_s, "status": fields.status.value,
        "action": action_json(fields.action),
    }


def _hidden_url(action: SlackAction) -> str:
    scheme, server = _server(action)
    return f"{scheme}://{server}/{HIDDEN}"


def _server(action: Action) -> tuple[str, str]:
    try:
        parts = urlsplit(action.url)
    except ValueError:
        return "", action.url   # whether it is a URL is decided by the policy
    return parts.scheme.lower(), parts.netloc.lower()
