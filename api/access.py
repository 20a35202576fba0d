"""Projects: `/v1/project`, and the older SDKs' `/api/project/register`."""

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
)
from flows.access.keys import KeyRole, Principal
from flows.access.projects import Project, check_name, get, get_or_create
from spans.errors import BadInput, NotFound
from spans.ids import ProjectId
from spans.json import Json, JsonObject

CHANGEABLE = {"name", "description", "settings"}
FOUND_EXISTING = "x-bt-found-existing"


def shown(project: Project) -> JsonObject:
    """A project as the API gives it."""
    return {
        "id": str(project.id),
        "org_id": str(project.org_id),
        "name": project.name,
        "description": project.description,
        "created": project.created.isoformat(),
        "deleted_at": project.deleted_at.isoformat() if project.deleted_at else None,
        "user_id": None,
        "settings": project.settings,
    }


async def create(request: Request, context: Context, principal: Principal) -> Response:
    """Get or create by name; an existing project comes back as it is."""
    body = await json_body(request, context)
    project, existed = await _get_or_create(
        context, principal, body.get("name"), body.get("org_name"), body.get("description")
    )
    headers = {FOUND_EXISTING: "true"} if existed else {}
    return Json200(shown(project), headers=headers)


async def register(request: Request, context: Context, principal: Principal) -> Response:
    """The same in the older SDKs' words."""
    body = await json_body(request, context)
    project, existed = await _get_or_create(
        context, principal, body.get("project_name"), None, None
    )
    return Json200({"project": shown(project), "found_existing": existed})


async def by_query(request: Request, context: Context, principal: Principal) -> Response:
    """The older SDKs' look-up by `?id=`."""
    try:
        project_id = ProjectId(uuid.UUID(request.query_params.get("id", "")))
    except ValueError as error:
        raise NotFound("no such project") from error
    projects = context.services.projects
    return Json200(shown(await in_thread(lambda: get(projects, principal, project_id))))


async def listed(request: Request, context: Context, principal: Principal) -> Response:
    """The projects that the key may reach, newest first."""
    page = list_page(request, "project_name")
    if request.query_params.get("org_name") not in {None, "", principal.org_name}:
        return Json200({"objects": []})
    projects = context.services.projects
    found = await in_thread(
        lambda: projects.list_projects(principal.org_id, page, principal.project_id)
    )
    return Json200({"objects": [shown(project) for project in found]})


async def one(request: Request, context: Context, principal: Principal) -> Response:
    """One project."""
    return Json200(shown(await _project(request, context, principal)))


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Change a project's name, description or settings."""
    project = await _project(request, context, principal)
    changes = {
        name: value for name, value in (await json_body(request, context)).items()
        if name in CHANGEABLE
    }
    if "name" in changes:
        changes["name"] = check_name(_text(changes["name"], "name"))
    if changes.get("description") is not None:
        changes["description"] = _text(changes["description"], "description")
    if changes.get("settings") is not None and not isinstance(changes["settings"], dict):
        raise BadInput("an object", path="settings")
    projects = context.services.projects
    return Json200(
        shown(await in_thread(lambda: projects.change_project(project.id, changes)))
    )


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Delete a project: gone at once; its rows and outcomes are removed in the background."""
    project = await _project(request, context, principal)
    projects = context.services.projects
    gone = await in_thread(lambda: projects.delete_project(project.id))
    context.projects.clear()
    context.services.bell.ring("upkeep")
    return Json200(shown(gone))


async def _project(request: Request, context: Context, principal: Principal) -> Project:
    project_id = ProjectId(path_uuid(request, "project_id", "project"))
    projects = context.services.projects
    return await in_thread(lambda: get(projects, principal, project_id))


async def _get_or_create(
    context: Context, principal: Principal, name: Json, org_name: Json, description: Json
) -> tuple[Project, bool]:
    if org_name not in (None, "", principal.org_name):   # a set would hash what was sent
        raise NotFound(f"this key is for the organisation {principal.org_name!r}")
    checked = _text(name, "name")
    about = None if description is None else _text(description, "description")
    projects = context.services.projects
    return await in_thread(
        lambda: get_or_create(
            projects, principal, name=checked, new_id=ProjectId(uuid.uuid4()),
            description=about,
        )
    )


def _text(value: Json, name: str) -> str:
    if not isinstance(value, str):
        raise BadInput("a text", path=name)
    return value


INGEST, READ = KeyRole.INGEST, KeyRole.READ
ROUTES = [
    Route("/v1/project", endpoint(create, INGEST), methods=["POST"]),
    Route("/v1/project", endpoint(listed, READ), methods=["GET"]),
    Route("/v1/project/{project_id}", endpoint(one, INGEST, READ), methods=["GET"]),
    Route("/v1/project/{project_id}", endpoint(change), methods=["PATCH"]),
    Route("/v1/project/{project_id}", endpoint(delete), methods=["DELETE"]),
    Route("/api/project/register", endpoint(register, INGEST), methods=["POST"]),
    Route("/api/project", endpoint(by_query, INGEST, READ), methods=["GET"]),
]
