"""Finds the function that a request refers to.

A request names a stored function by its id, or by project and slug. It can also name a global
scorer, or contain the function itself. A function in a request is checked as at a push and run,
but not stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flows.access.principal import Principal
from flows.access.projects import ListPage, Projects
from flows.functions.code_check import program_of
from flows.invocations.client import InvocationClient
from scorers.functions.body import FunctionBody, read_function
from scorers.functions.function import (
    Function,
    FunctionFilter,
    FunctionWrite,
    Shadow,
    Written,
    function_id_of,
    read_version,
)
from scorers.functions.version import FunctionKind, FunctionVersion
from scorers.judge.classifier import read_classifier
from scorers.sandbox.model import Program
from spans.errors import BadInput, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact, derived_id
from spans.json import Json, JsonObject

UNNAMED = "inline"
"""The name of a function in a request, if it has none itself."""

DIGEST_BITS_LEFT_OUT = 128 - 63
"""A version is a positive bigint, which has 63 bits; a digest has 128."""

WAYS = (
    "name the function by function_id, by project_name and slug, or by global_function; or "
    "send it as function, as inline_context and code, or as inline_function"
)


class FunctionStore(Protocol):
    """Where functions are stored.

    Each change of the version in force, of the shadow, or of whether the function exists, makes
    a new revision of every rule set that names the function, in the same transaction.
    """

    def write(self, org_id: OrgId, writes: Sequence[FunctionWrite]) -> list[Written]:
        """Creates or replaces all the functions, or none. No change makes no new version.

        Raises BadInput if `if_exists` is ERROR and the function exists, for a bundle of another
        organisation, and for a shadow that is not a scorer. Raises Contended if a function
        whose code was not checked, because it existed, has been deleted meanwhile.
        """
        ...

    def change(
        self, present: Function, body: FunctionBody, program: Program | None,
        shadow_rate: float | None,
    ) -> Function:
        """Makes `body` a new version of the function. A new slug holds for all versions.

        Raises Contended if `present` is no longer in force, NotFound if it was deleted.
        """
        ...

    def find(
        self, org_id: OrgId, function_id: FunctionId, version: Xact | None = None
    ) -> Function | None:
        """The function at this version, or at the one in force; None if deleted or unknown."""
        ...

    def named(
        self, org_id: OrgId, project_id: ProjectId, slug: str, version: Xact | None = None
    ) -> Function | None:
        """As `find`, by the function's slug."""
        ...

    def list_functions(
        self, org_id: OrgId, page: ListPage, wanted: FunctionFilter
    ) -> list[Function]: ...

    def versions(self, function: Function) -> list[Function]:
        """The function's versions, newest first."""
        ...

    def delete(self, function: Function) -> None:
        """Hides the function and supersedes its pending outcomes.

        Its versions stay stored, since outcomes name them.
        """
        ...

    def set_shadow(self, function: Function, shadow: Shadow | None) -> Function:
        """Runs a version as a shadow beside the one in force; None ends the shadow.

        Raises NotFound for an unknown version, BadInput for one that is not a scorer.
        """
        ...

    def promote(self, function: Function, version: Xact) -> Function:
        """Puts a version in force, which ends the shadow.

        Raises NotFound for an unknown version, and BadInput if the function is a scorer and the
        version is not.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionById:
    """A stored function, at this version or at the one in force."""

    id: FunctionId
    version: Xact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionBySlug:
    """A stored function, named by its slug in the project with this name."""

    project_name: str
    slug: str
    version: Xact | None = None


FunctionReference = FunctionById | FunctionBySlug
FunctionChoice = FunctionReference | FunctionBody


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionLookup:
    """Finds functions for a caller, if its key reaches them."""

    store: FunctionStore
    projects: Projects
    client: InvocationClient

    def find(self, principal: Principal, which: FunctionReference) -> Function:
        """The stored function. Raises NotFound if there is none that the key reaches."""
        if isinstance(which, FunctionById):
            function = self.store.find(principal.org_id, which.id, which.version)
            if function is None or not principal.reaches(function.project_id):
                raise NotFound("no such function")
            return function
        project = self.projects.named(principal, which.project_name)
        function = self.store.named(principal.org_id, project.id, which.slug, which.version)
        if function is None:
            at = "" if which.version is None else f" at version {which.version}"
            raise NotFound(f"the project {project.name!r} has no function {which.slug!r}{at}")
        return function

    async def version(self, principal: Principal, which: FunctionChoice) -> FunctionVersion:
        """The version to run. Raises NotFound if there is none that the key reaches.

        For a function that the request contains, raises Forbidden if the caller may not make
        functions, InvalidSource, and the errors of `InvocationClient.check`.
        """
        if isinstance(which, FunctionBody):
            if which.kind is not FunctionKind.GLOBAL:
                # Only administrators make code and prompts; other keys run stored ones.
                principal.require()
            return await self._unsaved(principal, which)
        return (await asyncio.to_thread(self.find, principal, which)).as_version()

    async def _unsaved(self, principal: Principal, body: FunctionBody) -> FunctionVersion:
        program = await program_of(
            body, None, lambda source: self.client.check(principal.org_id, source)
        )
        owner = principal.project_id or ProjectId(principal.org_id)
        function_id, version = identity(owner, body)
        is_classifier = body.kind is FunctionKind.CLASSIFIER
        return FunctionVersion(
            id=function_id, project_id=owner, version=version,
            name=body.name, slug=body.slug, kind=body.kind, program=program,
            classifier=read_classifier(body.prompt_data or {}) if is_classifier else None,
            global_name=body.global_name if body.kind is FunctionKind.GLOBAL else None,
        )


def read_choice(body: JsonObject) -> FunctionChoice:
    """The function that a request's body names or contains.

    Raises BadInput, InvalidSource, and NotFound for an id that is not valid.
    """
    if (text := body.get("function_id")) is not None:
        function_id = function_id_of(text) if isinstance(text, str) else None
        if function_id is None:
            raise NotFound("no such function")
        return FunctionById(id=function_id, version=_version(body.get("version")))
    if (slug := body.get("slug")) is not None:
        name = body.get("project_name")
        if not isinstance(name, str) or not isinstance(slug, str):
            raise BadInput("a slug needs its project: send project_name too", path="slug")
        return FunctionBySlug(
            project_name=name, slug=slug, version=_version(body.get("version"))
        )
    return read_contained(body)


def read_contained(body: JsonObject) -> FunctionBody:
    """The function that a request's body contains. Raises BadInput, InvalidSource."""
    name = body.get("name")
    content: JsonObject = {"function_type": body.get("function_type")}
    if isinstance(function := body.get("function"), dict):
        content = function
        name = function.get("name")
    elif (global_name := body.get("global_function")) is not None:
        name = global_name
        content["function_data"] = {"type": "global", "name": global_name}
    elif (context := body.get("inline_context")) is not None:
        inline: Json = {
            "type": "inline", "runtime_context": context, "code": body.get("code"),
        }
        content["function_data"] = {"type": "code", "data": inline}
    elif (data := body.get("inline_function")) is not None:
        content |= {"function_data": data, "prompt_data": body.get("inline_prompt")}
    elif (prompt := body.get("inline_prompt")) is not None:
        content |= {"function_data": {"type": "prompt"}, "prompt_data": prompt}
    else:
        raise BadInput(WAYS)
    return read_function({**content, "name": name or UNNAMED, "slug": name or UNNAMED})


def identity(owner: ProjectId, body: FunctionBody) -> tuple[FunctionId, Xact]:
    """An id and a version for a function that is not stored, for the workers that run it.

    All such functions of an owner have the same id, and so share one daily budget of model
    tokens. The version is a hash of the function: if it is run again it gets the sandbox that
    is ready for it, and never that of another function.
    """
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    digest = derived_id(str(owner), text).int
    return FunctionId(derived_id(str(owner), UNNAMED)), Xact(digest >> DIGEST_BITS_LEFT_OUT)


def _version(value: Json) -> Xact | None:
    return None if value in (None, "") else read_version(value)   # a set would hash it
