"""What a command works with: the use cases, called as this machine's administrator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.access.principal import Principal
from flows.access.projects import ListPage, Project
from ops.commands.instance import running_settings
from spans.errors import NotFound
from wiring.settings import Settings
from wiring.tallyard import Tallyard, tallyard_for_command

NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The use cases, and the administrator of this machine's organisation, who calls them."""

    settings: Settings
    tallyard: Tallyard
    principal: Principal

    def project(self, name: str | None) -> Project:
        """The project of this name, or the only one there is. Raises NotFound."""
        projects = self.tallyard.projects
        if name is not None:
            return projects.named(self.principal, name)
        every = projects.list(self.principal, ListPage(limit=NAMES_SHOWN))
        if len(every) != 1:
            names = ", ".join(sorted(project.name for project in every)) or "none yet"
            raise NotFound(f"name the project: --project NAME (there are: {names})")
        return every[0]


@contextmanager
def opened() -> Iterator[Opened]:
    """Opens the use cases; closes them at the end. Raises SetupError where nothing runs."""
    settings = running_settings()
    with tallyard_for_command(settings) as tallyard:
        yield Opened(
            settings=settings, tallyard=tallyard,
            principal=tallyard.organizations.administrator(settings.org_name),
        )
