"""Rules: `/v1/project_score`, and running a rule on rows that are there."""

from __future__ import annotations

import uuid

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
from flows.access.principal import KeyRole, Principal
from flows.access.projects import get
from flows.rules.rules import check_functions
from flows.rules.score_recent import RECENT_MAX, score_recent
from rules.wire import ProjectScore, patch_rule, read_rule
from spans.errors import BadInput, NotFound
from spans.ids import ObjectId, ProjectId, RuleId
from spans.json import JsonObject
from spans.row import ObjectRef, ObjectType


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
    services = context.services
    await in_thread(lambda: get(services.projects, principal, project_id))
    checked = read_rule(body)
    await in_thread(
        lambda: check_functions(
            services.functions, principal.org_id, checked, only=principal.project_id
        )
    )
    rule, existed = await in_thread(
        lambda: services.rules.create_rule(
            project_id, RuleId(uuid.uuid4()), checked, replace=replace
        )
    )
    return Json200(shown(rule), headers={"x-bt-found-existing": "true"} if existed else {})


async def listed(request: Request, context: Context, principal: Principal) -> Response:
    """The project scores that the key may reach, newest first."""
    page = list_page(request, "project_score_name")
    query = request.query_params
    wanted = query_project(request)
    services = context.services
    if (name := query.get("project_name")) is not None and wanted is None:
        named = await in_thread(
            lambda: services.projects.project_named(principal.org_id, name)
        )
        if named is None:
            return Json200({"objects": []})
        wanted = named.id
    if principal.project_id is not None:
        if wanted not in {None, principal.project_id}:
            return Json200({"objects": []})
        wanted = principal.project_id
    kind = query.get("score_type")
    found = await in_thread(
        lambda: services.rules.list_rules(principal.org_id, page, wanted, kind)
    )
    return Json200({"objects": [shown(rule) for rule in found]})


async def one(request: Request, context: Context, principal: Principal) -> Response:
    """One project score."""
    return Json200(shown(await _rule(request, context, principal)))


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Change what is given of a rule; the rest stays."""
    rule = await _rule(request, context, principal)
    body = await json_body(request, context)
    changes = {name: body[name] for name in body if name != "project_id"}
    services = context.services

    def changed() -> ProjectScore:
        check_functions(
            services.functions, principal.org_id, patch_rule(rule, changes),
            only=principal.project_id, present=rule,
        )
        return services.rules.change_rule(rule, lambda present: patch_rule(present, changes))

    return Json200(shown(await in_thread(changed)))


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Remove a rule and what waits for it; the scores it gave stay."""
    rule = await _rule(request, context, principal)
    rules = context.services.rules
    await in_thread(lambda: rules.delete_rule(rule))
    return Json200(shown(rule))


async def recent(request: Request, context: Context, principal: Principal) -> Response:
    """Run a rule on the latest rows that it selects."""
    rule = await _rule(request, context, principal)
    last = (await json_body(request, context)).get("last", 50)
    if isinstance(last, bool) or not isinstance(last, int) or not 1 <= last <= RECENT_MAX:
        raise BadInput(f"a number from 1 to {RECENT_MAX}", path="last")
    services = context.services
    where = ObjectRef(rule.project_id, ObjectType.PROJECT_LOGS, ObjectId(rule.project_id))
    done = await in_thread(
        lambda: score_recent(
            services.recent, rule, where=where, last=last, clock=services.clock
        )
    )
    for queue in done.queues:
        services.bell.ring(queue)
    return Json200({
        "rule_id": str(rule.id), "examined": done.examined, "selected": done.selected,
        "started": done.started,
    })


async def _rule(request: Request, context: Context, principal: Principal) -> ProjectScore:
    rule_id = RuleId(path_uuid(request, "rule_id", "project score"))
    services = context.services
    rule = await in_thread(lambda: services.rules.find_rule(principal.org_id, rule_id))
    if rule is None or principal.project_id not in {None, rule.project_id}:
        raise NotFound("no such project score")
    return rule


def _project_id(value: object) -> ProjectId:
    if not isinstance(value, str):
        raise BadInput("a rule names its project", path="project_id")
    try:
        return ProjectId(uuid.UUID(value))
    except ValueError as error:
        raise NotFound("no such project") from error


READ = KeyRole.READ
ROUTES = [
    Route("/v1/project_score", endpoint(create), methods=["POST"]),
    Route("/v1/project_score", endpoint(replace), methods=["PUT"]),
    Route("/v1/project_score", endpoint(listed, READ), methods=["GET"]),
    Route("/v1/project_score/{rule_id}", endpoint(one, READ), methods=["GET"]),
    Route("/v1/project_score/{rule_id}", endpoint(change), methods=["PATCH"]),
    Route("/v1/project_score/{rule_id}", endpoint(delete), methods=["DELETE"]),
    Route("/v1/project_score/{rule_id}/score_recent", endpoint(recent), methods=["POST"]),
]
