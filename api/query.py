"""POST /btql: queries over projects' logs, as text or as a JSON tree."""

from __future__ import annotations

from typing import Literal

import orjson
from pydantic import BaseModel, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint, in_thread, json_body
from btql.query import read_query
from flows.access.principal import Principal
from flows.logs.logs import Logs
from spans.validation import read_model

TZ_OFFSET_MAX_MINUTES = 24 * 60
CURSOR_HEADER = "x-bt-cursor"


class QueryBody(BaseModel):
    """A query, the format of its answer, and how far its local times are ahead of UTC."""

    query: JsonValue = None
    fmt: Literal["json", "jsonl", ""] | None = Field(
        None, description="must be json or jsonl"
    )
    tz_offset: int | None = Field(
        None, strict=True, ge=-TZ_OFFSET_MAX_MINUTES, le=TZ_OFFSET_MAX_MINUTES,
        description="must be a number of minutes, at most a day",
    )


async def query_rows(request: Request, context: Context, principal: Principal) -> Response:
    """One page of the rows that a query selects."""
    body = read_model(QueryBody, await json_body(request, context))
    query, minutes = read_query(body.query), body.tz_offset or 0
    logs = context.tallyard.logs
    page = await in_thread(
        lambda: logs.query(principal, query, tz_offset_minutes=minutes)
    )
    if body.fmt == "jsonl":
        lines = b"".join(orjson.dumps(row) + b"\n" for row in page.rows)
        headers = {CURSOR_HEADER: page.cursor} if page.cursor else {}
        return Response(lines, media_type="application/x-ndjson", headers=headers)
    return Json200({"data": page.rows, "schema": page.schema, "cursor": page.cursor})


ROUTES = [Route("/btql", endpoint(query_rows, Logs.query), methods=["POST"])]
