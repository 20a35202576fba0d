"""Projects: found or made by name, within one organisation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from flows.access.keys import Principal
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import OrgId, ProjectId
from spans.json import JsonObject

NAME_CHARS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project as it is kept."""

    id: ProjectId
    org_id: OrgId
    name: str
    description: str | None
    settings: JsonObject | None
    created: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """Which part of a list: newest first, by id from where the last page ended."""

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
        """The project of this name, and whether it was there before."""
        ...

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None: ...

    def project_named(self, org_id: OrgId, name: str) -> Project | None: ...

    def list_projects(
        self, org_id: OrgId, page: ListPage, only: ProjectId | None
    ) -> list[Project]: ...

    def change_project(self, project_id: ProjectId, changes: JsonObject) -> Project: ...

    def delete_project(self, project_id: ProjectId) -> Project:
        """Hide the project at once; its rows and outcomes follow in the background."""
        ...


def get_or_create(
    store: ProjectStore,
    principal: Principal,
    *,
    name: str,
    new_id: ProjectId,
    description: str | None = None,
) -> tuple[Project, bool]:
    """The project of this name; an existing one comes back as it is.

    Raises Forbidden where the key is for another project alone.
    """
    checked = check_name(name)
    if principal.project_id is not None:
        own = get(store, principal, principal.project_id)
        if own.name != checked:
            raise Forbidden(f"this key is for the project {own.name!r} alone")
        return own, True
    return store.get_or_create_project(principal.org_id, new_id, checked, description)


def get(store: ProjectStore, principal: Principal, project_id: ProjectId) -> Project:
    """The project. Raises NotFound for another organisation's just as for none."""
    principal.require_project(project_id)
    project = store.find_project(principal.org_id, project_id)
    if project is None:
        raise NotFound("no such project")
    return project


def check_name(name: str) -> str:
    """The name, without the space around it. Raises BadInput."""
    stripped = name.strip()
    if not 0 < len(stripped) <= NAME_CHARS_MAX or not stripped.isprintable():
        raise BadInput(f"1 to {NAME_CHARS_MAX} printable characters", path="name")
    return stripped
