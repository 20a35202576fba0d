"""What API, pages and commands are given: the use cases, one object for each capability."""

from __future__ import annotations

from dataclasses import dataclass

from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.projects import Projects
from flows.health.health import Health
from flows.logs.limits import LogLimits
from flows.logs.logs import Logs
from spans.event import EventLimits
from store.postgres.counters import samples
from store.scoring.queue_depth import read_queue_depths
from wiring.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallyard:
    """The use cases of one process. Share it between threads; build it anew after a fork."""

    organizations: Organizations
    keys: Keys
    projects: Projects
    logs: Logs
    health: Health

    def close(self) -> None:
        """Finish what was begun: the services under it may be closed then."""
        self.logs.close()


def make_tallyard(services: Services) -> Tallyard:
    """The use cases over these services."""
    settings, ring = services.settings, services.bell.ring
    database = services.database
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
                event=EventLimits(depth_max=settings.depth_max, nodes_max=settings.nodes_max),
                fetch_limit_max=settings.fetch_limit_max,
            ),
        ),
        health=Health(
            check_database=database.check, is_redis_reachable=services.bell.is_reachable,
            sandbox_workers=services.sandbox_workers.present,
            samples=lambda: samples(database),
            queue_depths=lambda: read_queue_depths(database),
        ),
    )
