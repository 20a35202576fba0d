"""Organisations, projects and API keys in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fakes.memory.pages import page_of

from flows.access.keys import ApiKey
from flows.access.principal import Principal
from flows.access.projects import ListPage, Project
from spans.clock import Clock
from spans.errors import BadInput
from spans.ids import OrgId, ProjectId
from spans.json import JsonObject

TOUCH_EVERY = timedelta(minutes=1)


class MemoryProjects:
    """Implements flows.access.projects.ProjectStore and OrganizationStore."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.org_names: dict[OrgId, str] = {}
        self.projects: dict[ProjectId, Project] = {}

    def ensure_organization(self, org_id: OrgId, name: str) -> OrgId:
        for known, known_name in self.org_names.items():
            if known_name == name:
                return known
        self.org_names[org_id] = name
        return org_id

    def get_or_create_project(
        self, org_id: OrgId, new_id: ProjectId, name: str, description: str | None
    ) -> tuple[Project, bool]:
        if (known := self.project_named(org_id, name)) is not None:
            return known, True
        self.projects[new_id] = Project(
            id=new_id, org_id=org_id, name=name, description=description, settings=None,
            created=self._clock(),
        )
        return self.projects[new_id], False

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None:
        found = self.projects.get(project_id)
        return found if found in self._present(org_id) else None

    def project_named(self, org_id: OrgId, name: str) -> Project | None:
        return next((each for each in self._present(org_id) if each.name == name), None)

    def list_projects(
        self, org_id: OrgId, page: ListPage, only: ProjectId | None
    ) -> list[Project]:
        found = [each for each in self._present(org_id) if only in {None, each.id}]
        return page_of(
            found, page, marks=self.projects.values(), name_of=lambda each: each.name
        )

    def change_project(self, project_id: ProjectId, changes: JsonObject) -> Project:
        present = self.projects[project_id]
        name = changes.get("name") or present.name
        namesake = self.project_named(present.org_id, str(name))
        if namesake is not None and namesake.id != project_id:
            raise BadInput(f"another project is named {name!r}", path="name")
        settings = changes.get("settings")
        added = settings if isinstance(settings, dict) else {}
        description = changes.get("description", present.description)
        self.projects[project_id] = replace(
            present, name=str(name), settings={**(present.settings or {}), **added},
            description=None if description is None else str(description),
        )
        return self.projects[project_id]

    def delete_project(self, project_id: ProjectId) -> Project:
        present = self.projects[project_id]
        if present.deleted_at is None:
            self.projects[project_id] = replace(present, deleted_at=self._clock())
        return self.projects[project_id]

    def is_present(self, project_id: ProjectId) -> bool:
        """Whether the project exists: other stores hide what belongs to a deleted one."""
        found = self.projects.get(project_id)
        return found is not None and found.deleted_at is None

    def _present(self, org_id: OrgId) -> list[Project]:
        return [
            each for each in self.projects.values()
            if each.org_id == org_id and each.deleted_at is None
        ]


class MemoryKeys:
    """Implements flows.access.keys.KeyStore."""

    def __init__(self, projects: MemoryProjects, clock: Clock) -> None:
        self._projects = projects
        self._clock = clock
        self._keys: dict[str, tuple[ApiKey, bytes]] = {}

    def add_key(self, key: ApiKey, secret_sha256: bytes) -> None:
        self._keys[key.id] = key, secret_sha256

    def find_key(self, key_id: str) -> tuple[Principal, bytes] | None:
        if key_id not in self._keys:
            return None
        key, secret_sha256 = self._keys[key_id]
        if key.revoked_at is not None:
            return None
        return Principal(
            key_id=key.id, key_name=key.name, org_id=key.org_id,
            org_name=self._projects.org_names[key.org_id], project_id=key.project_id,
            role=key.role,
        ), secret_sha256

    def list_keys(self, org_id: OrgId, only: ProjectId | None) -> list[ApiKey]:
        found = [
            key for key, _ in self._keys.values()
            if key.org_id == org_id and only in {None, key.project_id}
        ]
        return sorted(found, key=lambda key: key.created, reverse=True)

    def revoke_key(self, org_id: OrgId, key_id: str, only: ProjectId | None) -> bool:
        if key_id not in {key.id for key in self.list_keys(org_id, only)}:
            return False
        key, secret_sha256 = self._keys[key_id]
        revoked = replace(key, revoked_at=key.revoked_at or self._clock())
        self._keys[key_id] = revoked, secret_sha256
        return True

    def touch_key(self, key_id: str) -> None:
        now = self._clock()
        key, secret_sha256 = self._keys[key_id]
        if key.last_used_at is None or key.last_used_at < now - TOUCH_EVERY:
            self._keys[key_id] = replace(key, last_used_at=now), secret_sha256
