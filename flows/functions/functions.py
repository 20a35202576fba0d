"""Functions: scorers and prompts of the users' own, kept in versions that never change.

A write that says something new makes a version. It is in force at once, or with a `rollout`
runs as a shadow beside the one in force until it is promoted.
"""

from __future__ import annotations

import asyncio
import builtins
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Projects
from flows.access.use_case import use_case
from flows.functions.code_check import program_of
from flows.functions.lookup import FunctionLookup, FunctionStore, KeptFunction
from flows.functions.shadows import ShadowComparison, ShadowStore, compare_shadow
from flows.invocations.client import Calls
from scorers.functions.body import FunctionBody, patched
from scorers.functions.bundle import BundleStore
from scorers.functions.function import (
    Definition,
    Function,
    FunctionFilter,
    FunctionWrite,
    IfExists,
    Shadow,
    Written,
    read_rollout,
)
from scorers.sandbox.model import Program
from spans.errors import BadInput, InvalidSource, NotFound
from spans.ids import FunctionId, ProjectId, Xact
from spans.json import JsonObject


class Functions:
    """The functions of an organisation: pushed, listed, changed, run as shadows.

    Code is checked by a sandbox worker before it is kept; whoever calls this never runs it.
    Thread-safe.
    """

    def __init__(
        self, store: FunctionStore, *, shadows: ShadowStore, bundles: BundleStore,
        projects: Projects, lookup: FunctionLookup, calls: Calls,
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._shadows = shadows
        self._bundles = bundles
        self._projects = projects
        self._lookup = lookup
        self._calls = calls
        self._new_id = new_id

    @use_case()
    async def push(self, principal: Principal, definition: Definition) -> Written:
        """Make or replace a function, as its `if_exists` says.

        Raises NotFound for a project that the key does not reach, InvalidSource for code that
        is no scorer, BadInput for a bundle or a shadow that cannot be; NoWorker where nobody
        could check the code.
        """
        write = await self._checked(principal, definition)
        work = partial(self._store.write, principal.org_id, [write])
        (written,) = await asyncio.to_thread(work)
        return written

    @use_case()
    async def push_all(
        self, principal: Principal, definitions: Sequence[Definition]
    ) -> builtins.list[Written]:
        """The same for several, all or none. Errors say which of `functions` they mean."""

        async def checked(index: int, definition: Definition) -> FunctionWrite:
            try:
                return await self._checked(principal, definition)
            except (BadInput, InvalidSource) as error:
                raise error.within(f"functions[{index}]") from error

        writes = await asyncio.gather(
            *(checked(index, each) for index, each in enumerate(definitions))
        )
        return await asyncio.to_thread(partial(self._store.write, principal.org_id, writes))

    @use_case(KeyRole.READ)
    def get(self, principal: Principal, which: KeptFunction) -> Function:
        """The function. Raises NotFound."""
        return self._lookup.kept(principal, which)

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def get_prompt(self, principal: Principal, which: KeptFunction) -> Function:
        """The function, if it is a prompt: what applications fetch. Raises NotFound."""
        return self._kept(principal, which, is_prompt=True)

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, page: ListPage, wanted: FunctionFilter, *,
        project_name: str | None = None,
    ) -> builtins.list[Function]:
        """The functions that the key reaches, newest first; limited to a project by the id in
        `wanted`, or else by its name."""
        return self._list(principal, page, wanted, project_name)

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def list_prompts(
        self, principal: Principal, page: ListPage, wanted: FunctionFilter, *,
        project_name: str | None = None,
    ) -> builtins.list[Function]:
        """The prompts among them."""
        return self._list(principal, page, replace(wanted, only_prompts=True), project_name)

    @use_case(KeyRole.READ)
    def versions(
        self, principal: Principal, which: KeptFunction
    ) -> builtins.list[Function]:
        """Every version of a function, the newest first. Raises NotFound."""
        return self._store.versions(self._lookup.kept(principal, which))

    @use_case()
    async def change(
        self, principal: Principal, which: KeptFunction, changes: JsonObject, *,
        is_prompt: bool = False,
    ) -> Function:
        """The function with `changes` laid over it, which makes a new version of it.

        With a `rollout` among them the new version runs as a shadow. Raises NotFound, also
        for what is no prompt and should be one; BadInput, InvalidSource, NoWorker as `push`.
        """
        present = await asyncio.to_thread(
            partial(self._kept, principal, which, is_prompt=is_prompt)
        )
        rate = read_rollout(changes)
        body = patched(present.body, changes)
        program = await self._program(principal, body, present)
        return await asyncio.to_thread(self._store.change, present, body, program, rate)

    @use_case()
    def delete(
        self, principal: Principal, which: KeptFunction, *, is_prompt: bool = False
    ) -> Function:
        """Hide a function, with what waits for it; the versions that outcomes name stay."""
        function = self._kept(principal, which, is_prompt=is_prompt)
        self._store.delete(function)
        return function

    @use_case()
    def set_shadow(
        self, principal: Principal, which: KeptFunction, shadow: Shadow | None
    ) -> Function:
        """Run another version beside the one in force, or (None) no longer.

        Raises NotFound for a version that there is not, BadInput for one that is no scorer.
        """
        return self._store.set_shadow(self._lookup.kept(principal, which), shadow)

    @use_case()
    def promote(self, principal: Principal, which: KeptFunction, version: Xact) -> Function:
        """Put a version in force: the shadow, or an older one. Raises NotFound, BadInput."""
        return self._store.promote(self._lookup.kept(principal, which), version)

    @use_case(KeyRole.READ)
    def compare_shadow(
        self, principal: Principal, which: KeptFunction, last: int
    ) -> ShadowComparison:
        """The version in force and its shadow, on the latest spans that both have scored: of
        a key for one project those of that project. Raises NotFound."""
        function = self._lookup.kept(principal, which)
        return compare_shadow(self._shadows, function, principal.project_id, last)

    def _list(
        self, principal: Principal, page: ListPage, wanted: FunctionFilter,
        project_name: str | None,
    ) -> builtins.list[Function]:
        try:
            project_id = self._projects.scope(principal, wanted.project_id, project_name)
        except NotFound:
            return []
        only = replace(wanted, project_id=project_id)
        return self._store.list_functions(principal.org_id, page, only)

    def _kept(
        self, principal: Principal, which: KeptFunction, *, is_prompt: bool
    ) -> Function:
        function = self._lookup.kept(principal, which)
        if is_prompt and function.body.function_data.get("type") != "prompt":
            raise NotFound("no such prompt: it is a function, see /v1/function")
        return function

    async def _checked(self, principal: Principal, definition: Definition) -> FunctionWrite:
        """The definition, its code checked unless it is to be left as it is."""
        present = await asyncio.to_thread(
            self._present, principal, definition.project_id, definition.body.slug
        )
        program = None
        if present is None or definition.if_exists is IfExists.REPLACE:
            program = await self._program(principal, definition.body, present)
        return FunctionWrite(
            definition=definition, new_id=FunctionId(self._new_id()), program=program
        )

    def _present(
        self, principal: Principal, project_id: ProjectId, slug: str
    ) -> Function | None:
        project = self._projects.get(principal, project_id)
        return self._store.named(principal.org_id, project.id, slug)

    async def _program(
        self, principal: Principal, body: FunctionBody, present: Function | None
    ) -> Program | None:
        uploaded = None
        if body.bundle_id is not None:
            uploaded = await asyncio.to_thread(
                self._bundles.digest_of, principal.org_id, body.bundle_id
            )
        check = partial(self._calls.check, principal.org_id)
        return await program_of(body, present, check, uploaded=uploaded)
