"""The session of a command: the use cases, called as this machine's administrator."""

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
"""Projects that an error message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The use cases, and the administrator of this machine's organisation as their caller."""

    settings: Settings
    tallyard: Tallyard
    principal: Principal

    def project(self, name: str | None) -> Project:
        """The project of this name, or without a name the only project.

        Raises NotFound if there is no such project, or none or several to choose from.
        """
        projects = self.tallyard.projects
        if name is not None:
            return projects.named(self.principal, name)
        every = projects.list(self.principal, ListPage(limit=NAMES_SHOWN))
        if len(every) != 1:
            names = ", ".join(sorted(project.name for project in every)) or "none yet"
            raise NotFound(f"name a project with --project NAME (there are: {names})")
        return every[0]


@contextmanager
def open_session() -> Iterator[Session]:
    """Opens a session for a `with` block, and closes it at the end.

    Raises SetupError if Tallyard does not run.
    """
    settings = running_settings()
    with tallyard_for_command(settings) as tallyard:
        yield Session(
            settings=settings, tallyard=tallyard,
            principal=tallyard.organizations.administrator(settings.org_name),
        )
