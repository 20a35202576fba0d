"""The services of a command: opened for its run, on what runs now."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.access.projects import ListPage, Project
from ops.commands.instance import running_settings
from spans.errors import NotFound
from spans.ids import OrgId
from wiring.services import Services, open_services

NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The services, and the organisation that this machine serves."""

    services: Services
    org_id: OrgId

    def project(self, name: str | None) -> Project:
        """The project of this name, or the only one there is. Raises NotFound."""
        projects = self.services.projects
        if name is not None:
            if (found := projects.project_named(self.org_id, name)) is None:
                raise NotFound(f"there is no project {name!r}")
            return found
        every = projects.list_projects(self.org_id, ListPage(limit=NAMES_SHOWN), None)
        if len(every) != 1:
            names = ", ".join(sorted(project.name for project in every)) or "none yet"
            raise NotFound(f"name the project: --project NAME (there are: {names})")
        return every[0]


@contextmanager
def opened() -> Iterator[Opened]:
    """Open the services; close them at the end. Raises SetupError where nothing runs."""
    settings = running_settings()
    services = open_services(settings)
    try:
        org_id = services.projects.ensure_organization(
            OrgId(uuid.uuid4()), settings.org_name
        )
        yield Opened(services=services, org_id=org_id)
    finally:
        services.close()
