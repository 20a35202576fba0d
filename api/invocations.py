"""Endpoints that run functions while the client waits: invoke, tests and differences.

A worker runs the function; this process waits for its answer (see flows.invocations.client).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import endpoint
from api.functions import reachable_function
from api.health import own_url
from api.request import Context, json_body
from flows.access.principal import Principal
from flows.functions.comparison import (
    DIFF_ROWS_MAX,
    TEST_ROWS_MAX,
    difference_json,
    test_json,
)
from flows.functions.invocations import FunctionInvocations, read_record, result_of
from flows.functions.lookup import read_choice
from flows.logs.row_selection import LAST_DEFAULT, RowSelection
from scorers.functions.function import Version, read_project_id
from spans.errors import NotFound
from spans.json import Json, JsonObject
from spans.outcome import Errored, Failure, Verdict
from spans.scoring import Role
from spans.validation import EMPTY_AS_NONE, read_model

EVENT_STREAM = "text/event-stream"
NOT_STORED = ("prompt_session_id", "prompt_session_function_id")
"""Fields that name a function of a prompt session, which Tallyard does not have."""


def _ids(most: int) -> Any:  # noqa: ANN401 as pydantic types its Field
    return Field(
        None, min_length=1, max_length=most,
        description=f"must be a list of 1 to {most} ids of spans",
    )


def _last(most: int) -> Any:  # noqa: ANN401 as pydantic types its Field
    return Field(
        LAST_DEFAULT, strict=True, ge=1, le=most,
        description=f"must be a number from 1 to {most}",
    )


class TestBody(BaseModel):
    """The rows to test a function on. The same body names the function (see `read_choice`)."""

    project_id: str | None = Field(None, description="must be the id of a project")
    ids: list[str] | None = _ids(TEST_ROWS_MAX)
    last: int = _last(TEST_ROWS_MAX)
    filter: str | None = Field(None, description="must be a filter, a string")

    def selection(self) -> RowSelection:
        """The selected rows: those with the ids, or else the latest that pass the filter."""
        if self.ids is not None:
            return RowSelection(ids=tuple(dict.fromkeys(self.ids)))
        given = self.filter
        return RowSelection(last=self.last, filter=given if given and given.strip() else None)


class DiffBody(TestBody):
    """The rows to compare two versions of a function on, and the versions.

    `to` is the version in force if it is not sent.
    """

    ids: list[str] | None = _ids(DIFF_ROWS_MAX)
    last: int = _last(DIFF_ROWS_MAX)
    before: Version = Field(
        alias="from", description="must be the `_xact_id` of the version to compare with"
    )
    after: Annotated[Version | None, EMPTY_AS_NONE] = Field(
        None, alias="to", description="must be the `_xact_id` of a version"
    )


async def invoke(request: Request, context: Context, principal: Principal) -> Response:
    """Runs a function once, on the arguments that are sent, and returns its result."""
    return await _invoke(request, await json_body(request, context), context, principal)


async def invoke_by_id(request: Request, context: Context, principal: Principal) -> Response:
    """Runs the function that the URL's path names, as `invoke`."""
    which = await reachable_function(request, context, principal)
    body = await json_body(request, context)
    return await _invoke(request, {**body, "function_id": str(which.id)}, context, principal)


async def _invoke(
    request: Request, body: JsonObject, context: Context, principal: Principal
) -> Response:
    """Runs the function.

    Clients may send `messages`, `mode`, `strict`, `parent`, `overrides` and `api_version`. They
    are ignored, since they concern functions that are not scorers.
    """
    if any(body.get(name) is not None for name in NOT_STORED):
        raise NotFound("no such function: prompt sessions are not supported")
    record = read_record(body)
    verdict = await context.tallyard.invocations.invoke(principal, read_choice(body), record)
    wants_stream = body.get("stream") is True
    if wants_stream or EVENT_STREAM in request.headers.get("accept", ""):
        return Response(b"".join(_events(verdict)), media_type=EVENT_STREAM)
    if isinstance(verdict, Errored):
        return Json200(_error(verdict.failure), status_code=500)
    return Json200(result_of(verdict))


def _events(verdict: Verdict) -> Iterator[bytes]:
    """The result as a stream of events for SDKs: the log, the result or the error, the end."""
    if verdict.log:
        yield _event("console", {"message": verdict.log, "stream": "stdout"})
    if isinstance(verdict, Errored):
        failure = verdict.failure
        yield _event("error", f"{failure.error_class}: {failure.message}")
    else:
        yield _event("json_delta", result_of(verdict))
    yield b"event: done\ndata:\n\n"


def _event(name: str, data: Json) -> bytes:
    """One server-sent event. JSON as orjson writes it has no line breaks, so it is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


def _error(failure: Failure) -> JsonObject:
    return {"error": {"class": failure.error_class, "message": failure.message}}


async def test(request: Request, context: Context, principal: Principal) -> Response:
    """Runs a function on stored rows. The scores are returned and not stored."""
    body = await json_body(request, context)
    test_body = read_model(TestBody, body)
    project_id = read_project_id(test_body.project_id)
    run = await context.tallyard.invocations.test(
        principal, project_id, read_choice(body), test_body.selection()
    )
    return Json200(test_json(run.rows, run.verdicts))


async def diff(request: Request, context: Context, principal: Principal) -> Response:
    """Runs two versions of a function on the same stored rows, and compares their scores.

    The scores are not stored.
    """
    which = await reachable_function(request, context, principal)
    body = read_model(DiffBody, await json_body(request, context))
    compared = await context.tallyard.invocations.diff(
        principal, replace(which, version=body.after), body.selection(),
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
          endpoint(invoke_by_id, FunctionInvocations.invoke), methods=["POST"]),
    Route("/v1/function/test", endpoint(test, FunctionInvocations.test), methods=["POST"]),
    Route("/v1/function/{function_id}/diff", endpoint(diff, FunctionInvocations.diff),
          methods=["POST"]),
]
