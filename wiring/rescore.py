"""Builds what plans and runs re-score jobs, from the services of a process."""

from __future__ import annotations

from flows.rescore.plan import Planner
from flows.rescore.run import JobRunner
from rules.rescore.estimate import Rates
from store.rescore.past_outcomes import StoredPastOutcomes
from store.rescore.rollback import Rollbacks
from store.rescore.selection import JobSelection
from store.rescore.steps import StoredSteps
from wiring.services import Services


def make_job_runner(services: Services) -> JobRunner:
    """The runner of all re-score jobs. Its process keeps it, with the jobs that it has read."""
    steps = StoredSteps(services.database, services.clock)
    selection = JobSelection(services.database)
    rollbacks = Rollbacks(services.database)
    return JobRunner(
        store=steps,
        select=lambda job: selection.select_some(
            job, rule=steps.rule(job), now=services.clock()
        ),
        roll_back=lambda job: not rollbacks.next_step(job.no).is_last,
        ring=services.bell.ring,
        cost_limit=services.settings.cost_limit,
    )


def make_planner(services: Services) -> Planner:
    """What plans jobs: over the stored rows, at the prices and limits of the settings."""
    endpoints = services.settings.judge_endpoints
    return Planner(
        counter=JobSelection(services.database), source=StoredPastOutcomes(services.database),
        rates=Rates(
            prices=endpoints.prices_of,
            in_flight=lambda model: (
                endpoints.default if model is None else endpoints.of(model)
            ).in_flight,
        ),
        clock=services.clock, model=services.settings.judge_model,
    )
