"""What the API and the commands are given: the use cases, one object for each capability."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from automations.secrets import new_signing_secret
from flows.access.keys import Keys
from flows.access.organizations import Organizations
from flows.access.projects import Projects
from flows.automations.automations import Automations
from flows.automations.deliveries import Deliveries
from flows.automations.history import AutomationHistory
from flows.automations.replays import Replays
from flows.automations.trial import Trials
from flows.budgets.budgets import Budgets
from flows.functions.functions import Functions
from flows.functions.invocations import FunctionInvocations
from flows.functions.lookup import FunctionLookup
from flows.functions.uploads import BundleUploads
from flows.health.health import Health
from flows.logs.limits import LogLimits
from flows.logs.logs import Logs
from flows.outcomes.outcomes import Outcomes
from flows.rescore.rescores import Rescores
from flows.rules.rules import Rules
from spans.event import EventLimits
from spans.ids import OrgId, ProjectId
from spans.queues import WEBHOOKS
from store.automations.backlog import read_sending
from store.budgets.budgets import read_budget_measures
from store.postgres.counters import samples
from store.scoring.queues import read_queue_depths, read_waiting
from wiring.automations import app_url
from wiring.rescore import make_planner
from wiring.services import Services, open_services
from wiring.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallyard:
    """The use cases of one process. Share it between threads; build it anew after a fork."""

    organizations: Organizations
    keys: Keys
    projects: Projects
    logs: Logs
    health: Health
    functions: Functions
    invocations: FunctionInvocations
    uploads: BundleUploads
    rules: Rules
    budgets: Budgets
    automations: Automations
    deliveries: Deliveries
    automation_history: AutomationHistory
    automation_replays: Replays
    automation_trials: Trials
    outcomes: Outcomes
    rescores: Rescores

    def close(self) -> None:
        """Finish what was begun: the services under it may be closed then."""
        self.logs.close()


@contextmanager
def tallyard_for_command(settings: Settings) -> Iterator[Tallyard]:
    """The use cases for a process that ends soon: each ring is waited for.

    Raises SetupError if the URL of the database or of Redis is not set.
    """
    services = open_services(settings)
    tallyard = make_tallyard(services, ring=services.bell.ring_now)
    try:
        yield tallyard
    finally:
        tallyard.close()
        services.close()


def make_tallyard(services: Services, *, ring: Callable[[str], None]) -> Tallyard:
    """The use cases over these services; `ring` has the workers of a queue look for work."""
    settings, database = services.settings, services.database
    value_limits = EventLimits(depth_max=settings.depth_max, nodes_max=settings.nodes_max)
    projects = Projects(services.projects, ring=ring)
    lookup = FunctionLookup(
        store=services.functions, projects=projects, client=services.invocation_client
    )
    rules = Rules(
        services.rules, projects=projects, lookup=lookup
    )

    def project_of_job(org_id: OrgId, job_id: UUID) -> ProjectId | None:
        job = services.jobs.find(org_id, job_id)
        return None if job is None else job.project_id

    automations = Automations(
        services.automations, projects=projects, box=services.secret_box,
        check_url=settings.outbound_policy.target, new_secret=new_signing_secret,
    )
    deliveries = Deliveries(
        services.deliveries, automations=automations, projects=projects,
        seal=services.secret_box.seal, ring=lambda: ring(WEBHOOKS), clock=services.clock,
        pause=threading.Event().wait,
    )
    budgets = Budgets(
        services.budgets, projects=projects, rules=rules, ring=ring,
        project_of_job=project_of_job,
    )
    return Tallyard(
        organizations=Organizations(services.projects),
        keys=Keys(services.keys, services.clock, projects=projects),
        projects=projects,
        logs=Logs(
            projects=projects, store=services.spans, reader=services.reader,
            feed=services.change_feed, expiry=services.expiry, ring=ring,
            limits=LogLimits(
                rows_per_request_max=settings.rows_per_request_max,
                span_bytes_max=settings.span_bytes_max,
                event=value_limits,
                fetch_limit_max=settings.fetch_limit_max,
            ),
        ),
        health=Health(
            check_database=database.check, is_redis_reachable=services.bell.is_reachable,
            sandbox_workers=services.sandbox_workers.present,
            samples=lambda: samples(database),
            queue_depths=lambda: read_queue_depths(database),
            waiting=lambda: replace(
                read_waiting(database), budgets=read_budget_measures(database)
            ),
            sending=lambda: read_sending(database),
        ),
        functions=Functions(
            services.functions, pairs_of=services.shadows.pairs, bundles=services.bundles,
            projects=projects, lookup=lookup, client=services.invocation_client,
        ),
        invocations=FunctionInvocations(
            services.functions, lookup=lookup, client=services.invocation_client,
            reader=services.reader, projects=projects, limits=value_limits,
        ),
        uploads=BundleUploads(services.bundles),
        rules=rules,
        budgets=budgets,
        automations=automations,
        deliveries=deliveries,
        automation_history=AutomationHistory(automations, services.evaluations),
        automation_replays=Replays(
            projects=projects, rows=services.dated_rows, clock=services.clock
        ),
        automation_trials=Trials(
            automations, projects=projects, rows=services.dated_rows,
            check_url=settings.outbound_policy.target, send=deliveries.send_test,
            app_url=app_url(settings), clock=services.clock, seconds=time.monotonic,
        ),
        outcomes=Outcomes(
            services.outcomes, explained=services.explain, projects=projects, rules=rules,
            ring=ring,
        ),
        rescores=Rescores(
            services.jobs, records=services.job_records, planner=make_planner(services),
            budgets=budgets, projects=projects, rules=rules, lookup=lookup, ring=ring,
        ),
    )
