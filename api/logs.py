"""Logging: `/logs3`, and insert, fetch and feedback of `/v1/project_logs`."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.body import TooLarge, parse_leniently, parse_object, read_body
from api.endpoint import Context, Json200, endpoint, in_thread, json_body, path_uuid, query_int
from flows.access.principal import KeyRole, Principal
from flows.access.projects import get
from flows.logs.feedback import read_feedback
from flows.logs.fetch import FetchRequest
from flows.logs.ingest import IngestRequest, RejectedRow
from spans.errors import BadInput, NotFound, UserError
from spans.event import BodyText, Limits, read_event
from spans.ids import ObjectId, ProjectId
from spans.json import Json, JsonObject
from spans.row import ObjectRef, ObjectType, RowWrite

EXCERPT_CHARS = 500
"""Of a rejected row: enough for its sender to know it again."""

OTHER_OBJECTS = ("experiment_id", "dataset_id", "prompt_session_id")
PROJECT_CACHE_S = 3.0
PROJECTS_CACHED = 10_000


async def logs3(request: Request, context: Context, principal: Principal) -> Response:
    """Rows of any object, each stored or rejected on its own: what an SDK logs with, which
    would drop the whole batch after an error."""
    body = await _body(request, context)
    rows = _list(parse_leniently(body), "rows", context)
    text, limits = BodyText(body), _limits(context)
    writes: list[RowWrite] = []
    rejected: list[RejectedRow] = []
    for row in rows:
        where: ObjectRef | None = None
        try:
            where = await _object_of(row, context, principal)
            _check_size(row, len(body), context)
            writes.append(read_event(row, where, limits, new_id=new_id, body=text))
        except UserError as error:
            rejected.append(_rejection(row, where, error))
    answer = await context.writer.write(
        _request(principal, request, body, writes, rejected)
    )
    reply: JsonObject = {"ids": list(answer.row_ids), "xact_id": str(answer.xact)}
    if rejected:
        reply["rejected"] = [{"id": one.row_id, "reason": one.reason} for one in rejected]
    return Json200(reply)


async def insert(request: Request, context: Context, principal: Principal) -> Response:
    """Events of one project, all stored or none."""
    where = await _project_logs(request, context, principal)
    body = await _body(request, context)
    text, limits = BodyText(body), _limits(context)
    writes: list[RowWrite] = []
    for index, event in enumerate(_list(parse_object(body), "events", context)):
        try:
            _check_size(event, len(body), context)
            writes.append(read_event(event, where, limits, new_id=new_id, body=text))
        except BadInput as error:
            raise error.within(f"events[{index}]") from error
    answer = await context.writer.write(_request(principal, request, body, writes))
    return Json200({"row_ids": list(answer.row_ids)})


async def feedback(request: Request, context: Context, principal: Principal) -> Response:
    """People's word on rows, all stored or none."""
    where = await _project_logs(request, context, principal)
    body = await _body(request, context)
    text, limits = BodyText(body), _limits(context)
    writes: list[RowWrite] = []
    for index, item in enumerate(_list(parse_object(body), "feedback", context)):
        try:
            writes += read_feedback(item, where, limits, text, new_id)
        except BadInput as error:
            raise error.within(f"feedback[{index}]") from error
    await context.writer.write(_request(principal, request, body, writes))
    return Json200({"status": "success"})


async def fetch_rows(request: Request, context: Context, principal: Principal) -> Response:
    """Rows of one project, newest first, a page at a time."""
    where = await _project_logs(request, context, principal)
    most = context.services.settings.fetch_limit_max
    if request.method == "POST":
        asked = FetchRequest.read(await json_body(request, context), limit_max=most)
    else:
        given: JsonObject = dict(request.query_params.items())
        given["limit"] = query_int(request, "limit", most, least=0, most=most)
        asked = FetchRequest.read(given, limit_max=most)
    reader, org_id = context.services.reader, principal.org_id
    page = await in_thread(lambda: reader.page(where, org_id, asked))
    return Json200({"events": page.rows, "cursor": page.cursor})


def new_id() -> str:
    """An id for a row that came without."""
    return str(uuid.uuid4())


async def _body(request: Request, context: Context) -> bytes:
    settings = context.services.settings
    return await read_body(
        request, sent_max=settings.body_bytes_max, inflated_max=settings.inflated_bytes_max
    )


def _limits(context: Context) -> Limits:
    settings = context.services.settings
    return Limits(depth_max=settings.depth_max, nodes_max=settings.nodes_max)


def _list(body: JsonObject, name: str, context: Context) -> list[Json]:
    rows = body.get(name)
    if not isinstance(rows, list):
        raise BadInput("a list", path=name)
    most = context.services.settings.rows_per_request_max
    if len(rows) > most:
        raise TooLarge(f"{len(rows)} {name}, more than {most}: send them in several requests")
    return rows


def _check_size(row: Json, body_bytes: int, context: Context) -> None:
    """Raises TooLarge for a span beyond the limit; a body within it holds no such span."""
    most = context.services.settings.span_bytes_max
    if body_bytes > most and (size := len(orjson.dumps(row))) > most:
        raise TooLarge(f"the span has {size} bytes, more than {most} (TALLYARD_SPAN_BYTES_MAX)")


async def _object_of(row: Json, context: Context, principal: Principal) -> ObjectRef:
    if not isinstance(row, dict):
        raise BadInput("a row is an object")
    if isinstance(project := row.get("project_id"), str):
        try:
            return await project_object(ProjectId(uuid.UUID(project)), context, principal)
        except ValueError as error:
            raise NotFound("no such project") from error
    for name in OTHER_OBJECTS:
        if name in row:
            raise BadInput("rows of this kind are not stored; log to a project", path=name)
    raise BadInput("a row names its project", path="project_id")


async def _project_logs(
    request: Request, context: Context, principal: Principal
) -> ObjectRef:
    project_id = ProjectId(path_uuid(request, "project_id", "project"))
    return await project_object(project_id, context, principal)


async def project_object(
    project_id: ProjectId, context: Context, principal: Principal
) -> ObjectRef:
    """The project's logs, if the key may reach them. Raises NotFound."""
    now = time.monotonic()
    seen = context.projects.get((principal.key_id, project_id))
    if seen is None or now - seen > PROJECT_CACHE_S:
        projects = context.services.projects
        await in_thread(lambda: get(projects, principal, project_id))
        if len(context.projects) >= PROJECTS_CACHED:
            context.projects.clear()
        context.projects[principal.key_id, project_id] = now
    return ObjectRef(project_id, ObjectType.PROJECT_LOGS, ObjectId(project_id))


def _request(
    principal: Principal,
    request: Request,
    body: bytes,
    writes: Sequence[RowWrite],
    rejected: Sequence[RejectedRow] = (),
) -> IngestRequest:
    digest = hashlib.blake2b(request.url.path.encode(), digest_size=32)
    digest.update(body)
    return IngestRequest(
        org_id=principal.org_id, key_id=principal.key_id, body_hash=digest.digest(),
        writes=tuple(writes), rejected=tuple(rejected),
    )


def _rejection(row: Json, where: ObjectRef | None, error: UserError) -> RejectedRow:
    row_id = row.get("id") if isinstance(row, dict) else None
    return RejectedRow(
        project_id=where.project_id if where else None,
        row_id=_head(row_id) if isinstance(row_id, str) else None,
        reason=str(error),
        excerpt=_head(orjson.dumps(row).decode()),
    )


def _head(text: str) -> str:
    return text.replace("\0", "\ufffd")[:EXCERPT_CHARS]


WRITERS = (KeyRole.INGEST,)
READERS = (KeyRole.READ,)
ROUTES = [
    Route("/logs3", endpoint(logs3, *WRITERS), methods=["POST"]),
    Route(
        "/v1/project_logs/{project_id}/insert", endpoint(insert, *WRITERS), methods=["POST"]
    ),
    Route(
        "/v1/project_logs/{project_id}/feedback", endpoint(feedback, *WRITERS),
        methods=["POST"],
    ),
    Route(
        "/v1/project_logs/{project_id}/fetch", endpoint(fetch_rows, *READERS),
        methods=["GET", "POST"],
    ),
]
