"""Reads automations as they are defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from automations.model import Action, Automation, AutomationStatus, SlackAction, WebhookAction
from spans.ids import AutomationId, ProjectId

COLUMNS = """automation.id, automation.project_id, automation.name, automation.description,
    automation.config, automation.created, automation.created_by,
    automation.authorization_header is not null, disabled_at, disabled_reason"""
"""What `automation_of` reads, of `automation` joined with its `automation_state`."""


def automation_of(values: Sequence[Any]) -> Automation:
    """The automation in a row with the columns `COLUMNS`."""
    (automation_id, project_id, name, description, config, created, created_by,
     has_authorization, disabled_at, disabled_reason) = values
    return Automation(
        id=AutomationId(automation_id), project_id=ProjectId(project_id), name=name,
        description=description, btql_filter=config["btql_filter"],
        interval_s=int(config["interval_seconds"]), status=AutomationStatus(config["status"]),
        action=_action(config["action"]), created=created, created_by=created_by,
        has_authorization=has_authorization, disabled_at=disabled_at,
        disabled_reason=disabled_reason,
    )


def _action(stored: dict[str, Any]) -> Action:
    if stored["type"] == "slack":
        return SlackAction(url=stored["url"])
    return WebhookAction(url=stored["url"], headers=stored.get("headers") or {})
