"""The use cases over stores in memory, for one organisation."""

from __future__ import annotations

import uuid

from fakes.memory.access import MemoryKeys, MemoryProjects
from fakes.memory.logs import MemoryRows
from fakes.memory.ticks import Ticks

from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.logs.limits import LogLimits
from flows.logs.logs import Logs
from spans.event import EventLimits
from spans.ids import ProjectId

LIMITS = LogLimits(
    rows_per_request_max=3, span_bytes_max=1000,
    event=EventLimits(depth_max=8, nodes_max=100), fetch_limit_max=10,
)


class MemoryTallyard:
    """Use cases and the stores under them.

    `rung` lists the queues that were rung. `now_s` is the time by which keys and projects are
    trusted, in seconds; a test moves it on. `logs` is to be closed at the end.
    """

    def __init__(self) -> None:
        self.clock = Ticks()
        self.now_s = 0.0
        self.rung: list[str] = []
        self.stored_projects = MemoryProjects(self.clock)
        self.stored_keys = MemoryKeys(self.stored_projects, self.clock)
        self.projects = Projects(
            self.stored_projects, ring=self.rung.append, seconds=lambda: self.now_s
        )
        self.keys = Keys(
            self.stored_keys, self.clock, projects=self.projects, seconds=lambda: self.now_s
        )
        self.rows = MemoryRows(self.stored_projects, self.clock)
        self.logs = Logs(
            projects=self.projects, store=self.rows, reader=self.rows, feed=self.rows,
            ring=self.rung.append, limits=LIMITS,
        )
        self.organizations = Organizations(self.stored_projects)
        self.admin = self.organizations.administrator("acme")

    def project(self, name: str, of: Principal | None = None) -> ProjectId:
        """A project of the organisation, or of that of another administrator."""
        made, _ = self.projects.get_or_create(of or self.admin, name)
        return made.id

    def caller(
        self, role: KeyRole = KeyRole.ADMIN, project_id: ProjectId | None = None
    ) -> Principal:
        """A caller of the organisation, for one project or for all."""
        return Principal(
            key_id=f"key {uuid.uuid4()}", org_id=self.admin.org_id,
            org_name=self.admin.org_name, project_id=project_id, role=role,
        )

    def stranger(self) -> Principal:
        """An administrator of another organisation."""
        return self.organizations.administrator("strangers")
