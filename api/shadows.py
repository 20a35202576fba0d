"""What a function's shadow says beside the version in force."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint, in_thread, path_uuid, query_int
from api.health import own_url
from flows.access.principal import KeyRole, Principal
from flows.functions.functions import get
from flows.functions.shadows import PAIRS_DEFAULT, PAIRS_MAX, compare_shadow, shown_shadow
from spans.ids import FunctionId


async def compared(request: Request, context: Context, principal: Principal) -> Response:
    """Both on the spans that they have scored; of a project's key on those of that project."""
    function_id = FunctionId(path_uuid(request, "function_id", "function"))
    last = query_int(request, "last", PAIRS_DEFAULT, least=1, most=PAIRS_MAX)
    services = context.services
    function = await in_thread(lambda: get(services.functions, principal, function_id))
    difference = await in_thread(
        lambda: compare_shadow(services.shadows, function, principal.project_id, last)
    )
    return Json200(shown_shadow(function, difference, own_url(request, context)))


ROUTES = [
    Route("/v1/function/{function_id}/shadow", endpoint(compared, KeyRole.READ),
          methods=["GET"]),
]
