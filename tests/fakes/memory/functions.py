"""Functions, their versions, and bundles in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from fakes.memory.access import MemoryProjects
from fakes.memory.pages import page_of

from flows.access.projects import ListPage
from scorers.functions.body import FunctionBody
from scorers.functions.bundle import Bundle
from scorers.functions.function import (
    Function,
    FunctionFilter,
    FunctionWrite,
    IfExists,
    Shadow,
    Written,
)
from scorers.functions.version import FunctionVersion
from scorers.sandbox.model import Program
from spans.clock import Clock
from spans.errors import BadInput, Contended, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact


@dataclass(kw_only=True)
class _KeptBundle:
    org_id: OrgId
    secret_sha256: bytes
    bundle: Bundle | None = None

    @property
    def digest(self) -> str | None:
        return None if self.bundle is None else hashlib.sha256(self.bundle.content).hexdigest()


class MemoryBundles:
    """Implements scorers.functions.bundle.BundleStore."""

    def __init__(self) -> None:
        self._kept: dict[UUID, _KeptBundle] = {}

    def add_bundle(self, org_id: OrgId, bundle_id: UUID, secret_sha256: bytes) -> None:
        self._kept[bundle_id] = _KeptBundle(org_id=org_id, secret_sha256=secret_sha256)

    def secret_of(self, bundle_id: UUID) -> bytes | None:
        kept = self._kept.get(bundle_id)
        return None if kept is None else kept.secret_sha256

    def digest_of(self, org_id: OrgId, bundle_id: UUID) -> str | None:
        kept = self._kept.get(bundle_id)
        return kept.digest if kept is not None and kept.org_id == org_id else None

    def fill(self, bundle_id: UUID, content: bytes, encoding: str | None) -> bool:
        kept = self._kept.get(bundle_id)
        if kept is None or (kept.bundle is not None and kept.bundle.content != content):
            return False
        kept.bundle = Bundle(content=content, encoding=encoding)
        return True

    def bundle_content(self, sha256: str) -> Bundle | None:
        return next(
            (kept.bundle for kept in self._kept.values() if kept.digest == sha256), None
        )

    def is_of(self, org_id: OrgId, bundle_id: UUID) -> bool:
        """Whether the organisation has this bundle, with or without its bytes."""
        return bundle_id in self._kept and self._kept[bundle_id].org_id == org_id


@dataclass(frozen=True, kw_only=True)
class _KeptFunction:
    id: FunctionId
    org_id: OrgId
    project_id: ProjectId
    slug: str
    created: datetime
    in_force: Xact
    versions: Mapping[Xact, tuple[FunctionBody, Program | None]]
    shadow: Shadow | None = None
    is_deleted: bool = False


class MemoryFunctions:
    """Implements flows.functions.lookup.FunctionStore.

    `draw` gives each new version. `deleted` are called with each deleted function.
    """

    def __init__(
        self, projects: MemoryProjects, bundles: MemoryBundles, clock: Clock, *,
        draw: Callable[[], Xact],
    ) -> None:
        self._projects = projects
        self._bundles = bundles
        self._clock = clock
        self._draw = draw
        self._kept: dict[FunctionId, _KeptFunction] = {}
        self.deleted: list[Callable[[Function], None]] = []

    # --- writes

    def write(self, org_id: OrgId, writes: Sequence[FunctionWrite]) -> list[Written]:
        before = dict(self._kept)
        try:
            return [self._write_one(org_id, write) for write in writes]
        except Exception:
            self._kept = before
            raise

    def _write_one(self, org_id: OrgId, write: FunctionWrite) -> Written:
        wanted = write.definition
        slug = wanted.body.slug
        kept = self._of_slug(wanted.project_id, slug)
        if kept is None:
            if wanted.body.source is not None and write.program is None:
                raise Contended(f"the function {slug!r} has been deleted meanwhile")
            return Written(function=self._create(org_id, write), before=None)
        if wanted.if_exists is IfExists.ERROR:
            raise BadInput(f"the project has a function {slug!r}", path="slug")
        present = self._function(kept)
        if wanted.if_exists is IfExists.REPLACE:
            self._set_body(kept, wanted.body, write.program, wanted.shadow_rate)
        return Written(function=self._function(self._kept[kept.id]), before=present)

    def _create(self, org_id: OrgId, write: FunctionWrite) -> Function:
        wanted = write.definition
        if wanted.shadow_rate is not None:
            raise BadInput(f"{wanted.body.slug!r} is new", path="rollout")
        if self._projects.find_project(org_id, wanted.project_id) is None:
            raise NotFound("no such project")
        self._kept[write.new_id] = _KeptFunction(
            id=write.new_id, org_id=org_id, project_id=wanted.project_id,
            slug=wanted.body.slug, created=self._clock(), in_force=Xact(0), versions={},
        )
        version = self._add_version(self._kept[write.new_id], wanted.body, write.program)
        return self._change(write.new_id, in_force=version)

    def change(
        self, present: Function, body: FunctionBody, program: Program | None,
        shadow_rate: float | None,
    ) -> Function:
        kept = self._reloaded(present)
        if kept.in_force != present.version:
            raise Contended(f"{present.body.name!r} was changed meanwhile")
        if body.slug != kept.slug:
            if self._of_slug(kept.project_id, body.slug) is not None:
                raise BadInput(f"another function has the slug {body.slug!r}", path="slug")
            self._change(kept.id, slug=body.slug)
        self._set_body(self._kept[kept.id], body, program, shadow_rate)
        return self._function(self._kept[kept.id])

    def _set_body(
        self, kept: _KeptFunction, body: FunctionBody, program: Program | None,
        shadow_rate: float | None,
    ) -> None:
        if body == self._function(kept).body:
            return
        if shadow_rate is None:
            self._put_in_force(kept.id, self._add_version(kept, body, program))
            return
        _require_scorer(body, "be a shadow", path="rollout")
        if kept.shadow is not None and (
            self._function(kept, kept.shadow.version).body == body
        ):
            version = kept.shadow.version
        else:
            version = self._add_version(kept, body, program)
        self._change(kept.id, shadow=Shadow(version=version, rate=shadow_rate))

    def _add_version(
        self, kept: _KeptFunction, body: FunctionBody, program: Program | None
    ) -> Xact:
        bundle_id = body.bundle_id
        if bundle_id is not None and not self._bundles.is_of(kept.org_id, bundle_id):
            raise BadInput(
                f"there is no bundle {bundle_id}", path="function_data.data.bundle_id"
            )
        version = self._draw()
        versions = {**kept.versions, version: (body, program)}
        self._kept[kept.id] = replace(self._kept[kept.id], versions=versions)
        return version

    def delete(self, function: Function) -> None:
        self._change(function.id, is_deleted=True, shadow=None)
        for told in self.deleted:
            told(function)

    def set_shadow(self, function: Function, shadow: Shadow | None) -> Function:
        kept = self._reloaded(function)
        if shadow is not None:
            beside = self._at_version(kept, shadow.version)
            _require_scorer(beside.body, "be a shadow", path="version")
            if shadow.version == kept.in_force:
                raise BadInput("this version is in force", path="version")
        return self._change(kept.id, shadow=shadow)

    def promote(self, function: Function, version: Xact) -> Function:
        kept = self._reloaded(function)
        wanted = self._at_version(kept, version)
        if self._function(kept).body.queue is not None:
            _require_scorer(wanted.body, "take a scorer's place", path="version")
        return self._put_in_force(kept.id, version)

    def _put_in_force(self, function_id: FunctionId, version: Xact) -> Function:
        return self._change(function_id, in_force=version, shadow=None)

    def _change(self, function_id: FunctionId, **changes: object) -> Function:
        self._kept[function_id] = replace(self._kept[function_id], **changes)
        return self._function(self._kept[function_id])

    # --- reads

    def find(
        self, org_id: OrgId, function_id: FunctionId, version: Xact | None = None
    ) -> Function | None:
        kept = self._kept.get(function_id)
        if kept is None or kept.org_id != org_id or not self._is_there(kept):
            return None
        return self._found(kept, version)

    def named(
        self, org_id: OrgId, project_id: ProjectId, slug: str, version: Xact | None = None
    ) -> Function | None:
        kept = self._of_slug(project_id, slug)
        return None if kept is None else self.find(org_id, kept.id, version)

    def list_functions(
        self, org_id: OrgId, page: ListPage, wanted: FunctionFilter
    ) -> list[Function]:
        found = [
            self._function(kept, version)
            for kept in self._kept.values()
            for version in kept.versions
            if self._is_there(kept) and kept.org_id == org_id
            and version == (wanted.version or kept.in_force)
            and wanted.project_id in {None, kept.project_id}
            and wanted.slug in {None, kept.slug}
        ]
        if wanted.only_prompts:
            found = [
                each for each in found
                if each.body.function_data.get("type") == "prompt"
                and each.body.function_type is None
            ]
        return page_of(
            found, page, marks=self._kept.values(), name_of=lambda each: each.body.name
        )

    def versions(self, function: Function) -> list[Function]:
        kept = self._kept[function.id]
        return [self._function(kept, version) for version in sorted(kept.versions)[::-1]]

    def version(self, function_id: FunctionId, version: Xact) -> FunctionVersion | None:
        """The version, even if its function has been deleted since; None if unknown."""
        kept = self._kept.get(function_id)
        found = None if kept is None else self._found(kept, version)
        return None if found is None else found.as_version()

    def whether_deleted(
        self, function_id: FunctionId, version: Xact | None = None
    ) -> tuple[Function, bool] | None:
        """The function, deleted or not, and whether it was deleted itself; a rule may name it.
        """
        kept = self._kept.get(function_id)
        found = None if kept is None else self._found(kept, version)
        if kept is None or found is None:
            return None
        return found, not self._is_there(kept)

    def _found(self, kept: _KeptFunction, version: Xact | None) -> Function | None:
        at = kept.in_force if version is None else version
        return self._function(kept, at) if at in kept.versions else None

    def _function(self, kept: _KeptFunction, version: Xact | None = None) -> Function:
        at = kept.in_force if version is None else version
        written, program = kept.versions[at]
        body = written.model_copy(update={"slug": kept.slug})
        if program is None and body.bundle_id is not None:
            digest = self._bundles.digest_of(kept.org_id, body.bundle_id)
            program = None if digest is None else body.bundled_program(digest)
        return Function(
            id=kept.id, org_id=kept.org_id, project_id=kept.project_id, version=at,
            in_force=kept.in_force, created=kept.created, body=body, program=program,
            shadow=kept.shadow,
        )

    def _is_there(self, kept: _KeptFunction) -> bool:
        return not kept.is_deleted and self._projects.is_present(kept.project_id)

    def _of_slug(self, project_id: ProjectId, slug: str) -> _KeptFunction | None:
        return next(
            (
                kept for kept in self._kept.values()
                if kept.project_id == project_id and kept.slug == slug and self._is_there(kept)
            ),
            None,
        )

    def _reloaded(self, function: Function) -> _KeptFunction:
        kept = self._kept[function.id]
        if not self._is_there(kept):
            raise NotFound("no such function")
        return kept

    def _at_version(self, kept: _KeptFunction, version: Xact) -> Function:
        found = self._found(kept, version)
        if found is None:
            raise NotFound(f"there is no version {version}")
        return found


def _require_scorer(body: FunctionBody, use: str, *, path: str) -> None:
    if body.queue is None:
        raise BadInput(f"this version is not a scorer, and cannot {use}", path=path)
