"""Endpoints of functions and prompts: `/v1/function`, `/v1/prompt`, and those of SDKs' push.

A sandbox worker checks code before it is stored. This process handles it only as text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answer import Json200, error_response
from api.body import parse_object, read_body, read_sent
from api.endpoint import endpoint
from api.health import own_url
from api.request import (
    Context,
    in_thread,
    json_body,
    list_page,
    path_uuid,
    query_int,
    query_project,
)
from flows.access.principal import Principal
from flows.functions.functions import Functions
from flows.functions.lookup import FunctionById
from flows.functions.shadows import PAIRS_DEFAULT, PAIRS_MAX, shadow_json
from flows.functions.uploads import BundleUpload, BundleUploads, read_encoding
from scorers.functions.body import read_function
from scorers.functions.function import (
    FUNCTIONS_MAX,
    Definition,
    Function,
    FunctionFilter,
    IfExists,
    Rate,
    Shadow,
    Version,
    function_json,
    prompt_json,
    read_definition,
    read_project_id,
    read_rollout,
    read_version,
)
from scorers.sandbox.model import Runtime
from spans.errors import BadInput, InvalidSource, TallyardError
from spans.ids import FunctionId, Xact
from spans.json import JsonObject
from spans.validation import read_model

UPLOAD_TIMEOUT_S = 300.0
"""How long a client may take to upload a bundle: 64 MiB at 2 Mbit/s."""

RUNTIME_VERSION_CHARS_MAX = 64
"""Characters of a runtime's version, such as "3.11"."""


class PromoteBody(BaseModel):
    """The version to put in force."""

    version: Version = Field(description="must be the `_xact_id` of a version")


class ShadowBody(PromoteBody):
    """The version to run as a shadow, and the share of traces to run it on."""

    rate: Rate = Field(description="must be a share of the traces, a number from 0 to 1")


class RuntimeContext(BaseModel):
    """The runtime, and its version, that a bundle was built for."""

    runtime: Runtime
    version: str = Field(min_length=1, max_length=RUNTIME_VERSION_CHARS_MAX)


class UploadBody(BaseModel):
    """The organisation and the runtime of a bundle that is to be uploaded."""

    org_id: str | None = None
    runtime_context: RuntimeContext = Field(
        description=f"must be an object with runtime ({' or '.join(Runtime)}) and version, "
        'such as "3.11"'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The form of functions in requests and answers: as functions, or as prompts only."""

    is_prompt: bool
    show: Callable[[Function], JsonObject]

    def read(self, body: JsonObject) -> JsonObject:
        """A request's body as that of a function. For a prompt, adds what it leaves out."""
        if not self.is_prompt:
            return body
        if body.get("function_type") is not None:
            raise BadInput(
                "not allowed for a prompt: use /v1/function", path="function_type"
            )
        return {**body, "function_data": {"type": "prompt"}}


FUNCTION = Form(is_prompt=False, show=function_json)
PROMPT = Form(is_prompt=True, show=prompt_json)


async def create(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Creates a function. If its slug exists, returns the existing function unchanged."""
    return await _make(form, IfExists.IGNORE, request, context, principal)


async def replace(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Creates a function. If its slug exists, replaces the existing function."""
    return await _make(form, IfExists.REPLACE, request, context, principal)


async def _make(
    form: Form, if_exists: IfExists, request: Request, context: Context, principal: Principal
) -> Response:
    body = form.read(await _body(request, context))
    definition = Definition(
        project_id=read_project_id(body.get("project_id")), body=read_function(body),
        if_exists=if_exists, shadow_rate=read_rollout(body),
    )
    written = await context.tallyard.functions.push(principal, definition)
    return Json200(
        form.show(written.function),
        headers={"x-bt-found-existing": "true"} if written.existed else {},
    )


async def insert(request: Request, context: Context, principal: Principal) -> Response:
    """Creates or replaces several functions, all or none."""
    items = (await _body(request, context)).get("functions")
    if not isinstance(items, list) or len(items) > FUNCTIONS_MAX:
        raise BadInput(f"must be a list of at most {FUNCTIONS_MAX}", path="functions")
    definitions: list[Definition] = []
    for index, item in enumerate(items):
        try:
            definitions.append(read_definition(item))
        except (BadInput, InvalidSource) as error:
            raise error.within(f"functions[{index}]") from error
    written = await context.tallyard.functions.push_all(principal, definitions)
    return Json200({
        "functions": [
            {
                "id": str(item.function.id), "project_id": str(item.function.project_id),
                "slug": item.function.body.slug, "_xact_id": str(item.function.version),
                "found_existing": item.existed,
            }
            for item in written
        ]
    })


async def list_functions(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Lists the functions that the key reaches, newest first."""
    page = list_page(request, "prompt_name" if form.is_prompt else "function_name")
    query = request.query_params
    wanted = FunctionFilter(
        project_id=query_project(request), slug=query.get("slug"),
        version=_query_version(request),
    )
    if query.get("org_name") not in {None, "", principal.org_name}:
        return Json200({"objects": []})
    functions = context.tallyard.functions
    find = functions.list_prompts if form.is_prompt else functions.list
    found = await in_thread(
        partial(find, principal, page, wanted, project_name=query.get("project_name"))
    )
    return Json200({"objects": [form.show(function) for function in found]})


async def get_function(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Gets one function, at the version that the query string names or the one in force."""
    which = FunctionById(id=_function_id(request), version=_query_version(request))
    functions = context.tallyard.functions
    find = functions.get_prompt if form.is_prompt else functions.get
    return Json200(form.show(await in_thread(partial(find, principal, which))))


async def versions(request: Request, context: Context, principal: Principal) -> Response:
    """Lists every version of a function, newest first."""
    which = FunctionById(id=_function_id(request))
    functions = context.tallyard.functions
    found = await in_thread(lambda: functions.versions(principal, which))
    return Json200({"objects": [function_json(version) for version in found]})


async def change(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Changes the fields of a function that are sent, which makes a new version."""
    which = await reachable_function(request, context, principal, is_prompt=form.is_prompt)
    changes = await _body(request, context)
    changes = form.read(changes)
    changed = await context.tallyard.functions.change(
        principal, which, changes, is_prompt=form.is_prompt
    )
    return Json200(form.show(changed))


async def delete(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Hides a function. Its versions stay stored, since outcomes name them."""
    which = FunctionById(id=_function_id(request))
    functions = context.tallyard.functions
    gone = await in_thread(
        lambda: functions.delete(principal, which, is_prompt=form.is_prompt)
    )
    return Json200(form.show(gone))


async def start_shadow(request: Request, context: Context, principal: Principal) -> Response:
    """Runs a version as a shadow beside the one in force, for a share of the traces."""
    which = await reachable_function(request, context, principal)
    body = read_model(ShadowBody, await json_body(request, context))
    shadow = Shadow(version=body.version, rate=body.rate)
    functions = context.tallyard.functions
    changed = await in_thread(lambda: functions.set_shadow(principal, which, shadow))
    return Json200(function_json(changed))


async def end_shadow(request: Request, context: Context, principal: Principal) -> Response:
    """Ends the shadow: only the version in force runs."""
    which = FunctionById(id=_function_id(request))
    functions = context.tallyard.functions
    changed = await in_thread(lambda: functions.set_shadow(principal, which, None))
    return Json200(function_json(changed))


async def show_shadow(request: Request, context: Context, principal: Principal) -> Response:
    """Compares the shadow with the version in force, on the spans that both have scored.

    A key for one project sees only that project's spans.
    """
    which = FunctionById(id=_function_id(request))
    last = query_int(request, "last", PAIRS_DEFAULT, least=1, most=PAIRS_MAX)
    functions = context.tallyard.functions
    compared = await in_thread(lambda: functions.compare_shadow(principal, which, last))
    return Json200(shadow_json(compared, own_url(request, context)))


async def promote(request: Request, context: Context, principal: Principal) -> Response:
    """Puts a version in force: the shadow, or an older version."""
    which = await reachable_function(request, context, principal)
    body = read_model(PromoteBody, await json_body(request, context))
    functions = context.tallyard.functions
    changed = await in_thread(lambda: functions.promote(principal, which, body.version))
    return Json200(function_json(changed))


async def make_upload(request: Request, context: Context, principal: Principal) -> Response:
    """Makes a place for a bundle of code, and returns the URL to upload it to."""
    body = read_model(UploadBody, await json_body(request, context))
    uploads = context.tallyard.uploads
    upload = await in_thread(lambda: uploads.make(principal, body.org_id))
    url = f"{own_url(request, context)}/function/code/{upload.id}/{upload.secret}"
    return Json200({"url": url, "bundleId": str(upload.id)})


async def take_upload(request: Request) -> Response:
    """Stores an uploaded bundle. It needs no key: the secret in the URL allows it."""
    context: Context = request.app.state.context
    uploads = context.tallyard.uploads
    most = context.settings.bundle_bytes_max
    try:
        upload = BundleUpload(
            id=path_uuid(request, "bundle_id", "upload"), secret=request.path_params["secret"]
        )
        await in_thread(lambda: uploads.check(upload))
        encoding = read_encoding(request.headers.get("content-encoding", ""))
        content = await read_sent(request, most, timeout_s=UPLOAD_TIMEOUT_S)
        await in_thread(lambda: uploads.fill(upload, content, encoding))
    except TallyardError as error:
        return error_response(error)
    return Json200({"bundleId": str(upload.id)})


async def reachable_function(
    request: Request, context: Context, principal: Principal, *, is_prompt: bool = False
) -> FunctionById:
    """The function in the URL's path. Raises NotFound unless the key reaches it.

    Endpoints call this before they read the body: a key that does not reach the function costs
    no more than a look-up, and learns nothing from the errors of the body.
    """
    which, functions = FunctionById(id=_function_id(request)), context.tallyard.functions
    await in_thread(lambda: functions.require(principal, which, is_prompt=is_prompt))
    return which


async def _body(request: Request, context: Context) -> JsonObject:
    """The function in the request's body. `read_function` looks for NUL in it."""
    settings = context.settings
    return parse_object(await read_body(
        request, sent_max=settings.body_bytes_max, inflated_max=settings.inflated_bytes_max
    ))


def _function_id(request: Request) -> FunctionId:
    return FunctionId(path_uuid(request, "function_id", "function"))


def _query_version(request: Request) -> Xact | None:
    text = request.query_params.get("version")
    return read_version(text) if text else None


ONE = "/v1/function/{function_id}"


def _routes(
    path: str, form: Form, get: Callable[..., object], find: Callable[..., object]
) -> list[Route]:
    one_path = f"{path}/{{function_id}}"
    push = Functions.push
    return [
        Route(path, endpoint(partial(create, form), push), methods=["POST"]),
        Route(path, endpoint(partial(replace, form), push), methods=["PUT"]),
        Route(path, endpoint(partial(list_functions, form), find), methods=["GET"]),
        Route(one_path, endpoint(partial(get_function, form), get), methods=["GET"]),
        Route(one_path, endpoint(partial(change, form), Functions.change),
              methods=["PATCH"]),
        Route(one_path, endpoint(partial(delete, form), Functions.delete),
              methods=["DELETE"]),
    ]


ROUTES = [
    *_routes("/v1/function", FUNCTION, Functions.get, Functions.list),
    *_routes("/v1/prompt", PROMPT, Functions.get_prompt, Functions.list_prompts),
    Route(f"{ONE}/versions", endpoint(versions, Functions.versions), methods=["GET"]),
    Route(f"{ONE}/shadow", endpoint(show_shadow, Functions.compare_shadow), methods=["GET"]),
    Route(f"{ONE}/shadow", endpoint(start_shadow, Functions.set_shadow), methods=["POST"]),
    Route(f"{ONE}/shadow", endpoint(end_shadow, Functions.set_shadow), methods=["DELETE"]),
    Route(f"{ONE}/promote", endpoint(promote, Functions.promote), methods=["POST"]),
    Route("/insert-functions", endpoint(insert, Functions.push_all), methods=["POST"]),
    Route("/function/code", endpoint(make_upload, BundleUploads.make), methods=["POST"]),
    Route("/function/code/{bundle_id}/{secret}", take_upload, methods=["PUT"]),
]
