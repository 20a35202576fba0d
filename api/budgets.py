"""Endpoints of budgets: `/v1/budget`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import endpoint
from api.request import Context, body_project, in_thread, json_body, path_uuid, query_project
from flows.access.principal import Principal
from flows.budgets.budgets import Budgets, status_json
from rules.budgets.wire import budget_json, read_budget
from spans.errors import BadInput


async def put(request: Request, context: Context, principal: Principal) -> Response:
    """Sets the budget of a project, a rule or a job, for each day or in total."""
    body = await json_body(request, context)
    project_id = body_project(body, "a budget")
    checked = read_budget(body)
    budgets = context.tallyard.budgets
    budget, existed = await in_thread(lambda: budgets.put(principal, project_id, checked))
    headers = {"x-bt-found-existing": "true"} if existed else {}
    return Json200(budget_json(budget), headers=headers)


async def list_budgets(request: Request, context: Context, principal: Principal) -> Response:
    """Lists a project's budgets, what is spent of them, and what they hold back."""
    project_id = query_project(request)
    if project_id is None:
        raise BadInput("missing: send the id of a project", path="project_id")
    budgets = context.tallyard.budgets
    found = await in_thread(lambda: budgets.list(principal, project_id))
    return Json200({"objects": [status_json(each) for each in found]})


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Deletes a budget. What it holds back runs soon."""
    budget_id = path_uuid(request, "budget_id", "budget")
    budgets = context.tallyard.budgets
    deleted = await in_thread(lambda: budgets.delete(principal, budget_id))
    return Json200(budget_json(deleted))


ALL = "/v1/budget"
ROUTES = [
    Route(ALL, endpoint(put, Budgets.put), methods=["PUT"]),
    Route(ALL, endpoint(list_budgets, Budgets.list), methods=["GET"]),
    Route(f"{ALL}/{{budget_id}}", endpoint(delete, Budgets.delete), methods=["DELETE"]),
]
