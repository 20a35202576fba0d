"""Endpoints of logs: `/logs3`, `/btql`, and insert, fetch and feedback of a project's logs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, SkipValidation
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.body import parse_leniently, parse_to_refuse, read_body
from api.endpoint import endpoint
from api.request import Context, in_thread, is_number, json_body, path_uuid, query_int
from btql.query import read_query
from flows.access.principal import Principal
from flows.logs.fetch import FetchBody, FetchRequest
from flows.logs.logs import Logs, SentRows
from spans.errors import BadInput
from spans.ids import ProjectId
from spans.json import Json, JsonObject
from spans.validation import EMPTY_AS_NONE, read_model

TZ_OFFSET_MAX_MINUTES = 24 * 60
"""The most that a client's local time is away from UTC."""

CURSOR_HEADER = "x-bt-cursor"
"""Where the cursor of a jsonl answer stands, as clients look for it."""

WARNINGS_HEADER = "x-tallyard-warnings"
"""Where the warnings of a jsonl answer stand, as JSON: its lines are rows and nothing else."""

WARNINGS_MAX = 10
NAME_CHARS_MAX = 60
"""Fields that are named, and characters of each name: together they fit into a header, of which
clients read 16 kB. A character takes up to 12 bytes there."""

RETRIES_MAX = 2**31 - 1
"""The highest count of tries that is stored. Nobody tries so often."""

TRUE_OR_FALSE = "must be true or false"


Flag = Annotated[bool | None, Field(strict=True)]
NotSupported = Annotated[Literal[False] | None, EMPTY_AS_NONE]
Number = Annotated[float | None, Field(strict=True)]


class QueryBody(BaseModel):
    """A query, and how it is to be answered.

    Clients send hints to the service that they were written for, which change nothing here.
    What would change the answer and is not supported is refused.
    """

    model_config = ConfigDict(extra="allow")
    query: SkipValidation[Json] = None   # btql checks it, and its depth
    fmt: Annotated[Literal["json", "jsonl"] | None, EMPTY_AS_NONE] = Field(
        None, description="must be json or jsonl"
    )
    tz_offset: int | None = Field(
        None, strict=True, ge=-TZ_OFFSET_MAX_MINUTES, le=TZ_OFFSET_MAX_MINUTES,
        description="must be a number of minutes, at most a day: how far local time is behind",
    )
    version: Annotated[None, EMPTY_AS_NONE] = Field(
        None, description="must be absent: project logs keep only the latest version of a row"
    )
    audit_log: NotSupported = Field(
        None, description="must be false or absent: the audit log cannot be queried"
    )
    overflow_results: NotSupported = Field(
        None, description="must be false or absent: results come in pages, follow the cursor"
    )
    disable_limit: NotSupported = Field(
        None, description="must be false or absent: results come in pages, follow the cursor"
    )
    lint_mode: Annotated[Literal["default"] | None, EMPTY_AS_NONE] = Field(
        None, description="must be default or absent: queries are not linted"
    )
    strict_lint_mode: NotSupported = Field(
        None, description="must be false or absent: queries are not linted"
    )
    # Hints.
    api_version: Number = Field(None, description="must be a number")
    inference_depth: Number = Field(None, description="must be a number")
    expected_cost: Number = Field(None, description="must be a number")
    force_push_limit: Flag = Field(None, description=TRUE_OR_FALSE)
    relaxed_search_mode: Flag = Field(None, description=TRUE_OR_FALSE)
    use_columnstore: Flag = Field(None, description=TRUE_OR_FALSE)
    brainstore_realtime: Flag = Field(None, description=TRUE_OR_FALSE)
    query_source: str | None = Field(None, description="must be a string")


async def logs3(request: Request, context: Context, principal: Principal) -> Response:
    """Stores the rows that an SDK logs. Each row names its project.

    A value that cannot be stored is mended, with a warning on its row. A row that cannot be
    read is rejected and the others are stored: after an error the SDK would drop them all.
    """
    body = await _body(request, context)
    parsed, is_tolerant = parse_leniently(body, "rows")
    sent = _sent(request, body, parsed, "rows", is_exact=is_tolerant)
    done = await context.tallyard.logs.ingest(principal, sent)
    reply: JsonObject = {"ids": list(done.row_ids), "xact_id": str(done.xact)}
    if done.rejected:
        reply["rejected"] = [
            {"id": row.row_id, "reason": row.reason} for row in done.rejected
        ]
    return Json200(reply)


async def insert(request: Request, context: Context, principal: Principal) -> Response:
    """Stores events of one project, all or none."""
    project_id = await reachable_project(request, context, principal)
    body = await _body(request, context)
    parsed, error = parse_to_refuse(body)
    sent = _sent(request, body, parsed, "events", error=error)
    row_ids = await context.tallyard.logs.insert(principal, project_id, sent)
    return Json200({"row_ids": list(row_ids)})


async def feedback(request: Request, context: Context, principal: Principal) -> Response:
    """Stores people's feedback on rows of one project, all or none."""
    project_id = await reachable_project(request, context, principal)
    body = await _body(request, context)
    parsed, error = parse_to_refuse(body)
    sent = _sent(request, body, parsed, "feedback", error=error)
    await context.tallyard.logs.feedback(principal, project_id, sent)
    return Json200({"status": "success"})


async def fetch_rows(request: Request, context: Context, principal: Principal) -> Response:
    """One page of a project's rows, newest first."""
    project_id = await reachable_project(request, context, principal)
    logs = context.tallyard.logs
    given: JsonObject
    if request.method == "POST":
        given = await json_body(request, context)
    else:
        most = logs.limits.fetch_limit_max
        given = dict(request.query_params.items())
        given["limit"] = query_int(request, "limit", most, least=0, most=most)
    fetch_request = FetchRequest.read(given)
    page = await in_thread(lambda: logs.fetch(principal, project_id, fetch_request))
    answer: JsonObject = {"events": [*page.rows], "cursor": page.cursor}
    if warnings := _warnings(given.keys() - FetchBody.model_fields.keys()):
        answer["warnings"] = warnings
    return Json200(answer)


async def query_rows(request: Request, context: Context, principal: Principal) -> Response:
    """One page of the rows that a query selects."""
    body = read_model(QueryBody, await json_body(request, context))
    query, minutes = read_query(body.query), body.tz_offset or 0
    warnings = _warnings(body.model_extra or ())
    logs = context.tallyard.logs
    page = await in_thread(
        lambda: logs.query(principal, query, tz_offset_minutes=minutes)
    )
    if body.fmt == "jsonl":
        lines = b"".join(orjson.dumps(row) + b"\n" for row in page.rows)
        headers = {CURSOR_HEADER: page.cursor} if page.cursor else {}
        if warnings:
            headers[WARNINGS_HEADER] = json.dumps(warnings)   # in ASCII, as headers are
        return Response(lines, media_type="application/x-ndjson", headers=headers)
    return Json200({
        "data": page.rows, "schema": page.schema, "cursor": page.cursor, "warnings": warnings,
    })


async def reachable_project(
    request: Request, context: Context, principal: Principal
) -> ProjectId:
    """The project in the URL's path. Raises NotFound unless the key reaches it.

    Endpoints call this before they read the body: a key that does not reach the project costs
    no more than a look-up, and learns nothing from the errors of the body.
    """
    project_id = ProjectId(path_uuid(request, "project_id", "project"))
    await context.tallyard.logs.require(principal, project_id)
    return project_id


def _warnings(unknown: Iterable[str]) -> list[Json]:
    """A sentence for each field of a request that nobody knows, in the form of the API."""
    return [
        {
            "code": "unknown_field", "stage": "request",
            "message": f"{name[:NAME_CHARS_MAX]}: no such field, so it changes nothing",
        }
        for name in sorted(unknown)[:WARNINGS_MAX]
    ]


async def _body(request: Request, context: Context) -> bytes:
    settings = context.settings
    return await read_body(
        request, sent_max=settings.body_bytes_max, inflated_max=settings.inflated_bytes_max
    )


def _sent(
    request: Request, body: bytes, parsed: JsonObject, name: str, *,
    is_exact: bool = False, error: BadInput | None = None,
) -> SentRows:
    """The rows in the field `name` of the body. Raises BadInput if it is not a list."""
    rows = parsed.get(name)
    if not isinstance(rows, list):
        raise BadInput("must be a list", path=name)
    retries = request.headers.get("x-stainless-retry-count", "")
    return SentRows(
        rows=rows, body=body, sent_to=request.scope["path"],
        is_exact=is_exact or error is not None, error=error,
        idempotency_key=request.headers.get("idempotency-key") or None,
        retries=min(int(retries), RETRIES_MAX) if is_number(retries) else None,
    )


LOGS = "/v1/project_logs/{project_id}"
ROUTES = [
    Route("/logs3", endpoint(logs3, Logs.ingest), methods=["POST"]),
    Route(f"{LOGS}/insert", endpoint(insert, Logs.insert), methods=["POST"]),
    Route(f"{LOGS}/feedback", endpoint(feedback, Logs.feedback), methods=["POST"]),
    Route(f"{LOGS}/fetch", endpoint(fetch_rows, Logs.fetch), methods=["GET", "POST"]),
    Route("/btql", endpoint(query_rows, Logs.query), methods=["POST"]),
]
