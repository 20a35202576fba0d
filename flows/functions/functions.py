"""Functions: scorers and prompts of the users' own, kept in versions that never change.

A write that says something new makes a version. It is in force at once, or with a `rollout`
runs as a shadow beside the one in force until it is promoted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from flows.access.principal import Principal
from flows.access.projects import ListPage
from scorers.functions.body import BundledCode, FunctionBody, InlineCode
from scorers.functions.function import (
    Definition,
    Function,
    FunctionFilter,
    FunctionWrite,
    IfExists,
    Shadow,
    Written,
)
from scorers.functions.version import FunctionVersion
from scorers.sandbox.model import CodeCheck, Program
from spans.errors import InvalidSource, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact


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


Check = Callable[[InlineCode | BundledCode], Awaitable[CodeCheck]]
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
    code: InlineCode | BundledCode | None = body.source
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

