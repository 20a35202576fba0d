"""What a handler reads of a request: its JSON, the ids in its path, its query string."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import anyio.to_thread
from starlette.requests import Request

from api.body import parse_object, read_body
from flows.access.projects import ListPage
from spans.errors import (
    BadInput,
    NotFound,
)
from spans.ids import ProjectId, parse_uuid
from spans.json import JsonObject
from wiring.settings import Settings
from wiring.tallyard import Tallyard

NUL = b"\\u0000"
"""NUL as JSON text writes it. PostgreSQL cannot store it in text."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The settings and use cases, which all endpoints of an API process share."""

    settings: Settings
    tallyard: Tallyard


async def in_thread(work: Callable[[], T]) -> T:
    """The result of `work`, which waits for the database, without blocking the event loop."""
    return await anyio.to_thread.run_sync(work)


async def json_body(request: Request, context: Context) -> JsonObject:
    """The JSON object in the request's body. Raises BadInput, also if it holds NUL."""
    settings = context.settings
    body = await read_body(
        request, sent_max=settings.body_bytes_max, inflated_max=settings.inflated_bytes_max
    )
    if NUL in body:
        raise BadInput("\\u0000 cannot be stored in a name, a description or a filter")
    return parse_object(body)


def body_project(body: JsonObject, what: str) -> ProjectId:
    """Takes the id of a project out of a request's body; `what` names the thing that needs it.

    Raises BadInput if it is missing, and NotFound if it is not a UUID.
    """
    value = body.pop("project_id", None)
    if not isinstance(value, str):
        raise BadInput(f"missing: {what} needs the id of its project", path="project_id")
    if (project_id := parse_uuid(value)) is None:
        raise NotFound("no such project")
    return ProjectId(project_id)


def path_uuid(request: Request, name: str, what: str) -> UUID:
    """The id in the URL's path. Raises NotFound if it is not a UUID; `what` names the thing."""
    found = parse_uuid(request.path_params[name])
    if found is None:
        raise NotFound(f"no such {what}")
    return found


def query_int(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """A number in the query string. Raises BadInput unless it is from `least` to `most`."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not is_number(text) or not least <= int(text) <= most:
        raise BadInput(f"must be a number from {least} to {most}", path=name)
    return int(text)


def is_number(text: str) -> bool:
    """Whether `int` can read the text. `isdigit` alone is also true for superscripts."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def list_page(request: Request, name_parameter: str) -> ListPage:
    """The page of a list that the query string asks for. Raises BadInput."""
    query = request.query_params
    return ListPage(
        limit=query_int(request, "limit", 100, least=0, most=1000),
        starting_after=query.get("starting_after"),
        ending_before=query.get("ending_before"),
        # Some clients repeat the parameter, others join the ids by commas.
        ids=tuple(
            item for text in query.getlist("ids") for item in text.split(",") if item
        ),
        name=query.get(name_parameter),
    )


def query_project(request: Request) -> ProjectId | None:
    """The `project_id` of the query string. Raises NotFound if it is not a UUID."""
    text = request.query_params.get("project_id")
    if not text:
        return None
    if (project_id := parse_uuid(text)) is None:
        raise NotFound("no such project")
    return ProjectId(project_id)
