"""The caller of a use case: the role and the projects that are checked before anything else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spans.errors import Forbidden, NotFound
from spans.ids import OrgId, ProjectId


class KeyRole(StrEnum):
    """What a key may do: `ingest` writes logs, `read` reads, `admin` does everything."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller. `project_id` is the only project that it reaches; None: all of `org_id`."""

    key_id: str
    key_name: str
    org_id: OrgId
    org_name: str
    project_id: ProjectId | None
    role: KeyRole

    def require(self, *roles: KeyRole) -> None:
        """Raises Forbidden unless the caller has one of the roles, or is an administrator."""
        if self.role is not KeyRole.ADMIN and self.role not in roles:
            raise Forbidden(
                f"this key has the role {self.role.value}; this request needs "
                f"{' or '.join((*roles, KeyRole.ADMIN))}"
            )

    def reaches(self, project_id: ProjectId) -> bool:
        """Whether the caller may use this project, if it belongs to the organisation."""
        return self.project_id is None or self.project_id == project_id

    def require_project(self, project_id: ProjectId) -> None:
        """Raises NotFound if the caller is limited to another project."""
        if not self.reaches(project_id):
            raise NotFound("no such project")
