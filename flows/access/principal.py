"""Who calls: the role and the reach that a use case checks before it does anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spans.errors import Forbidden, NotFound
from spans.ids import OrgId, ProjectId


class KeyRole(StrEnum):
    """What a key may do. `ingest` logs, `read` looks, `admin` does everything."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking: everything that a request may reach follows from this."""

    key_id: str
    org_id: OrgId
    org_name: str
    project_id: ProjectId | None
    role: KeyRole

    def require(self, *roles: KeyRole) -> None:
        """Raises Forbidden unless the key has one of the roles; admin has them all."""
        if self.role is not KeyRole.ADMIN and self.role not in roles:
            raise Forbidden(
                f"this key's role is {self.role.value}; this needs "
                f"{' or '.join((*roles, KeyRole.ADMIN))}"
            )

    def reaches(self, project_id: ProjectId) -> bool:
        """Whether the key is for this project, or for every project of its organisation."""
        return self.project_id is None or self.project_id == project_id

    def require_project(self, project_id: ProjectId) -> None:
        """Raises NotFound if the key is for another project alone."""
        if not self.reaches(project_id):
            raise NotFound("no such project")
