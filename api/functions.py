"""Functions and prompts: `/v1/function`, `/v1/prompt`, and what the SDKs' push command calls.

Code is looked at in a jail before it is kept; this process never reads it but as text.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.body import parse_object, read_body, read_sent
from api.endpoint import (
    Context,
    Json200,
    endpoint,
    error_response,
    in_thread,
    json_body,
    list_page,
    path_uuid,
    query_project,
)
from api.health import own_url
from flows.access.principal import KeyRole, Principal
from flows.access.projects import get as get_project
from flows.functions import uploads
from flows.functions.functions import Check, get, program_of, write_of
from flows.functions.uploads import Place
from scorers.functions.body import FunctionBody, patched, read_function
from scorers.functions.function import (
    FUNCTIONS_MAX,
    Definition,
    Function,
    FunctionFilter,
    FunctionWrite,
    IfExists,
    Shadow,
    Written,
    function_json,
    prompt_json,
    read_definition,
    read_project_id,
    read_rate,
    read_rollout,
    read_version,
)
from spans.errors import (
    BadInput,
    Contended,
    InvalidSource,
    NotFound,
    TallyardError,
)
from spans.ids import FunctionId, Xact
from spans.json import Json, JsonObject

UPLOAD_TIMEOUT_S = 300.0
"""Of a bundle: 64 MiB over a line of 2 Mbit/s."""

CHANGES_TRIED = 3
"""How often a function is written that others change at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a function is shown and looked for: as such, or as a prompt."""

    only_prompts: bool
    show: Callable[[Function], JsonObject]

    def read(self, body: JsonObject) -> JsonObject:
        """The body of a request, with what a prompt does not say."""
        if not self.only_prompts:
            return body
        if body.get("function_type") is not None:
            raise BadInput("a prompt has none: use /v1/function", path="function_type")
        return {**body, "function_data": {"type": "prompt"}}


FUNCTION = Form(only_prompts=False, show=function_json)
PROMPT = Form(only_prompts=True, show=prompt_json)


async def create(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Make a function, or find the one of that slug, as it is."""
    return await _make(form, IfExists.IGNORE, request, context, principal)


async def replace(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Make a function, or have the one of that slug become what is given."""
    return await _make(form, IfExists.REPLACE, request, context, principal)


async def _make(
    form: Form, if_exists: IfExists, request: Request, context: Context, principal: Principal
) -> Response:
    body = form.read(await _body(request, context))
    definition = Definition(
        project_id=read_project_id(body.get("project_id")), body=read_function(body),
        if_exists=if_exists, shadow_rate=read_rollout(body),
    )

    async def prepare() -> list[FunctionWrite]:
        return [await _write_of(context, principal, definition)]

    (written,) = await _written(context, principal, prepare)
    return Json200(
        form.show(written.function),
        headers={"x-bt-found-existing": "true"} if written.existed else {},
    )


async def insert(request: Request, context: Context, principal: Principal) -> Response:
    """Write several functions, all or none."""
    items = (await _body(request, context)).get("functions")
    if not isinstance(items, list) or len(items) > FUNCTIONS_MAX:
        raise BadInput(f"a list of at most {FUNCTIONS_MAX}", path="functions")

    async def write(index: int, item: Json) -> FunctionWrite:
        try:
            return await _write_of(context, principal, read_definition(item))
        except BadInput as error:
            raise error.within(f"functions[{index}]") from error
        except InvalidSource as error:
            raise InvalidSource(
                f"functions[{index}]: {error}", line=error.line, column=error.column
            ) from error

    async def prepare() -> list[FunctionWrite]:
        return await asyncio.gather(*(write(index, item) for index, item in enumerate(items)))

    written = await _written(context, principal, prepare)
    return Json200({
        "functions": [
            {
                "id": str(one.function.id), "project_id": str(one.function.project_id),
                "slug": one.function.body.slug, "_xact_id": str(one.function.version),
                "found_existing": one.existed,
            }
            for one in written
        ]
    })


async def listed(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """The functions that the key may reach, newest first."""
    page = list_page(request, "prompt_name" if form.only_prompts else "function_name")
    query = request.query_params
    version = _query_version(request)
    wanted = query_project(request)
    services = context.services
    nothing = Json200({"objects": []})
    if query.get("org_name") not in {None, "", principal.org_name}:
        return nothing
    if (name := query.get("project_name")) is not None and wanted is None:
        named = await in_thread(
            lambda: services.projects.project_named(principal.org_id, name)
        )
        if named is None:
            return nothing
        wanted = named.id
    if principal.project_id is not None:
        if wanted not in {None, principal.project_id}:
            return nothing
        wanted = principal.project_id
    which = FunctionFilter(
        project_id=wanted, slug=query.get("slug"), version=version,
        only_prompts=form.only_prompts,
    )
    found = await in_thread(
        lambda: services.functions.list_functions(principal.org_id, page, which)
    )
    return Json200({"objects": [form.show(function) for function in found]})


async def one(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """One function, at the version asked for or at the one in force."""
    version = _query_version(request)
    return Json200(form.show(await _function(form, request, context, principal, version)))


async def versions(request: Request, context: Context, principal: Principal) -> Response:
    """Every version of a function, newest first."""
    function = await _function(FUNCTION, request, context, principal)
    functions = context.services.functions
    found = await in_thread(lambda: functions.versions(function))
    return Json200({"objects": [function_json(version) for version in found]})


async def change(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Change what is given of a function, which makes a new version; the rest stays."""
    function = await _function(form, request, context, principal)
    changes = await _body(request, context)
    if form.only_prompts:
        form.read(changes)
    rate = read_rollout(changes)
    functions = context.services.functions
    for _ in range(CHANGES_TRIED):
        body = patched(function.body, changes)
        uploaded = await in_thread(partial(_uploaded, context, principal, body))
        program = await program_of(
            body, function, _check(context, principal), uploaded=uploaded
        )
        work = partial(functions.change, function, body, program, rate)
        try:
            return Json200(form.show(await in_thread(work)))
        except Contended:
            function = await _function(form, request, context, principal)
    raise Contended(f"{function.body.name!r} is being changed by others: send this again")


async def delete(
    form: Form, request: Request, context: Context, principal: Principal
) -> Response:
    """Hide a function; the versions that outcomes name stay."""
    function = await _function(form, request, context, principal)
    functions = context.services.functions
    await in_thread(lambda: functions.delete(function))
    return Json200(form.show(function))


async def start_shadow(request: Request, context: Context, principal: Principal) -> Response:
    """Run a version beside the one in force, for a share of the traces."""
    function = await _function(FUNCTION, request, context, principal)
    body = await json_body(request, context)
    shadow = Shadow(
        version=read_version(body.get("version")), rate=read_rate(body.get("rate"), "rate")
    )
    functions = context.services.functions
    changed = await in_thread(lambda: functions.set_shadow(function, shadow))
    return Json200(function_json(changed))


async def end_shadow(request: Request, context: Context, principal: Principal) -> Response:
    """Run the version in force alone."""
    function = await _function(FUNCTION, request, context, principal)
    functions = context.services.functions
    return Json200(function_json(await in_thread(lambda: functions.set_shadow(function, None))))


async def promote(request: Request, context: Context, principal: Principal) -> Response:
    """Put a version in force: the shadow, or an older one."""
    function = await _function(FUNCTION, request, context, principal)
    version = read_version((await json_body(request, context)).get("version"))
    functions = context.services.functions
    return Json200(function_json(await in_thread(lambda: functions.promote(function, version))))


async def make_upload(request: Request, context: Context, principal: Principal) -> Response:
    """A place for a bundle of code, and the URL that takes it, once."""
    body = await json_body(request, context)
    store = context.services.bundles
    place = await in_thread(
        lambda: uploads.make_place(
            store, principal, body, new_id=uuid.uuid4(), random_text=secrets.token_urlsafe
        )
    )
    url = f"{own_url(request, context)}/function/code/{place.id}/{place.secret}"
    return Json200({"url": url, "bundleId": str(place.id)})


async def upload(request: Request) -> Response:
    """Take a bundle's bytes. No key: the secret in the URL is what allows it."""
    context: Context = request.app.state.context
    store = context.services.bundles
    most = context.services.settings.bundle_bytes_max
    try:
        place = Place(
            id=path_uuid(request, "bundle_id", "upload"),
            secret=request.path_params["secret"],
        )
        await in_thread(lambda: uploads.check_secret(store, place.id, place.secret))
        encoding = uploads.read_encoding(request.headers.get("content-encoding", ""))
        content = await read_sent(request, most, timeout_s=UPLOAD_TIMEOUT_S)
        await in_thread(lambda: uploads.fill(store, place, content, encoding))
    except TallyardError as error:
        return error_response(error)
    return Json200({"bundleId": str(place.id)})


async def _body(request: Request, context: Context) -> JsonObject:
    """A function as it was sent. A NUL in its code is for `read_function` to find."""
    settings = context.services.settings
    return parse_object(await read_body(
        request, sent_max=settings.body_bytes_max, inflated_max=settings.inflated_bytes_max
    ))


async def _written(
    context: Context, principal: Principal,
    prepare: Callable[[], Awaitable[list[FunctionWrite]]],
) -> list[Written]:
    """What became of the writes, which are prepared anew where a function that they were
    prepared for was deleted meanwhile."""
    functions = context.services.functions
    for _ in range(CHANGES_TRIED):
        work = partial(functions.write, principal.org_id, await prepare())
        try:
            return await in_thread(work)
        except Contended:
            continue
    raise Contended("these functions are being changed by others: send this again")


async def _write_of(
    context: Context, principal: Principal, definition: Definition
) -> FunctionWrite:
    services, org_id = context.services, principal.org_id
    where, body = definition.project_id, definition.body

    def look() -> tuple[Function | None, str | None]:
        get_project(services.projects, principal, where)
        present = services.functions.named(org_id, where, body.slug)
        return present, _uploaded(context, principal, body)

    present, uploaded = await in_thread(look)
    return await write_of(
        definition, present, _check(context, principal), new_id=FunctionId(uuid.uuid4()),
        uploaded=uploaded,
    )


def _uploaded(context: Context, principal: Principal, body: FunctionBody) -> str | None:
    """The hash of the function's bundle, if it has one and that is there."""
    if (bundle_id := body.bundle_id) is None:
        return None
    return context.services.bundles.digest_of(principal.org_id, bundle_id)


def _check(context: Context, principal: Principal) -> Check:
    """Has a sandbox worker look at code."""
    return partial(context.services.calls.check, principal.org_id)


async def _function(
    form: Form, request: Request, context: Context, principal: Principal,
    version: Xact | None = None,
) -> Function:
    function_id = FunctionId(path_uuid(request, "function_id", "function"))
    functions = context.services.functions
    function = await in_thread(lambda: get(functions, principal, function_id, version))
    if form.only_prompts and function.body.function_data.get("type") != "prompt":
        raise NotFound("no such prompt: it is a function, see /v1/function")
    return function


def _query_version(request: Request) -> Xact | None:
    text = request.query_params.get("version")
    return read_version(text) if text else None


INGEST, READ = KeyRole.INGEST, KeyRole.READ
ONE = "/v1/function/{function_id}"


def _routes(path: str, form: Form, *readers: KeyRole) -> list[Route]:
    return [
        Route(path, endpoint(partial(create, form)), methods=["POST"]),
        Route(path, endpoint(partial(replace, form)), methods=["PUT"]),
        Route(path, endpoint(partial(listed, form), *readers), methods=["GET"]),
        Route(f"{path}/{{function_id}}", endpoint(partial(one, form), *readers),
              methods=["GET"]),
        Route(f"{path}/{{function_id}}", endpoint(partial(change, form)), methods=["PATCH"]),
        Route(f"{path}/{{function_id}}", endpoint(partial(delete, form)),
              methods=["DELETE"]),
    ]


ROUTES = [
    *_routes("/v1/function", FUNCTION, READ),
    *_routes("/v1/prompt", PROMPT, INGEST, READ),
    Route(f"{ONE}/versions", endpoint(versions, READ), methods=["GET"]),
    Route(f"{ONE}/shadow", endpoint(start_shadow), methods=["POST"]),
    Route(f"{ONE}/shadow", endpoint(end_shadow), methods=["DELETE"]),
    Route(f"{ONE}/promote", endpoint(promote), methods=["POST"]),
    Route("/insert-functions", endpoint(insert), methods=["POST"]),
    Route("/function/code", endpoint(make_upload), methods=["POST"]),
    Route("/function/code/{bundle_id}/{secret}", upload, methods=["PUT"]),
]
