"""An automation: a filter over a project's logs, and who is told when rows match it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from spans.ids import AutomationId, ProjectId

LOGS = "logs"
"""The event type of automations over logs, the only one that there is."""

INTERVAL_MAX_S = 2_592_000
"""The longest interval of an automation, seconds: 30 days."""


class AutomationStatus(StrEnum):
    """Whether an automation is evaluated."""

    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAction:
    """Posts the documented JSON body, signed, to `url`, with `headers` of the user's own."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackAction:
    """Posts a message to `url`, an incoming webhook of Slack. It is not signed."""

    url: str


Action: TypeAlias = WebhookAction | SlackAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """A stored automation over a project's logs.

    An empty `btql_filter` matches every row. `interval_s` is the least time from the end of one
    notification's window to the end of the next, seconds. `disabled_reason` says why Tallyard
    itself has paused it; None: it has not.
    """

    id: AutomationId
    project_id: ProjectId
    name: str
    description: str | None
    btql_filter: str
    interval_s: int
    status: AutomationStatus
    action: Action
    created: datetime
    created_by: str | None = None
    has_authorization: bool = False
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
