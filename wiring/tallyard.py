"""What API, pages and commands are given: the use cases, one object for each capability."""

from __future__ import annotations

from dataclasses import dataclass

from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.projects import Projects
from flows.logs.limits import LogLimits
from flows.logs.logs import Logs
from spans.event import Limits
from wiring.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallyard:
    """The use cases of one process. Share it between threads; build it anew after a fork."""

    organizations: Organizations
    keys: Keys
    projects: Projects
    logs: Logs

    def close(self) -> None:
        """Finish what was begun: the services under it may be closed then."""
        self.logs.close()


def make_tallyard(services: Services) -> Tallyard:
    """The use cases over these services."""
    settings, ring = services.settings, services.bell.ring
    projects = Projects(services.projects, ring=ring)
    return Tallyard(
        organizations=Organizations(services.projects),
        keys=Keys(services.keys, services.clock),
        projects=projects,
        logs=Logs(
            projects=projects, store=services.spans, reader=services.reader,
            feed=services.change_feed, ring=ring,
            limits=LogLimits(
                rows_per_request_max=settings.rows_per_request_max,
                span_bytes_max=settings.span_bytes_max,
                event=Limits(depth_max=settings.depth_max, nodes_max=settings.nodes_max),
                fetch_limit_max=settings.fetch_limit_max,
            ),
        ),
    )
