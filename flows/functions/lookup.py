"""Which function a request means, and what is found of it.

A function is named by its id, by project and slug, by the name of a global scorer, or given
whole: then it is checked as it would be at an upload, run, and kept nowhere.
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
from flows.invocations.client import Calls
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
"""The name of a function that was given whole and brings none."""

DIGEST_BITS_LEFT_OUT = 128 - 63
"""A version is a bigint, without its sign."""

WAYS = (
    "a function is named by function_id, by project_name and slug, by global_function, or "
    "given as function, as inline_context and code, or as inline_function"
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionById:
    """A function that is kept, at this version or at the one in force."""

    id: FunctionId
    version: Xact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionBySlug:
    """The same, by its slug in a project of this name."""

    project_name: str
    slug: str
    version: Xact | None = None


KeptFunction = FunctionById | FunctionBySlug
NamedOrGiven = FunctionById | FunctionBySlug | FunctionBody


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionLookup:
    """Finds functions for those whose key reaches them."""

    store: FunctionStore
    projects: Projects
    calls: Calls

    def kept(self, principal: Principal, which: KeptFunction) -> Function:
        """The function. Raises NotFound where there is none that the key reaches."""
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

    async def version(self, principal: Principal, which: NamedOrGiven) -> FunctionVersion:
        """What runs the function. Raises NotFound; for one that is given whole Forbidden,
        InvalidSource, and what `Calls.check` does."""
        if isinstance(which, FunctionBody):
            if which.kind is not FunctionKind.GLOBAL:
                # Code and prompts are an administrator's to make; other keys run what is kept.
                principal.require()
            return await self._unsaved(principal, which)
        return (await asyncio.to_thread(self.kept, principal, which)).as_version()

    async def _unsaved(self, principal: Principal, body: FunctionBody) -> FunctionVersion:
        program = await program_of(
            body, None, lambda source: self.calls.check(principal.org_id, source)
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


def read_which(asked: JsonObject) -> NamedOrGiven:
    """The function that a request names or brings. Raises BadInput, InvalidSource; NotFound
    for an id that can name none."""
    if (text := asked.get("function_id")) is not None:
        function_id = function_id_of(text) if isinstance(text, str) else None
        if function_id is None:
            raise NotFound("no such function")
        return FunctionById(id=function_id, version=_version(asked.get("version")))
    if (slug := asked.get("slug")) is not None:
        name = asked.get("project_name")
        if not isinstance(name, str) or not isinstance(slug, str):
            raise BadInput("a slug is one of a project: send project_name too", path="slug")
        return FunctionBySlug(
            project_name=name, slug=slug, version=_version(asked.get("version"))
        )
    return given_whole(asked)


def given_whole(asked: JsonObject) -> FunctionBody:
    """The function that a request brings. Raises BadInput, InvalidSource."""
    name = asked.get("name")
    body: JsonObject = {"function_type": asked.get("function_type")}
    if isinstance(function := asked.get("function"), dict):
        body = function
        name = function.get("name")
    elif (global_name := asked.get("global_function")) is not None:
        name = global_name
        body["function_data"] = {"type": "global", "name": global_name}
    elif (context := asked.get("inline_context")) is not None:
        inline: Json = {
            "type": "inline", "runtime_context": context, "code": asked.get("code"),
        }
        body["function_data"] = {"type": "code", "data": inline}
    elif (data := asked.get("inline_function")) is not None:
        body |= {"function_data": data, "prompt_data": asked.get("inline_prompt")}
    elif (prompt := asked.get("inline_prompt")) is not None:
        body |= {"function_data": {"type": "prompt"}, "prompt_data": prompt}
    else:
        raise BadInput(WAYS)
    return read_function({**body, "name": name or UNNAMED, "slug": name or UNNAMED})


def identity(owner: ProjectId, body: FunctionBody) -> tuple[FunctionId, Xact]:
    """What a function that is kept nowhere is known by to those who run it.

    All of an owner's share an id, and with it what they may spend of models in a day. Each
    text is a version: tried again it finds its sandbox warm, and no other's.
    """
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    digest = derived_id(str(owner), text).int
    return FunctionId(derived_id(str(owner), UNNAMED)), Xact(digest >> DIGEST_BITS_LEFT_OUT)


def _version(value: Json) -> Xact | None:
    return None if value in {None, ""} else read_version(value)
