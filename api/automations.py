"""Endpoints of automations: `/v1/project_automation`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import endpoint
from api.request import (
    Context,
    body_project,
    in_thread,
    json_body,
    list_page,
    path_uuid,
    query_int,
    query_project,
)
from automations.model import Automation
from automations.payload import time_text
from automations.signature import message_id
from automations.wire import config_json, read_automation
from flows.access.principal import KeyRole, Principal
from flows.automations.automations import Automations, WrittenAutomation
from flows.automations.history import HISTORY_MAX, AutomationHistory, history_json
from flows.automations.trial import Trials, Tried
from spans.ids import AutomationId
from spans.json import JsonObject


def automation_json(automation: Automation, principal: Principal) -> JsonObject:
    """An automation as JSON. A URL of Slack is a secret, which only administrators see."""
    told: JsonObject = {
        "id": str(automation.id),
        "project_id": str(automation.project_id),
        "user_id": None,
        "created": automation.created.isoformat(),
        "name": automation.name,
        "description": automation.description,
        "config": config_json(automation, shows_url=principal.role is KeyRole.ADMIN),
    }
    if automation.disabled_at is not None:
        told["disabled"] = {
            "at": automation.disabled_at.isoformat(), "reason": automation.disabled_reason,
        }
    return told


async def create(request: Request, context: Context, principal: Principal) -> Response:
    """Creates an automation. If its name exists, returns the existing one unchanged."""
    return await _make(request, context, principal, replace=False)


async def replace(request: Request, context: Context, principal: Principal) -> Response:
    """Creates an automation. If its name exists, replaces the existing one."""
    return await _make(request, context, principal, replace=True)


async def _make(
    request: Request, context: Context, principal: Principal, *, replace: bool
) -> Response:
    body = await json_body(request, context)
    project_id = body_project(body, "an automation")
    fields = read_automation(body)
    automations = context.tallyard.automations
    written = await in_thread(
        lambda: automations.make(principal, project_id, fields, replace=replace)
    )
    headers = {"x-bt-found-existing": "true"} if written.existed else {}
    return Json200(_written_json(written, principal), headers=headers)


async def list_automations(
    request: Request, context: Context, principal: Principal
) -> Response:
    """Lists the automations that the key reaches, newest first."""
    page = list_page(request, "project_automation_name")
    project_id = query_project(request)
    project_name = request.query_params.get("project_name")
    automations = context.tallyard.automations
    found = await in_thread(
        lambda: automations.list(
            principal, page, project_id=project_id, project_name=project_name
        )
    )
    return Json200({"objects": [automation_json(each, principal) for each in found]})


async def get(request: Request, context: Context, principal: Principal) -> Response:
    """Gets one automation."""
    automation_id, automations = automation_id_of(request), context.tallyard.automations
    found = await in_thread(lambda: automations.get(principal, automation_id))
    return Json200(automation_json(found, principal))


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Changes the fields of an automation that are sent."""
    automations = context.tallyard.automations
    automation_id = await _reachable(request, context, principal)
    body = await json_body(request, context)
    changes = {name: body[name] for name in body if name != "project_id"}
    changed = await in_thread(lambda: automations.change(principal, automation_id, changes))
    return Json200(_written_json(changed, principal))


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Deletes an automation, what it has collected, and its deliveries."""
    automation_id, automations = automation_id_of(request), context.tallyard.automations
    deleted = await in_thread(lambda: automations.delete(principal, automation_id))
    return Json200(automation_json(deleted, principal))


async def rotate_secret(request: Request, context: Context, principal: Principal) -> Response:
    """Replaces an automation's secret, and shows the new one this once."""
    automation_id, automations = automation_id_of(request), context.tallyard.automations
    automation, secret = await in_thread(
        lambda: automations.rotate_secret(principal, automation_id)
    )
    return Json200({**automation_json(automation, principal), "secret": secret})


async def history(request: Request, context: Context, principal: Principal) -> Response:
    """Tells what an automation has found and sent, newest first, and what it is doing now."""
    automation_id, histories = automation_id_of(request), context.tallyard.automation_history
    limit = query_int(request, "limit", 100, least=1, most=HISTORY_MAX)
    cursor = request.query_params.get("cursor")
    found = await in_thread(
        lambda: histories.read(principal, automation_id, limit=limit, cursor=cursor)
    )
    return Json200(history_json(found))


async def test(request: Request, context: Context, principal: Principal) -> Response:
    """Sends a test of a stored automation, and says what became of it."""
    automation_id, trials = automation_id_of(request), context.tallyard.automation_trials
    tried = await in_thread(lambda: trials.test(principal, automation_id))
    return Json200(_tried_json(tried))


async def test_draft(request: Request, context: Context, principal: Principal) -> Response:
    """Sends a test of an automation as it would be created, and stores none."""
    body = await json_body(request, context)
    project_id = body_project(body, "an automation")
    fields = read_automation(body)
    trials = context.tallyard.automation_trials
    tried = await in_thread(lambda: trials.test_draft(principal, project_id, fields))
    return Json200(_tried_json(tried))


def automation_id_of(request: Request) -> AutomationId:
    """The automation in the URL's path. Raises NotFound if it is no id."""
    return AutomationId(path_uuid(request, "automation_id", "automation"))


def _written_json(written: WrittenAutomation, principal: Principal) -> JsonObject:
    told = automation_json(written.automation, principal)
    if written.secret is not None:
        told["secret"] = written.secret
    return told


def _tried_json(tried: Tried) -> JsonObject:
    told: JsonObject = {
        "delivery_id": message_id(tried.sent.delivery_id),
        "delivered": tried.sent.delivered,
        "error": tried.sent.error,
        "count": tried.report.matches,
        "time_start": time_text(tried.report.time_start),
        "time_end": time_text(tried.report.time_end),
    }
    if tried.sent.secret is not None:
        told["secret"] = tried.sent.secret
    return told


async def _reachable(request: Request, context: Context, principal: Principal) -> AutomationId:
    """The automation in the URL's path. Raises NotFound unless the key reaches it.

    Endpoints call this before they read the body: a key that does not reach the automation
    costs no more than a look-up, and learns nothing from the errors of the body.
    """
    automation_id, automations = automation_id_of(request), context.tallyard.automations
    await in_thread(lambda: automations.get(principal, automation_id))
    return automation_id


ALL = "/v1/project_automation"
ONE = f"{ALL}/{{automation_id}}"
ROUTES = [
    Route(ALL, endpoint(create, Automations.make), methods=["POST"]),
    Route(ALL, endpoint(replace, Automations.make), methods=["PUT"]),
    Route(ALL, endpoint(list_automations, Automations.list), methods=["GET"]),
    Route(ONE, endpoint(get, Automations.get), methods=["GET"]),
    Route(ONE, endpoint(change, Automations.change), methods=["PATCH"]),
    Route(ONE, endpoint(delete, Automations.delete), methods=["DELETE"]),
    Route(
        f"{ONE}/secret", endpoint(rotate_secret, Automations.rotate_secret), methods=["POST"]
    ),
    Route(f"{ALL}/test", endpoint(test_draft, Trials.test_draft), methods=["POST"]),
    Route(f"{ONE}/test", endpoint(test, Trials.test), methods=["POST"]),
    Route(f"{ONE}/history", endpoint(history, AutomationHistory.read), methods=["GET"]),
]
