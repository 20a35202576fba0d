"""Functions that are run while their caller waits: invoke, tests on stored rows, differences.

Nothing is run here: a worker does it, and this process waits (`flows.invocations.client`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint, json_body, path_uuid
from api.health import own_url
from flows.access.principal import Principal
from flows.functions.comparison import (
    DIFF_ROWS_MAX,
    TEST_ROWS_MAX,
    difference_json,
    test_json,
)
from flows.functions.invocations import FunctionInvocations, read_record, result_of
from flows.functions.lookup import FunctionById, read_choice
from flows.logs.row_selection import LAST_DEFAULT, RowSelection
from scorers.functions.function import Version, read_project_id
from spans.errors import NotFound
from spans.ids import FunctionId
from spans.json import Json, JsonObject
from spans.outcome import Errored, Failure, Verdict
from spans.scoring import Role
from spans.validation import read_model

EVENT_STREAM = "text/event-stream"
NOT_STORED = ("prompt_session_id", "prompt_session_function_id")


def _ids(most: int) -> Any:  # noqa: ANN401 as pydantic types its Field
    return Field(
        None, min_length=1, max_length=most, description=f"1 to {most} ids of spans"
    )


def _last(most: int) -> Any:  # noqa: ANN401 as pydantic types its Field
    return Field(
        LAST_DEFAULT, strict=True, ge=1, le=most, description=f"a number from 1 to {most}"
    )


class TestBody(BaseModel):
    """On which rows a function is tried; which function, `read_choice` says."""

    project_id: str | None = Field(None, description="a function names its project")
    ids: list[str] | None = _ids(TEST_ROWS_MAX)
    last: int = _last(TEST_ROWS_MAX)
    filter: str | None = Field(None, description="a filter, as text")

    def selection(self) -> RowSelection:
        """The rows: named ones, or the latest that pass the filter."""
        if self.ids is not None:
            return RowSelection(ids=tuple(dict.fromkeys(self.ids)))
        given = self.filter
        return RowSelection(last=self.last, filter=given if given and given.strip() else None)


class DiffBody(TestBody):
    """On which rows two versions of a function are compared, and which versions; `to` is the
    one in force where none is given."""

    ids: list[str] | None = _ids(DIFF_ROWS_MAX)
    last: int = _last(DIFF_ROWS_MAX)
    before: Version = Field(
        alias="from", description="the version to compare with, an `_xact_id`"
    )
    after: Version | None = Field(
        None, alias="to", description="the `_xact_id` of a version"
    )


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
    verdict = await context.tallyard.invocations.invoke(principal, read_choice(body), record)
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
    asked = read_model(TestBody, body)
    project_id = read_project_id(asked.project_id)
    run = await context.tallyard.invocations.test(
        principal, project_id, read_choice(body), asked.selection()
    )
    return Json200(test_json(run.rows, run.verdicts))


async def diff(request: Request, context: Context, principal: Principal) -> Response:
    """Run two versions of a function on the same stored rows; nothing is saved."""
    function_id = FunctionId(path_uuid(request, "function_id", "function"))
    body = read_model(DiffBody, await json_body(request, context))
    compared = await context.tallyard.invocations.diff(
        principal, FunctionById(id=function_id, version=body.after), body.selection(),
        before=body.before,
        project_id=read_project_id(body.project_id) if body.project_id else None,
    )
    return Json200({
        "role": Role.PREVIEW.value, "from": str(compared.before), "to": str(compared.after),
        **difference_json(compared.difference, own_url(request, context)),
    })


ROUTES = [
    Route("/function/invoke", endpoint(invoke, FunctionInvocations.invoke), methods=["POST"]),
    Route("/v1/function/{function_id}/invoke",
          endpoint(invoke_one, FunctionInvocations.invoke), methods=["POST"]),
    Route("/v1/function/test", endpoint(test, FunctionInvocations.test), methods=["POST"]),
    Route("/v1/function/{function_id}/diff", endpoint(diff, FunctionInvocations.diff),
          methods=["POST"]),
]
