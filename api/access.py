"""Projects: `/v1/project`, and the older SDKs' `/api/project/register`."""

from __future__ import annotations

from pydantic import BaseModel, Field, JsonValue
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
from flows.access.principal import Principal
from flows.access.projects import Project, Projects
from spans.errors import NotFound
from spans.ids import ProjectId, parse_uuid
from spans.json import JsonObject
from spans.validation import read_model

FOUND_EXISTING = "x-bt-found-existing"
A_TEXT = "a text"


class ProjectBody(BaseModel):
    """A project to get or make. `org_name` may only repeat whose key it is."""

    name: str = Field(description=A_TEXT)
    description: str | None = Field(None, description=A_TEXT)
    org_name: JsonValue = None


class RegisterBody(BaseModel):
    """The same in the older SDKs' words."""

    project_name: str = Field(description=A_TEXT)


class ProjectChanges(BaseModel):
    """What is to be changed of a project: the fields that are given."""

    name: str = Field("", description=A_TEXT)
    description: str | None = Field(None, description=A_TEXT)
    settings: dict[str, object] | None = Field(None, description="an object")


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
    body = read_model(ProjectBody, await json_body(request, context))
    # A tuple, because a list or an object that was sent cannot be looked up in a set.
    if body.org_name not in (None, "", principal.org_name):
        raise NotFound(f"this key is for the organisation {principal.org_name!r}")
    projects = context.tallyard.projects
    project, existed = await in_thread(
        lambda: projects.get_or_create(principal, body.name, body.description)
    )
    headers = {FOUND_EXISTING: "true"} if existed else {}
    return Json200(shown(project), headers=headers)


async def register(request: Request, context: Context, principal: Principal) -> Response:
    """The same in the older SDKs' words."""
    name = read_model(RegisterBody, await json_body(request, context)).project_name
    projects = context.tallyard.projects
    project, existed = await in_thread(lambda: projects.get_or_create(principal, name))
    return Json200({"project": shown(project), "found_existing": existed})


async def by_query(request: Request, context: Context, principal: Principal) -> Response:
    """The older SDKs' look-up by `?id=`."""
    project_id = parse_uuid(request.query_params.get("id", ""))
    if project_id is None:
        raise NotFound("no such project")
    return await _one(ProjectId(project_id), context, principal)


async def listed(request: Request, context: Context, principal: Principal) -> Response:
    """The projects that the key may reach, newest first."""
    page = list_page(request, "project_name")
    if request.query_params.get("org_name") not in {None, "", principal.org_name}:
        return Json200({"objects": []})
    projects = context.tallyard.projects
    found = await in_thread(lambda: projects.list(principal, page))
    return Json200({"objects": [shown(project) for project in found]})


async def one(request: Request, context: Context, principal: Principal) -> Response:
    """One project."""
    return await _one(_project_id(request), context, principal)


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Change a project's name, description or settings."""
    project_id = _project_id(request)
    body = read_model(ProjectChanges, await json_body(request, context))
    changes: JsonObject = body.model_dump(exclude_unset=True)
    projects = context.tallyard.projects
    return Json200(
        shown(await in_thread(lambda: projects.change(principal, project_id, changes)))
    )


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Delete a project: gone at once; its rows and outcomes are removed in the background."""
    project_id, projects = _project_id(request), context.tallyard.projects
    return Json200(shown(await in_thread(lambda: projects.delete(principal, project_id))))


async def _one(project_id: ProjectId, context: Context, principal: Principal) -> Response:
    projects = context.tallyard.projects
    return Json200(shown(await in_thread(lambda: projects.get(principal, project_id))))


def _project_id(request: Request) -> ProjectId:
    return ProjectId(path_uuid(request, "project_id", "project"))


ROUTES = [
    Route("/v1/project", endpoint(create, Projects.get_or_create), methods=["POST"]),
    Route("/v1/project", endpoint(listed, Projects.list), methods=["GET"]),
    Route("/v1/project/{project_id}", endpoint(one, Projects.get), methods=["GET"]),
    Route("/v1/project/{project_id}", endpoint(change, Projects.change), methods=["PATCH"]),
    Route("/v1/project/{project_id}", endpoint(delete, Projects.delete), methods=["DELETE"]),
    Route(
        "/api/project/register", endpoint(register, Projects.get_or_create), methods=["POST"]
    ),
    Route("/api/project", endpoint(by_query, Projects.get), methods=["GET"]),
]
