"""POST /btql: queries over a project's logs, as text or as a JSON tree."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.endpoint import Context, Json200, endpoint, in_thread, json_body
from btql.query import read_query
from flows.access.principal import Principal
from flows.logs.logs import Logs
from spans.errors import BadInput
from spans.json import Json

TZ_OFFSET_MAX_MINUTES = 24 * 60
CURSOR_HEADER = "x-bt-cursor"


async def query_rows(request: Request, context: Context, principal: Principal) -> Response:
    """One page of a query's rows."""
    body = await json_body(request, context)
    query = read_query(body.get("query"))
    fmt = body.get("fmt") or "json"
    if fmt not in {"json", "jsonl"}:
        raise BadInput("json or jsonl", path="fmt")
    tz_offset = _minutes(body.get("tz_offset"))
    logs = context.tallyard.logs
    page = await in_thread(
        lambda: logs.query(principal, query, tz_offset_minutes=tz_offset)
    )
    if fmt == "jsonl":
        lines = b"".join(orjson.dumps(row) + b"\n" for row in page.rows)
        headers = {CURSOR_HEADER: page.cursor} if page.cursor else {}
        return Response(lines, media_type="application/x-ndjson", headers=headers)
    return Json200({"data": page.rows, "schema": page.schema, "cursor": page.cursor})


def _minutes(value: Json) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput("a number of minutes", path="tz_offset")
    if abs(value) > TZ_OFFSET_MAX_MINUTES:
        raise BadInput("at most a day", path="tz_offset")
    return value


ROUTES = [Route("/btql", endpoint(query_rows, Logs.query), methods=["POST"])]
