"""Functions: users' own scorers and prompts, stored in versions that never change.

A write that changes something makes a new version. The version is in force at once; with a
`rollout` it runs as a shadow beside the version in force until it is promoted.
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
from flows.functions.lookup import FunctionLookup, FunctionReference, FunctionStore
from flows.functions.shadows import PairsOf, ShadowComparison, compare_shadow
from flows.invocations.client import InvocationClient
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
    """The functions of an organisation: push, list, change, delete, shadow and promote.

    A sandbox worker checks code before it is stored; this process never runs it. Thread-safe.
    """

    def __init__(
        self, store: FunctionStore, *, pairs_of: PairsOf, bundles: BundleStore,
        projects: Projects, lookup: FunctionLookup, client: InvocationClient,
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._pairs_of = pairs_of
        self._bundles = bundles
        self._projects = projects
        self._lookup = lookup
        self._client = client
        self._new_id = new_id

    @use_case()
    async def push(self, principal: Principal, definition: Definition) -> Written:
        """Creates a function. If its slug exists, `if_exists` says whether it is replaced.

        Raises NotFound for a project that the key does not reach, InvalidSource for code that
        is not a scorer, BadInput for a bundle or a shadow that is not allowed, and NoWorker if
        no worker can check the code.
        """
        write = await self._checked(principal, definition)
        work = partial(self._store.write, principal.org_id, [write])
        (written,) = await asyncio.to_thread(work)
        return written

    @use_case()
    async def push_all(
        self, principal: Principal, definitions: Sequence[Definition]
    ) -> builtins.list[Written]:
        """Pushes all the functions or none. Raises as `push`; an error names the function by
        its index, as in `functions[3]`."""

        async def checked(index: int, definition: Definition) -> FunctionWrite:
            try:
                return await self._checked(principal, definition)
            except (BadInput, InvalidSource) as error:
                raise error.within(f"functions[{index}]") from error

        writes = await asyncio.gather(
            *(checked(index, definition) for index, definition in enumerate(definitions))
        )
        return await asyncio.to_thread(partial(self._store.write, principal.org_id, writes))

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def require(
        self, principal: Principal, which: FunctionReference, *, is_prompt: bool = False
    ) -> None:
        """Raises NotFound unless the key reaches the function; `is_prompt`: and it is a prompt.

        With it an entry point can refuse a request before it reads the body. The other methods
        do not rely on it.
        """
        self._find(principal, which, is_prompt=is_prompt)

    @use_case(KeyRole.READ)
    def get(self, principal: Principal, which: FunctionReference) -> Function:
        """The function. Raises NotFound if there is none that the key reaches."""
        return self._lookup.find(principal, which)

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def get_prompt(self, principal: Principal, which: FunctionReference) -> Function:
        """The function, which must be a prompt, for applications that fetch their prompts.

        Raises NotFound if there is none that the key reaches, or it is not a prompt.
        """
        return self._find(principal, which, is_prompt=True)

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, page: ListPage, wanted: FunctionFilter, *,
        project_name: str | None = None,
    ) -> builtins.list[Function]:
        """The functions that the key reaches, newest first.

        They are limited to the project whose id is in `wanted`, or whose name is given.
        """
        return self._list(principal, page, wanted, project_name)

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def list_prompts(
        self, principal: Principal, page: ListPage, wanted: FunctionFilter, *,
        project_name: str | None = None,
    ) -> builtins.list[Function]:
        """As `list`, but only prompts."""
        return self._list(principal, page, replace(wanted, only_prompts=True), project_name)

    @use_case(KeyRole.READ)
    def versions(
        self, principal: Principal, which: FunctionReference
    ) -> builtins.list[Function]:
        """Every version of a function, newest first. Raises NotFound."""
        return self._store.versions(self._lookup.find(principal, which))

    @use_case()
    async def change(
        self, principal: Principal, which: FunctionReference, changes: JsonObject, *,
        is_prompt: bool = False,
    ) -> Function:
        """Replaces the fields that `changes` gives, which makes a new version, and returns it.

        If `rollout` is among them, the new version runs as a shadow. Raises NotFound, also if
        `is_prompt` and it is not a prompt; BadInput, InvalidSource and NoWorker as `push`.
        """
        present = await asyncio.to_thread(
            partial(self._find, principal, which, is_prompt=is_prompt)
        )
        rate = read_rollout(changes)
        body = patched(present.body, changes)
        program = await self._program(principal, body, present)
        return await asyncio.to_thread(self._store.change, present, body, program, rate)

    @use_case()
    def delete(
        self, principal: Principal, which: FunctionReference, *, is_prompt: bool = False
    ) -> Function:
        """Hides a function and supersedes its pending outcomes.

        Its versions stay stored, since outcomes name them.
        """
        function = self._find(principal, which, is_prompt=is_prompt)
        self._store.delete(function)
        return function

    @use_case()
    def set_shadow(
        self, principal: Principal, which: FunctionReference, shadow: Shadow | None
    ) -> Function:
        """Runs a version as a shadow beside the one in force; None ends the shadow.

        Raises NotFound for an unknown version, BadInput for a version that is not a scorer.
        """
        return self._store.set_shadow(self._lookup.find(principal, which), shadow)

    @use_case()
    def promote(
        self, principal: Principal, which: FunctionReference, version: Xact
    ) -> Function:
        """Puts a version in force: the shadow, or an older version.

        Raises NotFound for an unknown version, and BadInput if rules could not run it.
        """
        return self._store.promote(self._lookup.find(principal, which), version)

    @use_case(KeyRole.READ)
    def compare_shadow(
        self, principal: Principal, which: FunctionReference, last: int
    ) -> ShadowComparison:
        """Compares the version in force with its shadow on the spans that both have scored.

        `last` is how many of the shadow's latest outcomes are read. A key for one project sees
        the spans of that project only. Raises NotFound, also if there is no shadow.
        """
        function = self._lookup.find(principal, which)
        return compare_shadow(self._pairs_of, function, principal.project_id, last)

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

    def _find(
        self, principal: Principal, which: FunctionReference, *, is_prompt: bool
    ) -> Function:
        function = self._lookup.find(principal, which)
        if is_prompt and function.body.function_data.get("type") != "prompt":
            raise NotFound("not a prompt: get this function with /v1/function")
        return function

    async def _checked(self, principal: Principal, definition: Definition) -> FunctionWrite:
        """The write of a definition, with the program of its code.

        The code is not checked if the function exists and will not be replaced.
        """
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
        check = partial(self._client.check, principal.org_id)
        return await program_of(body, present, check, uploaded=uploaded)
