"""Login, version, health: what a client or an operator asks first."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint_for_any_key, in_thread
from api.metrics import metrics_text
from flows.access.principal import Principal

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def own_url(request: Request, context: Context) -> str:
    """The URL under which this client reached us, unless the operator named one."""
    configured = context.settings.public_url
    return (configured or str(request.base_url)).rstrip("/")


async def login(request: Request, context: Context, principal: Principal) -> Response:
    """The key's organisation, and where its API is."""
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
    """Our version. It names no `logs3_payload_max_bytes`: clients then send whole batches,
    which the body's limit has room for."""
    return Json200({"version": version("tallyard")})


async def ping(request: Request, context: Context, principal: Principal) -> Response:
    """An object, which is all that clients look for."""
    return Json200({"id": principal.key_id, "organization": principal.org_name})


async def hello(request: Request, context: Context, principal: Principal) -> Response:
    """That the API is here."""
    return PlainTextResponse("Hello, World!")


async def live(request: Request) -> Response:
    """Whether this process answers at all."""
    return Json200({"status": "live"})


async def ready(request: Request) -> Response:
    """Whether what we depend on answers: PostgreSQL, without which nothing works (503), and
    Redis, without which scores come seconds later (`degraded`). `sandbox` tells of each
    worker that runs users' code whether it contains it; one that does not takes none."""
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
    """Prometheus' text format."""
    context: Context = request.app.state.context
    measured = await in_thread(context.tallyard.health.measure)
    return Response(metrics_text(measured), media_type=METRICS_TYPE)


ROUTES = [
    Route("/api/apikey/login", endpoint_for_any_key(login), methods=["GET", "POST"]),
    Route("/version", endpoint_for_any_key(show_version)),
    Route("/ping", endpoint_for_any_key(ping)),
    Route("/v1", endpoint_for_any_key(hello)),
    Route("/health/live", live),
    Route("/health/ready", ready),
    Route("/metrics", metrics),
]
