"""Shared by all endpoints: authentication, parameters, and the answers to errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.body import TooSlow, UnknownEncoding, parse_object, read_body
from flows.access.keys import Unauthorized
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage
from flows.access.use_case import roles_of
from flows.logs.limits import TooLarge
from spans.errors import (
    BadInput,
    Forbidden,
    InvalidSource,
    NotAnswered,
    NotFound,
    StoreUnavailable,
    TallyardError,
    TransientError,
    UserError,
)
from spans.ids import ProjectId, parse_uuid
from spans.json import Json, JsonObject
from wiring.settings import Settings
from wiring.tallyard import Tallyard

logger = logging.getLogger(__name__)

NUL = b"\\u0000"
"""NUL as JSON text writes it. PostgreSQL cannot store it in text."""

RETRY_AFTER_S = 1
"""The Retry-After of an answer with status 503, if the error does not give another."""

T = TypeVar("T")


class Json200(Response):
    """An answer in JSON, with status 200 if no other is given."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 Starlette's own signature
        """The JSON text. Instants are in ISO 8601 with Z, UUIDs are strings."""
        return orjson.dumps(content, option=orjson.OPT_UTC_Z, default=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The settings and use cases, which all endpoints of an API process share."""

    settings: Settings
    tallyard: Tallyard


Handler = Callable[[Request, Context, Principal], Awaitable[Response]]


def endpoint(
    handler: Handler, use_case: Callable[..., Any]
) -> Callable[[Request], Awaitable[Response]]:
    """Starlette's endpoint for `handler`, open to keys whose role may call `use_case`.

    Other keys are refused before the request's body is read.
    """
    return _endpoint(handler, roles_of(use_case))


def endpoint_for_any_key(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Starlette's endpoint for `handler`, open to every valid key."""
    return _endpoint(handler, tuple(KeyRole))


def _endpoint(
    handler: Handler, roles: Sequence[KeyRole]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        context: Context = request.app.state.context
        try:
            if b"%00" in request.scope["query_string"] or "\0" in request.url.path:
                raise NotFound("not found: the URL contains a NUL character")
            principal = await principal_of(request, context)
            principal.require(*roles)
            return await handler(request, context, principal)
        except TallyardError as error:
            return error_response(error)

    return answer


async def principal_of(request: Request, context: Context) -> Principal:
    """The principal of the request's Bearer key. Raises Unauthorized."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("Invalid API key: send `Authorization: Bearer sk-...`")
    keys = context.tallyard.keys
    known = keys.trusted(text)
    return await in_thread(lambda: keys.authenticate(text)) if known is None else known


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


def error_response(error: TallyardError) -> Response:
    """The answer to an error: its status and class, and a message with the next step."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == 503:
        wait = error.retry_after_s if isinstance(error, TransientError) else None
        headers["retry-after"] = str(round(wait or RETRY_AFTER_S))
        logger.warning("answered 503: %s", error)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    # The message of StoreUnavailable may name hosts, so clients do not get it.
    is_ours = isinstance(error, StoreUnavailable)
    message = "the store cannot be reached; send this again" if is_ours else str(error)
    content: dict[str, Json] = {"class": error.error_class(), "message": message}
    if isinstance(error, InvalidSource):
        content.update(line=error.line, column=error.column)
    return JSONResponse({"error": content}, status_code=status, headers=headers)


def status_of(error: TallyardError) -> int:
    """The HTTP status of an error. The first class in the list that fits decides."""
    for kind, status in (
        (TooLarge, 413), (TooSlow, 408), (UnknownEncoding, 415), (Unauthorized, 401),
        (Forbidden, 403), (NotFound, 404), (BadInput, 400), (InvalidSource, 422),
        (UserError, 400), (NotAnswered, 504), (TransientError, 503),
    ):
        if isinstance(error, kind):
            return status
    return 500


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
