"""The ASGI application: all routes, and the answer to errors that are bugs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import (
    access,
    automations,
    budgets,
    deliveries,
    functions,
    health,
    invocations,
    logs,
    outcomes,
    rescore,
    rules,
)
from api.request import Context
from wiring.services import Services
from wiring.tallyard import make_tallyard

logger = logging.getLogger(__name__)

THREADS = 12
"""Threads for requests that wait for the database. Fewer than its pool has connections, so that
no thread waits for one."""

ROUTES = [
    *logs.ROUTES, *access.ROUTES, *rules.ROUTES, *automations.ROUTES, *deliveries.ROUTES,
    *functions.ROUTES, *invocations.ROUTES, *outcomes.ROUTES,
    *rescore.ROUTES, *budgets.ROUTES, *health.ROUTES,
]


class UnforeseenErrors:
    """Answers an unexpected exception with 500 and an id, and logs its traceback under it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application, as ASGI prescribes."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        # The boundary of a request: an exception that gets here is a bug. The server goes on.
        except Exception:
            if scope["type"] != "http" or started:
                raise
            error_id = uuid.uuid4().hex
            logger.exception("error %s at %s", error_id, scope.get("path"))
            body = {"error": {"class": "bug", "message": f"see the log for error {error_id}"}}
            await JSONResponse(body, status_code=500)(scope, receive, send)


def make_app(services: Services) -> Starlette:
    """The application, which uses these services and closes them when the server stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tallyard = make_tallyard(services, ring=services.bell.ring)
        app.state.context = Context(settings=services.settings, tallyard=tallyard)
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        tallyard.close()
        services.close()

    return Starlette(
        routes=ROUTES,
        middleware=[Middleware(UnforeseenErrors)],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 it is registered for these
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"error": {"class": "not_found", "message": message}}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
