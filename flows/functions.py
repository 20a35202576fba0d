"""Functions: scorers and prompts of the users' own, kept in versions that never change.

A write that says something new makes a version. It is in force at once, or with a `rollout`
runs as a shadow beside the one in force until it is promoted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from flows.function_body import Bundled, FunctionBody, Source, read_function
from flows.keys import Principal
from flows.projects import ListPage
from scorers.classifier import Classifier, read_classifier
from scorers.function import FunctionKind, FunctionVersion
from scorers.sandbox.model import Checked, Program
from spans.errors import BadInput, InvalidSource, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact
from spans.json import Json, JsonObject

FUNCTIONS_MAX = 500
"""Functions of one request; a pushed file holds a handful."""

VERSION_DIGITS_MAX, VERSION_MAX = 19, 2**63 - 1
"""An `_xact_id` is a bigint."""

NOT_UPLOADED = "the bundle that holds its code has not been uploaded: push it again"


class IfExists(StrEnum):
    """What a write does where its project has a function of that slug."""

    ERROR = "error"
    REPLACE = "replace"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A version that runs beside the one in force, its scores stored and never shown.

    `rate` is the share of traces that it is run on, 0..1.
    """

    version: Xact
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function at one version; `in_force` is the one that rules follow.

    `program` runs it if it is code; None until its bundle is there.
    """

    id: FunctionId
    org_id: OrgId
    project_id: ProjectId
    version: Xact
    in_force: Xact
    created: datetime
    body: FunctionBody
    program: Program | None
    shadow: Shadow | None

    def as_version(self) -> FunctionVersion:
        """What runs it."""
        body, problem = self.body, None
        classifier: Classifier | None = None
        if body.kind is FunctionKind.CLASSIFIER:
            try:
                classifier = read_classifier(body.prompt_data or {})
            except BadInput as error:
                problem = str(error)
        if body.kind is FunctionKind.CODE and self.program is None:
            problem = NOT_UPLOADED
        return FunctionVersion(
            id=self.id, project_id=self.project_id, version=self.version, name=body.name,
            slug=body.slug, kind=body.kind, program=self.program, classifier=classifier,
            global_name=body.global_name if body.kind is FunctionKind.GLOBAL else None,
            problem=problem,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFilter:
    """Which functions are listed; None: any. Without a `version` the one in force."""

    project_id: ProjectId | None = None
    slug: str | None = None
    version: Xact | None = None
    only_prompts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A function as it is to be; one that is there is found by its project and slug.

    With a `shadow_rate` it does not come in force, but runs beside what is.
    """

    project_id: ProjectId
    body: FunctionBody
    if_exists: IfExists
    shadow_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionWrite:
    """A definition whose code has been checked: `program` is what the jail made of it.

    `new_id` names the function if there is none.
    """

    definition: Definition
    new_id: FunctionId
    program: Program | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The function after a write, and whether it was there before."""

    function: Function
    existed: bool


class FunctionStore(Protocol):
    """Where functions are kept.

    Whatever changes the version in force, the shadow, or that there is a function at all,
    makes a new revision of every rule set that names it, in the same transaction.
    """

    def write(self, org_id: OrgId, writes: Sequence[FunctionWrite]) -> list[Written]:
        """Make or replace them, all or none. What says nothing new makes no version.

        Raises BadInput where a write's `if_exists` is ERROR and there is one, for a bundle
        that is not the organisation's, and for a shadow that is no scorer; Contended where a
        function is gone for which the code was not checked, since it was to be left as it is.
        """
        ...

    def change(
        self, present: Function, body: FunctionBody, program: Program | None,
        shadow_rate: float | None,
    ) -> Function:
        """Have the function become `body`; its slug changes at once, for all its versions.
        Raises Contended if `present` is no longer in force, NotFound if it was deleted."""
        ...

    def find(
        self, org_id: OrgId, function_id: FunctionId, version: Xact | None = None
    ) -> Function | None:
        """A function that is not deleted, at this version or at the one in force."""
        ...

    def named(
        self, org_id: OrgId, project_id: ProjectId, slug: str, version: Xact | None = None
    ) -> Function | None:
        """The same, by its slug."""
        ...

    def list_functions(
        self, org_id: OrgId, page: ListPage, wanted: FunctionFilter
    ) -> list[Function]: ...

    def versions(self, function: Function) -> list[Function]:
        """Its versions, the newest first."""
        ...

    def delete(self, function: Function) -> None:
        """Hide it, with what waits for it. Its versions stay, for the outcomes that name
        them."""
        ...

    def set_shadow(self, function: Function, shadow: Shadow | None) -> Function:
        """Run another version beside the one in force, or none. Raises NotFound if there is
        no such version, BadInput if it is no scorer."""
        ...

    def promote(self, function: Function, version: Xact) -> Function:
        """Put a version in force, which ends the shadow. Raises NotFound, and BadInput if a
        scorer would become none."""
        ...

    def version(self, function_id: FunctionId, version: Xact) -> FunctionVersion | None:
        """A version, also of a function that has been deleted since."""
        ...


Check = Callable[[Source | Bundled], Awaitable[Checked]]
"""Looks at code in a jail. Raises NoWorker where none can."""


async def write_of(
    definition: Definition, present: Function | None, check: Check, *, new_id: FunctionId,
    uploaded: str | None = None,
) -> FunctionWrite:
    """The definition, ready to be written; `present` is what its slug names now, `uploaded`
    the hash of its bundle's bytes, if they are there. Raises InvalidSource.
    """
    program = None
    if present is None or definition.if_exists is IfExists.REPLACE:
        program = await program_of(definition.body, present, check, uploaded=uploaded)
    return FunctionWrite(definition=definition, new_id=new_id, program=program)


async def program_of(
    body: FunctionBody, present: Function | None, check: Check, *,
    uploaded: str | None = None,
) -> Program | None:
    """What runs the function's code, as far as that is known: a bundle may come later.

    Code that is in force already has been checked. Raises InvalidSource.
    """
    code: Source | Bundled | None = body.source
    if body.bundle_id is not None and uploaded is not None:
        code = body.bundled(uploaded)
    if code is None:
        return None
    if present is not None and present.program is not None and (
        present.body.function_data == body.function_data
    ):
        return body.with_settings(present.program)
    checked = await check(code)
    if checked.program is None:
        raise InvalidSource(
            checked.problem or "the source is no scorer", line=checked.line,
            column=checked.column,
        )
    return body.with_settings(checked.program)


def get(
    store: FunctionStore, principal: Principal, function_id: FunctionId,
    version: Xact | None = None,
) -> Function:
    """The function. Raises NotFound for another organisation's just as for none."""
    function = store.find(principal.org_id, function_id, version)
    if function is None or principal.project_id not in {None, function.project_id}:
        raise NotFound("no such function")
    return function


def read_definition(item: Json) -> Definition:
    """One function of a request that pushes some. Raises BadInput, InvalidSource."""
    if not isinstance(item, dict):
        raise BadInput("a function is an object")
    wish = item.get("if_exists") or IfExists.ERROR
    if not isinstance(wish, str) or wish not in {*IfExists}:
        raise BadInput(f"one of {', '.join(IfExists)}", path="if_exists")
    return Definition(
        project_id=read_project_id(item.get("project_id")), body=read_function(item),
        if_exists=IfExists(wish), shadow_rate=read_rollout(item),
    )


def read_project_id(value: Json) -> ProjectId:
    """Raises BadInput, and NotFound for what can name no project."""
    if not isinstance(value, str):
        raise BadInput("a function names its project", path="project_id")
    try:
        return ProjectId(UUID(value))
    except ValueError as error:
        raise NotFound("no such project") from error


def read_rollout(body: Mapping[str, Json]) -> float | None:
    """The rate of `rollout: {shadow: rate}`; None: in force at once. Raises BadInput."""
    rollout = body.get("rollout")
    if rollout is None:
        return None
    if not isinstance(rollout, dict) or rollout.keys() != {"shadow"}:
        raise BadInput('{"shadow": the share of traces, 0 to 1}', path="rollout")
    return read_rate(rollout["shadow"], "rollout.shadow")


def read_rate(value: Json, path: str) -> float:
    """A share, 0..1. Raises BadInput."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadInput("a share of the traces, 0 to 1", path=path)
    return float(value)


def function_id_of(text: str) -> FunctionId | None:
    """The id, or None for a text that can name no function."""
    try:
        return FunctionId(UUID(text))
    except ValueError:
        return None


def read_version(value: Json, path: str = "version") -> Xact:
    """A version as it is written: an `_xact_id`. Raises BadInput."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    is_number = text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS_MAX
    if not is_number or int(text) > VERSION_MAX:
        raise BadInput("the `_xact_id` of a version", path=path)
    return Xact(int(text))


def shown(function: Function) -> JsonObject:
    """A function as the API gives it."""
    body, shadow = function.body, function.shadow
    return {
        "id": str(function.id),
        "_xact_id": str(function.version),
        "project_id": str(function.project_id),
        "log_id": "p",
        "org_id": str(function.org_id),
        "created": function.created.isoformat(),
        **body.model_dump(mode="json"),
        "problem": function.as_version().problem,
        "rollout": None if shadow is None else {
            "version": str(shadow.version), "shadow": shadow.rate,
        },
    }


def shown_as_prompt(function: Function) -> JsonObject:
    """The same for clients that look for prompts, who know fewer fields."""
    told = shown(function)
    return {
        name: told[name] for name in told
        if name not in {"function_data", "function_schema", "origin", "problem", "rollout"}
    }
