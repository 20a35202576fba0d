"""Endpoints of rules: `/v1/project_score`, and running a rule on stored rows."""

from __future__ import annotations

from pydantic import BaseModel, Field
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
    query_project,
)
from flows.access.principal import Principal
from flows.rescore.rescores import RECENT_MAX, Rescores, status_json
from flows.rules.rules import Rules
from rules.wire import ProjectScore, read_rule
from spans.ids import RuleId
from spans.json import JsonObject
from spans.validation import read_model


class ScoreRecentBody(BaseModel):
    """How many rows a rule is to score: the latest that it selects."""

    last: int = Field(
        50, strict=True, ge=1, le=RECENT_MAX,
        description=f"must be a number from 1 to {RECENT_MAX}",
    )


def project_score_json(rule: ProjectScore) -> JsonObject:
    """A project score as JSON."""
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
    """Creates a rule. If its name exists, returns the existing rule unchanged."""
    return await _make(request, context, principal, replace=False)


async def replace(request: Request, context: Context, principal: Principal) -> Response:
    """Creates a rule. If its name exists, replaces the existing rule."""
    return await _make(request, context, principal, replace=True)


async def _make(
    request: Request, context: Context, principal: Principal, *, replace: bool
) -> Response:
    body = await json_body(request, context)
    project_id = body_project(body, "a rule")
    checked = read_rule(body)
    rules = context.tallyard.rules
    rule, existed = await in_thread(
        lambda: rules.make(principal, project_id, checked, replace=replace)
    )
    headers = {"x-bt-found-existing": "true"} if existed else {}
    return Json200(project_score_json(rule), headers=headers)


async def list_rules(request: Request, context: Context, principal: Principal) -> Response:
    """Lists the project scores that the key reaches, newest first."""
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
    return Json200({"objects": [project_score_json(rule) for rule in found]})


async def get(request: Request, context: Context, principal: Principal) -> Response:
    """Gets one project score."""
    rule_id, rules = _rule_id(request), context.tallyard.rules
    rule = await in_thread(lambda: rules.get(principal, rule_id))
    return Json200(project_score_json(rule))


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Changes the fields of a rule that are sent."""
    rules = context.tallyard.rules
    rule_id = await _reachable_rule(request, context, principal)
    body = await json_body(request, context)
    changes = {name: body[name] for name in body if name != "project_id"}
    changed = await in_thread(lambda: rules.change(principal, rule_id, changes))
    return Json200(project_score_json(changed))


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Deletes a rule and supersedes its pending outcomes. Its scores stay."""
    rule_id, rules = _rule_id(request), context.tallyard.rules
    deleted = await in_thread(lambda: rules.delete(principal, rule_id))
    return Json200(project_score_json(deleted))


async def score_recent(request: Request, context: Context, principal: Principal) -> Response:
    """Makes a re-score job of the latest rows that a rule selects."""
    rescores = context.tallyard.rescores
    rule_id = await _reachable_rule(request, context, principal)
    body = read_model(ScoreRecentBody, await json_body(request, context))
    job, _ = await in_thread(lambda: rescores.score_recent(principal, rule_id, body.last))
    status = await in_thread(lambda: rescores.get(principal, job.id))
    return Json200(status_json(status))


def _rule_id(request: Request) -> RuleId:
    return RuleId(path_uuid(request, "rule_id", "project score"))


async def _reachable_rule(
    request: Request, context: Context, principal: Principal
) -> RuleId:
    """The rule in the URL's path. Raises NotFound unless the key reaches it.

    Endpoints call this before they read the body: a key that does not reach the rule costs no
    more than a look-up, and learns nothing from the errors of the body.
    """
    rule_id, rules = _rule_id(request), context.tallyard.rules
    await in_thread(lambda: rules.get(principal, rule_id))
    return rule_id


ALL = "/v1/project_score"
ONE = f"{ALL}/{{rule_id}}"
ROUTES = [
    Route(ALL, endpoint(create, Rules.make), methods=["POST"]),
    Route(ALL, endpoint(replace, Rules.make), methods=["PUT"]),
    Route(ALL, endpoint(list_rules, Rules.list), methods=["GET"]),
    Route(ONE, endpoint(get, Rules.get), methods=["GET"]),
    Route(ONE, endpoint(change, Rules.change), methods=["PATCH"]),
    Route(ONE, endpoint(delete, Rules.delete), methods=["DELETE"]),
    Route(
        f"{ONE}/score_recent", endpoint(score_recent, Rescores.score_recent), methods=["POST"]
    ),
]
