"""Rules: `/v1/project_score`, and running a rule on rows that are there."""

from __future__ import annotations

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import (
    Context,
    Json200,
    endpoint,
    in_thread,
    json_body,
    list_page,
    path_uuid,
    query_project,
)
from flows.access.principal import Principal
from flows.rules.rules import Rules
from flows.rules.score_recent import RECENT_MAX
from rules.wire import ProjectScore, read_rule
from spans.errors import BadInput, NotFound
from spans.ids import ProjectId, RuleId, parse_uuid
from spans.json import Json, JsonObject
from spans.validation import read_model


class ScoreRecentBody(BaseModel):
    """On how many of the latest rows that it selects a rule is run."""

    last: int = Field(
        50, strict=True, ge=1, le=RECENT_MAX, description=f"a number from 1 to {RECENT_MAX}"
    )


def shown(rule: ProjectScore) -> JsonObject:
    """A project score as the API gives it."""
    return {
        "id": str(rule.id),
        "project_id": str(rule.project_id),
        "user_id": None,
        "created": rule.created.isoformat(),
        "name": rule.name,
        "description": rule.description,
        "score_type": rule.score_type,
        "categories": rule.categories,
        "config": rule.config,
        "position": rule.position,
    }


async def create(request: Request, context: Context, principal: Principal) -> Response:
    """Make a rule, or find the one of that name, as it is."""
    return await _make(request, context, principal, replace=False)


async def replace(request: Request, context: Context, principal: Principal) -> Response:
    """Make a rule, or have the one of that name become what is given."""
    return await _make(request, context, principal, replace=True)


async def _make(
    request: Request, context: Context, principal: Principal, *, replace: bool
) -> Response:
    body = await json_body(request, context)
    project_id = _project_id(body.pop("project_id", None))
    checked = read_rule(body)
    rules = context.tallyard.rules
    rule, existed = await in_thread(
        lambda: rules.make(principal, project_id, checked, replace=replace)
    )
    return Json200(shown(rule), headers={"x-bt-found-existing": "true"} if existed else {})


async def listed(request: Request, context: Context, principal: Principal) -> Response:
    """The project scores that the key may reach, newest first."""
    page = list_page(request, "project_score_name")
    query = request.query_params
    project_id = query_project(request)
    rules = context.tallyard.rules
    found = await in_thread(
        lambda: rules.list(
            principal, page, project_id=project_id, project_name=query.get("project_name"),
            score_type=query.get("score_type"),
        )
    )
    return Json200({"objects": [shown(rule) for rule in found]})


async def one(request: Request, context: Context, principal: Principal) -> Response:
    """One project score."""
    rule_id, rules = _rule_id(request), context.tallyard.rules
    return Json200(shown(await in_thread(lambda: rules.get(principal, rule_id))))


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Change what is given of a rule; the rest stays."""
    rule_id, rules = _rule_id(request), context.tallyard.rules
    body = await json_body(request, context)
    changes = {name: body[name] for name in body if name != "project_id"}
    return Json200(shown(await in_thread(lambda: rules.change(principal, rule_id, changes))))


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Remove a rule and what waits for it; the scores it gave stay."""
    rule_id, rules = _rule_id(request), context.tallyard.rules
    return Json200(shown(await in_thread(lambda: rules.delete(principal, rule_id))))


async def recent(request: Request, context: Context, principal: Principal) -> Response:
    """Run a rule on the latest rows that it selects."""
    rule_id, rules = _rule_id(request), context.tallyard.rules
    body = read_model(ScoreRecentBody, await json_body(request, context))
    done = await in_thread(lambda: rules.score_recent(principal, rule_id, body.last))
    return Json200({
        "rule_id": str(rule_id), "examined": done.examined, "selected": done.selected,
        "started": done.started,
    })


def _rule_id(request: Request) -> RuleId:
    return RuleId(path_uuid(request, "rule_id", "project score"))


def _project_id(value: Json) -> ProjectId:
    if not isinstance(value, str):
        raise BadInput("a rule names its project", path="project_id")
    if (project_id := parse_uuid(value)) is None:
        raise NotFound("no such project")
    return ProjectId(project_id)


ALL = "/v1/project_score"
ONE = f"{ALL}/{{rule_id}}"
ROUTES = [
    Route(ALL, endpoint(create, Rules.make), methods=["POST"]),
    Route(ALL, endpoint(replace, Rules.make), methods=["PUT"]),
    Route(ALL, endpoint(listed, Rules.list), methods=["GET"]),
    Route(ONE, endpoint(one, Rules.get), methods=["GET"]),
    Route(ONE, endpoint(change, Rules.change), methods=["PATCH"]),
    Route(ONE, endpoint(delete, Rules.delete), methods=["DELETE"]),
    Route(f"{ONE}/score_recent", endpoint(recent, Rules.score_recent), methods=["POST"]),
]
