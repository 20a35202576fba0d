"""Makes an endpoint of a handler: who asks, which role it takes, and errors as answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.answer import error_response
from api.request import Context, in_thread
from flows.access.keys import Unauthorized
from flows.access.principal import KeyRole, Principal
from flows.access.use_case import roles_of
from spans.errors import (
    NotFound,
    TallyardError,
)

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
            if b"%00" in request.scope["query_string"] or "\0" in request.scope["path"]:
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

