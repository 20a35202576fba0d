"""Endpoints of outcomes: explain a span's scores, list errors and rejected rows, retry."""

from __future__ import annotations

import dataclasses

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import endpoint
from api.logs import reachable_project
from api.request import Context, in_thread, json_body, path_uuid, query_int
from flows.access.principal import Principal
from flows.logs.logs import Logs
from flows.outcomes.explain import explanation_json
from flows.outcomes.outcomes import Outcomes
from flows.outcomes.retry import read_retry
from rules.wire import rule_id_of
from spans.errors import BadInput, NotFound
from spans.ids import ProjectId
from spans.validation import read_model


class RetryBody(BaseModel):
    """The errored outcomes to run again, limited by error class, age and rule."""

    model_config = ConfigDict(extra="forbid")
    error_class: str | None = Field(None, alias="class", description="must be a string")
    since: str | None = Field(None, description="must be a string")
    rule_id: str | None = Field(None, description="must be a string")


async def explain_span(request: Request, context: Context, principal: Principal) -> Response:
    """Explains what each rule did with a span. `id` is its row id or span id."""
    project_id = _project_id(request)
    text = request.query_params.get("id", "")
    if not text:
        raise BadInput("missing: send the row id or span id of a span", path="id")
    outcomes = context.tallyard.outcomes
    found = await in_thread(lambda: outcomes.explain(principal, project_id, text))
    return Json200(explanation_json(found))


async def errors(request: Request, context: Context, principal: Principal) -> Response:
    """Counts the errored outcomes by rule, scorer and error class."""
    project_id, outcomes = _project_id(request), context.tallyard.outcomes
    found = await in_thread(lambda: outcomes.errors(principal, project_id))
    return Json200({"errors": [dataclasses.asdict(summary) for summary in found]})


async def retry(request: Request, context: Context, principal: Principal) -> Response:
    """Makes errored outcomes pending again."""
    project_id = await reachable_project(request, context, principal)
    outcomes = context.tallyard.outcomes
    body = read_model(RetryBody, await json_body(request, context))
    rule_id = None if body.rule_id is None else rule_id_of(body.rule_id)
    if body.rule_id is not None and rule_id is None:
        raise NotFound("no such project score")
    retry_request = read_retry(body.error_class, body.since, rule_id)
    count = await in_thread(lambda: outcomes.retry(principal, project_id, retry_request))
    return Json200({"retried": count})


async def rejected(request: Request, context: Context, principal: Principal) -> Response:
    """Lists the rows of lenient requests that were not stored, latest first."""
    project_id, logs = _project_id(request), context.tallyard.logs
    limit = query_int(request, "limit", 100, least=1, most=1000)
    found = await in_thread(lambda: logs.rejected(principal, project_id, limit))
    return Json200({"rejected": found})


async def rejected_anywhere(
    request: Request, context: Context, principal: Principal
) -> Response:
    """Lists the organisation's rejected rows, also those without a project, latest first."""
    logs = context.tallyard.logs
    limit = query_int(request, "limit", 100, least=1, most=1000)
    found = await in_thread(lambda: logs.rejected_anywhere(principal, limit))
    return Json200({"rejected": found})


def _project_id(request: Request) -> ProjectId:
    return ProjectId(path_uuid(request, "project_id", "project"))


LOGS = "/v1/project_logs/{project_id}"
ROUTES = [
    Route(f"{LOGS}/explain", endpoint(explain_span, Outcomes.explain), methods=["GET"]),
    Route(f"{LOGS}/errors", endpoint(errors, Outcomes.errors), methods=["GET"]),
    Route(f"{LOGS}/rejected", endpoint(rejected, Logs.rejected), methods=["GET"]),
    Route("/v1/rejected", endpoint(rejected_anywhere, Logs.rejected_anywhere), methods=["GET"]),
    Route(f"{LOGS}/outcomes/retry", endpoint(retry, Outcomes.retry), methods=["POST"]),
]
