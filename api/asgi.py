"""The ASGI application: every route, and what becomes of an error that nobody foresaw."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import (
    access as projects,
)
from api import (
    functions,
    logs,
    rules,
)
from api import (
    health as meta,
)
from api import (
    invocations as invoke,
)
from api import (
    outcomes as questions,
)
from api import (
    query as btql,
)
from api.endpoint import Context
from wiring.services import Services
from wiring.tallyard import make_tallyard

logger = logging.getLogger(__name__)

THREADS = 12
"""Of requests that wait for the database: fewer than its pool has connections."""


class UnforeseenErrors:
    """Answers 500 with an id, and logs the traceback under that id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's interface."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        # The boundary of a request: whatever rises here is a bug, and must not end the server.
        except Exception:
            if scope["type"] != "http" or started:
                raise
            error_id = uuid.uuid4().hex
            logger.exception("error %s at %s", error_id, scope.get("path"))
            body = {"error": {"class": "bug", "message": f"see the log for error {error_id}"}}
            await JSONResponse(body, status_code=500)(scope, receive, send)


def make_app(open_services: Callable[[], Services]) -> Starlette:
    """The application; its services open when the server starts and close when it stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        services = open_services()
        tallyard = make_tallyard(services, ring=services.bell.ring)
        app.state.context = Context(services=services, tallyard=tallyard)
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        tallyard.close()
        services.close()

    return Starlette(
        routes=[
            *logs.ROUTES, *projects.ROUTES, *rules.ROUTES, *functions.ROUTES, *invoke.ROUTES,
            *questions.ROUTES, *btql.ROUTES, *meta.ROUTES,
        ],
        middleware=[Middleware(UnforeseenErrors)],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 it is registered for these
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"error": {"class": "not_found", "message": message}}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
