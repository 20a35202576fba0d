"""Projects of an organisation, and which of them a key reaches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from cachetools import TTLCache

from flows.access.principal import KeyRole, Principal
from flows.access.use_case import use_case
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import ObjectId, OrgId, ProjectId
from spans.json import JsonObject
from spans.queues import UPKEEP
from spans.row import ObjectRef, ObjectType

NAME_CHARS_MAX = 256

TRUSTED_S = 3.0
"""How long `logs_of` trusts that a key reaches a project, seconds. A deleted project takes
rows no longer than this."""

TRUSTED_MAX = 10_000
"""Pairs of caller and project that are trusted at once, which bounds their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A stored project."""

    id: ProjectId
    org_id: OrgId
    name: str
    description: str | None
    settings: JsonObject | None
    created: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """Which part of a list to return. Lists are sorted newest first.

    `starting_after` and `ending_before` are ids of items of another page. `ids` and `name`
    limit the list to items with these; empty and None mean all.
    """

    limit: int
    starting_after: str | None = None
    ending_before: str | None = None
    ids: tuple[str, ...] = ()
    name: str | None = None


class ProjectStore(Protocol):
    """Where projects are kept."""

    def get_or_create_project(
        self, org_id: OrgId, new_id: ProjectId, name: str, description: str | None
    ) -> tuple[Project, bool]:
        """The project with this name, and whether it existed before."""
        ...

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None: ...

    def project_named(self, org_id: OrgId, name: str) -> Project | None: ...

    def list_projects(
        self, org_id: OrgId, page: ListPage, only: ProjectId | None
    ) -> list[Project]: ...

    def change_project(self, project_id: ProjectId, changes: JsonObject) -> Project: ...

    def delete_project(self, project_id: ProjectId) -> Project:
        """Hides the project at once. Its rows and outcomes are deleted in the background."""
        ...


class Projects:
    """The projects of an organisation: the one place that decides what a key reaches.

    Another organisation's project, a deleted one and one that the key is not for all raise the
    same NotFound, so that nobody can tell them apart. Thread-safe.
    """

    def __init__(
        self, store: ProjectStore, *, ring: Callable[[str], None],
        new_id: Callable[[], UUID] = uuid4, seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ring = ring
        self._new_id = new_id
        # By the whole caller and not by its key's id, because on the command line the
        # administrators of all organisations have the same one.
        self._reached: TTLCache[tuple[Principal, ProjectId], ObjectRef] = TTLCache(
            TRUSTED_MAX, TRUSTED_S, timer=seconds
        )
        self._lock = threading.Lock()   # cachetools' caches are not thread-safe

    @use_case(KeyRole.INGEST)
    def get_or_create(
        self, principal: Principal, name: str, description: str | None = None
    ) -> tuple[Project, bool]:
        """The project with this name, and whether it existed before; if so it is unchanged.

        Raises BadInput for an invalid name, and Forbidden if the key is limited to a project
        with another name.
        """
        checked = check_name(name)
        if principal.project_id is not None:
            own = self._reachable(principal, principal.project_id)
            if own.name != checked:
                raise Forbidden(f"this key is for the project {own.name!r} only")
            return own, True
        new_id = ProjectId(self._new_id())
        return self._store.get_or_create_project(
            principal.org_id, new_id, checked, description
        )

    @use_case()
    def replace(
        self, principal: Principal, name: str, description: str | None
    ) -> tuple[Project, bool]:
        """The project with this name and description, and whether it existed before.

        Its settings stay. Raises as `get_or_create`.
        """
        project, existed = self.get_or_create(principal, name, description)
        if existed and project.description != description:
            project = self._store.change_project(project.id, {"description": description})
        return project, existed

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def get(self, principal: Principal, project_id: ProjectId) -> Project:
        """The project. Raises NotFound if there is none that the key reaches."""
        return self._reachable(principal, project_id)

    @use_case(KeyRole.INGEST, KeyRole.READ)
    def named(self, principal: Principal, name: str) -> Project:
        """The project with this name. Raises NotFound if there is none that the key reaches."""
        project = self._store.project_named(principal.org_id, name)
        if project is None or not principal.reaches(project.id):
            raise NotFound(f"there is no project {name!r}")
        return project

    @use_case(KeyRole.READ)
    def list(self, principal: Principal, page: ListPage) -> list[Project]:
        """The projects that the key reaches, newest first."""
        return self._store.list_projects(principal.org_id, page, principal.project_id)

    @use_case()
    def change(
        self, principal: Principal, project_id: ProjectId, changes: JsonObject
    ) -> Project:
        """Replaces the name and the description that `changes` gives, and merges its settings.

        Returns the changed project. Raises NotFound, and BadInput for a name that is invalid or
        that another project has.
        """
        project = self._reachable(principal, project_id)
        if isinstance(name := changes.get("name"), str):
            changes = {**changes, "name": check_name(name)}
        return self._store.change_project(project.id, changes)

    @use_case()
    def delete(self, principal: Principal, project_id: ProjectId) -> Project:
        """Hides the project at once. Its rows and outcomes are deleted in the background."""
        project = self._reachable(principal, project_id)
        gone = self._store.delete_project(project.id)
        with self._lock:
            self._reached.clear()
        self._ring(UPKEEP)
        return gone

    def trusted_logs_of(
        self, principal: Principal, project_id: ProjectId
    ) -> ObjectRef | None:
        """The project's logs, if `logs_of` returned them for this caller in the last TRUSTED_S.

        Never waits for the store, so an event loop may call it.
        """
        with self._lock:
            return self._reached.get((principal, project_id))

    def logs_of(self, principal: Principal, project_id: ProjectId) -> ObjectRef:
        """The project's logs. Raises NotFound if there are none that the key reaches.

        This is not a use case of its own: other use cases begin with it.
        """
        if (trusted := self.trusted_logs_of(principal, project_id)) is not None:
            return trusted
        self._reachable(principal, project_id)
        logs = ObjectRef(project_id, ObjectType.PROJECT_LOGS, ObjectId(project_id))
        with self._lock:
            self._reached[principal, project_id] = logs
        return logs

    def scope(
        self, principal: Principal, project_id: ProjectId | None, name: str | None
    ) -> ProjectId | None:
        """The project that a list is limited to; None for all projects of the organisation.

        A request may name a project by id or by name. A key for one project never reaches
        another: NotFound, as for a name that no project has.
        """
        if project_id is None and name is not None:
            found = self._store.project_named(principal.org_id, name)
            if found is None:
                raise NotFound(f"there is no project {name!r}")
            project_id = found.id
        if project_id is None:
            return principal.project_id
        principal.require_project(project_id)
        return project_id

    def _reachable(self, principal: Principal, project_id: ProjectId) -> Project:
        principal.require_project(project_id)
        project = self._store.find_project(principal.org_id, project_id)
        if project is None:
            raise NotFound("no such project")
        return project


def check_name(name: str) -> str:
    """The name without the spaces around it. Raises BadInput for an invalid name."""
    stripped = name.strip()
    if not 0 < len(stripped) <= NAME_CHARS_MAX or not stripped.isprintable():
        raise BadInput(f"must have 1 to {NAME_CHARS_MAX} printable characters", path="name")
    return stripped
