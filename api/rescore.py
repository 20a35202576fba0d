"""Endpoints of re-score jobs: `/v1/rescore`."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200
from api.endpoint import Handler, endpoint
from api.request import (
    Context,
    body_project,
    in_thread,
    json_body,
    path_uuid,
    query_int,
    query_project,
)
from flows.access.principal import Principal
from flows.rescore.plan import plan_json
from flows.rescore.rescores import Rescores, status_json
from rules.rescore.model import Action
from rules.rescore.report import report_json
from rules.rescore.wire import ChangeBody, read_rescore
from spans.errors import BadInput
from spans.ids import parse_uuid
from spans.validation import read_model

KEY_MAX = 255
"""Characters of an Idempotency-Key. A UUID has 36."""

JOBS_MAX = 100
"""Jobs of one page of the list: each is counted anew."""


async def make(request: Request, context: Context, principal: Principal) -> Response:
    """Makes a re-score job. With `dry_run` it only tells what the job would do and cost."""
    body = await json_body(request, context)
    project_id = body_project(body, "a job")
    checked = read_rescore(body)
    rescores = context.tallyard.rescores
    if checked.dry_run:
        plan = await in_thread(lambda: rescores.plan(principal, project_id, checked))
        return Json200(plan_json(plan))
    key = request.headers.get("idempotency-key") or None
    if key is not None and len(key) > KEY_MAX:
        raise BadInput(f"must have at most {KEY_MAX} characters", path="Idempotency-Key")
    job, is_new = await in_thread(
        lambda: rescores.make(principal, project_id, checked, idempotency_key=key)
    )
    status = await in_thread(lambda: rescores.get(principal, job.id))
    headers = {} if is_new else {"x-bt-found-existing": "true"}
    return Json200(status_json(status), headers=headers)


async def list_jobs(request: Request, context: Context, principal: Principal) -> Response:
    """Lists a project's re-score jobs, newest first."""
    project_id = query_project(request)
    if project_id is None:
        raise BadInput("missing: send the id of a project", path="project_id")
    limit = query_int(request, "limit", 20, least=1, most=JOBS_MAX)
    before = _before(request)
    rescores = context.tallyard.rescores
    found = await in_thread(
        lambda: rescores.list(principal, project_id, limit=limit, before=before)
    )
    return Json200({"objects": [status_json(each) for each in found]})


async def get(request: Request, context: Context, principal: Principal) -> Response:
    """Gets a re-score job and how far it is."""
    job_id, rescores = _job_id(request), context.tallyard.rescores
    return Json200(status_json(await in_thread(lambda: rescores.get(principal, job_id))))


async def change(request: Request, context: Context, principal: Principal) -> Response:
    """Changes the rate of a re-score job."""
    job_id, rescores = _job_id(request), context.tallyard.rescores
    await in_thread(lambda: rescores.get(principal, job_id))
    rate = read_model(ChangeBody, await json_body(request, context)).max_per_second
    changed = await in_thread(lambda: rescores.set_rate(principal, job_id, rate))
    return Json200(status_json(changed))


async def report(request: Request, context: Context, principal: Principal) -> Response:
    """Says what a re-score job has changed."""
    job_id, rescores = _job_id(request), context.tallyard.rescores
    return Json200(report_json(await in_thread(lambda: rescores.report(principal, job_id))))


def _action(action: Action) -> Handler:
    async def act(request: Request, context: Context, principal: Principal) -> Response:
        job_id, rescores = _job_id(request), context.tallyard.rescores
        done = await in_thread(lambda: rescores.act(principal, job_id, action))
        return Json200(status_json(done))

    return act


def _job_id(request: Request) -> UUID:
    return path_uuid(request, "job_id", "re-score job")


def _before(request: Request) -> UUID | None:
    """The job that the page of a list ends before. Raises BadInput if it is no id."""
    text = request.query_params.get("starting_after")
    if not text:
        return None
    if (found := parse_uuid(text)) is None:
        raise BadInput("must be the id of a re-score job", path="starting_after")
    return found


ALL = "/v1/rescore"
ONE = f"{ALL}/{{job_id}}"
ROUTES = [
    Route(ALL, endpoint(make, Rescores.make), methods=["POST"]),
    Route(ALL, endpoint(list_jobs, Rescores.list), methods=["GET"]),
    Route(ONE, endpoint(get, Rescores.get), methods=["GET"]),
    Route(ONE, endpoint(change, Rescores.set_rate), methods=["PATCH"]),
    Route(f"{ONE}/report", endpoint(report, Rescores.report), methods=["GET"]),
    *(
        Route(f"{ONE}/{action}", endpoint(_action(action), Rescores.act), methods=["POST"])
        for action in Action
    ),
]
