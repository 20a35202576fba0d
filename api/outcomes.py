"""Questions about scoring: why a span has its scores, what errored, what was rejected."""

from __future__ import annotations

import dataclasses
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint, in_thread, json_body, path_uuid, query_int
from flows.access.principal import KeyRole, Principal
from flows.access.projects import get
from flows.outcomes.explain import as_json, explain
from flows.outcomes.retry import read_retry
from rules.wire import rule_id_of
from spans.errors import BadInput, NotFound
from spans.ids import ProjectId
from spans.json import Json
from spans.queues import queues_of_outcomes

RETRY_FIELDS = ("class", "since", "rule_id")


async def explain_span(request: Request, context: Context, principal: Principal) -> Response:
    """What each rule did with a span, by its row id or span id."""
    project_id = await _project(request, context, principal)
    text = request.query_params.get("id", "")
    if not text:
        raise BadInput("the row id or span id of the span", path="id")
    store = context.services.explain
    told = await in_thread(lambda: explain(store, principal.org_id, project_id, text))
    return Json200(as_json(told))


async def errors(request: Request, context: Context, principal: Principal) -> Response:
    """How many outcomes are errored, by rule, scorer and class."""
    project_id = await _project(request, context, principal)
    outcomes = context.services.outcomes
    found = await in_thread(lambda: outcomes.errors(project_id))
    return Json200({"errors": [dataclasses.asdict(one) for one in found]})


async def retry(request: Request, context: Context, principal: Principal) -> Response:
    """Run errored outcomes again."""
    project_id = await _project(request, context, principal)
    body = await json_body(request, context)
    if unknown := body.keys() - set(RETRY_FIELDS):
        raise BadInput(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(RETRY_FIELDS)}"
        )
    rule = _text(body.get("rule_id"), "rule_id")
    rule_id = rule_id_of(rule) if rule is not None else None
    rules = context.services.rules
    if rule is not None and (
        rule_id is None
        or await in_thread(lambda: rules.find_rule(principal.org_id, rule_id)) is None
    ):
        raise NotFound("no such project score")
    asked = read_retry(_text(body.get("class"), "class"), _text(body.get("since"), "since"),
                       rule_id)
    services = context.services
    count = await in_thread(lambda: services.outcomes.retry(project_id, asked))
    for queue in queues_of_outcomes():
        services.bell.ring(queue)
    return Json200({"retried": count})


async def rejected(request: Request, context: Context, principal: Principal) -> Response:
    """Rows of lenient requests that were not stored, the latest first."""
    project_id = await _project(request, context, principal)
    limit = query_int(request, "limit", 100, least=1, most=1000)
    reader = context.services.reader
    found = await in_thread(lambda: reader.rejected(principal.org_id, project_id, limit))
    return Json200({"rejected": found})


async def _project(request: Request, context: Context, principal: Principal) -> ProjectId:
    project_id = ProjectId(path_uuid(request, "project_id", "project"))
    projects = context.services.projects
    return (await in_thread(lambda: get(projects, principal, project_id))).id


def _text(value: Json | UUID, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BadInput("a text", path=name)


READ = KeyRole.READ
LOGS = "/v1/project_logs/{project_id}"
ROUTES = [
    Route(f"{LOGS}/explain", endpoint(explain_span, READ), methods=["GET"]),
    Route(f"{LOGS}/errors", endpoint(errors, READ), methods=["GET"]),
    Route(f"{LOGS}/rejected", endpoint(rejected, READ), methods=["GET"]),
    Route(f"{LOGS}/outcomes/retry", endpoint(retry), methods=["POST"]),
]
