"""Functions that are run while their caller waits: invoke, tests on stored rows, differences.

Nothing is run here: a worker does it, and this process waits (`flows.invocations.client`).
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint, in_thread, json_body, path_uuid
from api.health import own_url
from flows.access.principal import KeyRole, Principal
from flows.functions.comparison import (
    DIFF_ROWS_MAX,
    TEST_ROWS_MAX,
    compare,
    shown_difference,
    shown_test,
)
from flows.functions.lookup import Functions, read_record, result_of
from flows.logs.row_selection import RowChoice, choose
from scorers.functions.function import read_project_id
from spans.errors import BadInput, NotFound
from spans.event import BodyText, EventLimits, check_values
from spans.ids import ProjectId
from spans.json import Json, JsonObject
from spans.outcome import Errored, Failure, Verdict
from spans.row import ObjectRef, RowKey
from spans.scoring import Role

EVENT_STREAM = "text/event-stream"
NOT_STORED = ("prompt_session_id", "prompt_session_function_id")


async def invoke(request: Request, context: Context, principal: Principal) -> Response:
    """Run a function once, on what is given, and answer with its result."""
    return await _invoke(request, await json_body(request, context), context, principal)


async def invoke_one(request: Request, context: Context, principal: Principal) -> Response:
    """The same, of the function in the path."""
    function_id = path_uuid(request, "function_id", "function")
    body = await json_body(request, context)
    return await _invoke(request, {**body, "function_id": str(function_id)}, context, principal)


async def _invoke(
    request: Request, body: JsonObject, context: Context, principal: Principal
) -> Response:
    """`messages`, `mode`, `strict`, `parent`, `overrides` and `api_version` are for functions
    that are no scorers: they may be sent, and change nothing."""
    if any(body.get(name) is not None for name in NOT_STORED):
        raise NotFound("no such function: there are no prompt sessions here")
    record = read_record(body)
    settings = context.services.settings
    limits = EventLimits(depth_max=settings.depth_max, nodes_max=settings.nodes_max)
    check_values(record, limits, BodyText(b""))
    function = await _functions(context, principal).meant(body)
    calls = context.services.calls
    (verdict,) = await calls.run(principal.org_id, function, records=[record])
    wants_stream = body.get("stream") is True
    if wants_stream or EVENT_STREAM in request.headers.get("accept", ""):
        return Response(b"".join(_events(verdict)), media_type=EVENT_STREAM)
    if isinstance(verdict, Errored):
        return Json200(_error(verdict.failure), status_code=500)
    return Json200(result_of(verdict))


def _events(verdict: Verdict) -> Iterator[bytes]:
    """The result as SDKs read a stream: what it printed, what it gave or why not, the end."""
    if verdict.log:
        yield _event("console", {"message": verdict.log, "stream": "stdout"})
    if isinstance(verdict, Errored):
        failure = verdict.failure
        yield _event("error", f"{failure.error_class}: {failure.message}")
    else:
        yield _event("json_delta", result_of(verdict))
    yield b"event: done\ndata:\n\n"


def _event(name: str, data: Json) -> bytes:
    """JSON has no line breaks outside its strings' escapes, so one data line holds it."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


def _error(failure: Failure) -> JsonObject:
    return {"error": {"class": failure.error_class, "message": failure.message}}


async def test(request: Request, context: Context, principal: Principal) -> Response:
    """Run a function on stored rows; nothing is saved."""
    body = await json_body(request, context)
    where = await _where(body.get("project_id"), context, principal)
    choice = RowChoice.read(body, most=TEST_ROWS_MAX)
    function = await _functions(context, principal).meant(body)
    rows = await _rows(context, principal, where, choice)
    verdicts = await context.services.calls.run(principal.org_id, function, rows=rows)
    return Json200(shown_test(rows, verdicts))


async def diff(request: Request, context: Context, principal: Principal) -> Response:
    """Run two versions of a function on the same stored rows; nothing is saved."""
    function_id = str(path_uuid(request, "function_id", "function"))
    body = await json_body(request, context)
    if body.get("from") is None:
        raise BadInput("the version to compare with, an `_xact_id`", path="from")
    functions = _functions(context, principal)
    before = await functions.meant({"function_id": function_id, "version": body["from"]})
    after = await functions.meant({"function_id": function_id, "version": body.get("to")})
    where = await _where(body.get("project_id") or str(after.project_id), context, principal)
    choice = RowChoice.read(body, most=DIFF_ROWS_MAX)
    rows = await _rows(context, principal, where, choice)
    calls = context.services.calls
    old = await calls.run(principal.org_id, before, rows=rows)
    new = await calls.run(principal.org_id, after, rows=rows)
    return Json200({
        "role": Role.PREVIEW.value, "from": str(before.version), "to": str(after.version),
        **shown_difference(compare(rows, old, new), own_url(request, context)),
    })


def _functions(context: Context, principal: Principal) -> Functions:
    services = context.services
    return Functions(
        principal=principal, projects=services.projects, store=services.functions,
        calls=services.calls,
    )


async def _where(value: Json, context: Context, principal: Principal) -> ObjectRef:
    project_id = ProjectId(read_project_id(value))
    projects = context.tallyard.projects
    return await in_thread(lambda: projects.logs_of(principal, project_id))


async def _rows(
    context: Context, principal: Principal, where: ObjectRef, choice: RowChoice
) -> list[RowKey]:
    reader = context.services.reader
    return await in_thread(lambda: choose(reader, principal.org_id, where, choice))


INGEST = KeyRole.INGEST
ROUTES = [
    Route("/function/invoke", endpoint(invoke, INGEST), methods=["POST"]),
    Route("/v1/function/{function_id}/invoke", endpoint(invoke_one, INGEST), methods=["POST"]),
    Route("/v1/function/test", endpoint(test), methods=["POST"]),
    Route("/v1/function/{function_id}/diff", endpoint(diff), methods=["POST"]),
]
