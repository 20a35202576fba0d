"""Endpoints of login, version, health and metrics."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import endpoint_for_any_key
from api.metrics import metrics_text
from api.request import Context, in_thread
from flows.access.principal import Principal

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def own_url(request: Request, context: Context) -> str:
    """The API's base URL: as the operator set it, or else as this client reached it."""
    configured = context.settings.public_url
    return (configured or str(request.base_url)).rstrip("/")


async def login(request: Request, context: Context, principal: Principal) -> Response:
    """The key's organisation and the URL of its API, as SDKs expect them."""
    url = own_url(request, context)
    return Json200({
        "org_info": [
            {
                "id": str(principal.org_id), "name": principal.org_name, "api_url": url,
                "proxy_url": url, "realtime_url": None, "is_universal_api": True,
                "git_metadata": None,
            }
        ]
    })


async def show_version(request: Request, context: Context, principal: Principal) -> Response:
    """Tallyard's version.

    The answer has no `logs3_payload_max_bytes`, so clients use their own limit for batches,
    which is below ours.
    """
    return Json200({"version": version("tallyard")})


async def ping(request: Request, context: Context, principal: Principal) -> Response:
    """The key's id and organisation. Clients only check that an object comes."""
    return Json200({"id": principal.key_id, "organization": principal.org_name})


async def hello(request: Request) -> Response:
    """A greeting, with which clients check that the API is there. It takes no key."""
    return PlainTextResponse("Hello, World!")


async def live(request: Request) -> Response:
    """Says that this process answers. Does not ask PostgreSQL or Redis."""
    return Json200({"status": "live"})


async def ready(request: Request) -> Response:
    """Says whether PostgreSQL and Redis answer, and whether the workers' sandboxes work.

    Without PostgreSQL nothing works, so the status is 503. Without Redis scores come some
    seconds later (`degraded`). A worker whose sandbox does not work runs no users' code.
    """
    context: Context = request.app.state.context
    found = await in_thread(context.tallyard.health.readiness)
    if found.postgres_problem is not None:
        return Json200(
            {"status": "unavailable", "postgres": found.postgres_problem}, status_code=503,
            headers={"retry-after": "1"},
        )
    return Json200({
        "status": "ready" if found.has_redis else "degraded",
        "postgres": "ok",
        "redis": "ok" if found.has_redis else "unreachable",
        "sandbox": [asdict(worker) for worker in found.sandbox_workers],
    })


async def metrics(request: Request) -> Response:
    """All metrics, in Prometheus' text format."""
    context: Context = request.app.state.context
    measured = await in_thread(context.tallyard.health.measure)
    return Response(metrics_text(measured), media_type=METRICS_TYPE)


ROUTES = [
    Route("/api/apikey/login", endpoint_for_any_key(login), methods=["GET", "POST"]),
    Route("/version", endpoint_for_any_key(show_version)),
    Route("/ping", endpoint_for_any_key(ping)),
    Route("/v1", hello),
    Route("/health/live", live),
    Route("/health/ready", ready),
    Route("/metrics", metrics),
]
