"""What API, pages and commands are given: the use cases, one object for each capability."""

from __future__ import annotations

from dataclasses import dataclass

from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.projects import Projects
from wiring.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallyard:
    """The use cases of one process. Share it between threads; build it anew after a fork."""

    organizations: Organizations
    keys: Keys
    projects: Projects


def make_tallyard(services: Services) -> Tallyard:
    """The use cases over these services."""
    return Tallyard(
        organizations=Organizations(services.projects),
        keys=Keys(services.keys, services.clock),
        projects=Projects(services.projects, ring=services.bell.ring),
    )
