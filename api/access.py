"""Endpoints of projects: `/v1/project`, and `/api/project` for older SDKs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import endpoint
from api.request import Context, in_thread, json_body, list_page, path_uuid
from flows.access.principal import Principal
from flows.access.projects import Project, Projects
from spans.errors import NotFound
from spans.ids import ProjectId, parse_uuid
from spans.json import JsonObject
from spans.validation import read_model

FOUND_EXISTING = "x-bt-found-existing"
A_STRING = "must be a string"


class ProjectBody(BaseModel):
    """A project to get or create. `org_name` can only be the organisation of the key."""

    name: str = Field(description=A_STRING)
    description: str | None = Field(None, description=A_STRING)
    org_name: JsonValue = None


class RegisterBody(BaseModel):
    """A project to get or create, as older SDKs send it."""

    project_name: str = Field(description=A_STRING)


class ProjectChanges(BaseModel):
    """The fields of a project to change. Fields that are not sent do not change."""

    model_config = ConfigDict(extra="forbid")   # a misspelt field would change nothing

    name: str = Field("", description=A_STRING)
    description: str | None = Field(None, description=A_STRING)
    settings: dict[str, object] | None = Field(None, description="must be an object")


def project_json(project: Project) -> JsonObject:
    """A project as JSON."""
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
    """Gets the project with a name, or creates it. An existing project is not changed."""
    body = await _project_body(request, context, principal)
    projects = context.tallyard.projects
    project, existed = await in_thread(
        lambda: projects.get_or_create(principal, body.name, body.description)
    )
    return _made(project, existed=existed)


async def replace(request: Request, context: Context, principal: Principal) -> Response:
    """Creates the project with a name. Of an existing one, replaces the description."""
    body = await _project_body(request, context, principal)
    projects = context.tallyard.projects
    project, existed = await in_thread(
        lambda: projects.replace(principal, body.name, body.description)
    )
    return _made(project, existed=existed)


async def register(request: Request, context: Context, principal: Principal) -> Response:
    """Gets the project with a name, or creates it, for older SDKs."""
    name = read_model(RegisterBody, await json_body(request, context)).project_name
    projects = context.tallyard.projects
    project, existed = await in_thread(lambda: projects.get_or_create(principal, name))
    return Json200({"project": project_json(project), "found_existing": existed})


async def get_by_query(request: Request, context: Context, principal: Principal) -> Response:
    """Gets the project `?id=`, for older SDKs."""
    project_id = parse_uuid(request.query_params.get("id", ""))
    if project_id is None:
        raise NotFound("no such project")
    return await _get(ProjectId(project_id), context, principal)


async def list_projects(request: Request, context: Context, principal: Principal) -> Response:
    """Lists the projects that the key reaches, newest first."""
    page = list_page(request, "project_name")
    if request.query_params.get("org_name") not in {None, "", principal.org_name}:
        return Json200({"objects": []})
    projects = context.tallyard.projects
    found = await in_thread(lambda: projects.list(principal, page))
    return Json200({"objects": [project_json(project) for project in found]})


async def get(request: Request, context: Context, principal: Principal) -> Response:
    """Gets one project."""
    return await _get(_project_id(request), context, principal)


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Changes a project's name, description or settings."""
    project_id, projects = _project_id(request), context.tallyard.projects
    # Before the body is read, so that a key without reach costs little and gets 404.
    await in_thread(lambda: projects.get(principal, project_id))
    body = read_model(ProjectChanges, await json_body(request, context))
    changes: JsonObject = body.model_dump(exclude_unset=True)
    changed = await in_thread(lambda: projects.change(principal, project_id, changes))
    return Json200(project_json(changed))


async def delete(request: Request, context: Context, principal: Principal) -> Response:
    """Hides a project at once. Its rows and outcomes are deleted in the background."""
    project_id, projects = _project_id(request), context.tallyard.projects
    deleted = await in_thread(lambda: projects.delete(principal, project_id))
    return Json200(project_json(deleted))


async def _project_body(
    request: Request, context: Context, principal: Principal
) -> ProjectBody:
    body = read_model(ProjectBody, await json_body(request, context))
    # A tuple and not a set, because a client may send a list, which cannot be hashed.
    if body.org_name not in (None, "", principal.org_name):
        raise NotFound(f"this key is for the organisation {principal.org_name!r}")
    return body


def _made(project: Project, *, existed: bool) -> Response:
    headers = {FOUND_EXISTING: "true"} if existed else {}
    return Json200(project_json(project), headers=headers)


async def _get(project_id: ProjectId, context: Context, principal: Principal) -> Response:
    projects = context.tallyard.projects
    project = await in_thread(lambda: projects.get(principal, project_id))
    return Json200(project_json(project))


def _project_id(request: Request) -> ProjectId:
    return ProjectId(path_uuid(request, "project_id", "project"))


ROUTES = [
    Route("/v1/project", endpoint(create, Projects.get_or_create), methods=["POST"]),
    Route("/v1/project", endpoint(replace, Projects.replace), methods=["PUT"]),
    Route("/v1/project", endpoint(list_projects, Projects.list), methods=["GET"]),
    Route("/v1/project/{project_id}", endpoint(get, Projects.get), methods=["GET"]),
    Route("/v1/project/{project_id}", endpoint(change, Projects.change), methods=["PATCH"]),
    Route("/v1/project/{project_id}", endpoint(delete, Projects.delete), methods=["DELETE"]),
    Route(
        "/api/project/register", endpoint(register, Projects.get_or_create), methods=["POST"]
    ),
    Route("/api/project", endpoint(get_by_query, Projects.get), methods=["GET"]),
]
