"""Builds, from settings, the services that a process needs."""

from __future__ import annotations

from dataclasses import dataclass

from celery import Celery
from pydantic import SecretStr

from automations.secrets import SecretBox
from flows.budgets.purse import Purses
from flows.invocations.client import InvocationClient
from flows.scoring.match import Matcher
from spans.clock import Clock, system_clock
from spans.errors import SetupError
from spans.queues import SANDBOX
from store.access.keys import StoredKeys
from store.access.projects import StoredProjects
from store.automations.automations import StoredAutomations
from store.automations.dated_rows import DatedRows
from store.automations.deliveries import StoredDeliveries
from store.automations.evaluations import Evaluations
from store.budgets.budgets import StoredBudgets
from store.budgets.held import HeldOutcomes
from store.budgets.purses import StoredPurses
from store.functions.bundles import Bundles
from store.functions.functions import StoredFunctions
from store.functions.shadows import Shadows
from store.invocations.answers import AnswerListener
from store.invocations.invocations import Invocations
from store.logs.change_feed import ChangeFeed
from store.logs.expiry import LogExpiry
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.logs.traces import Traces
from store.outcomes.explain import ExplainRecords
from store.outcomes.outcomes import StoredOutcomes
from store.postgres.database import Database
from store.postgres.leases import Leases
from store.rescore.jobs import StoredJobs
from store.rescore.reports import JobRecords
from store.retention import Retention, Upkeep
from store.rules.rules import StoredRules
from store.scoring.circuits import Circuits
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords
from store.scoring.sandbox_workers import SandboxWorkers
from wiring.bell import Bell
from wiring.celery import make_celery, time_limits_s
from wiring.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services of one process. Threads may share them; build them anew after a fork."""

    settings: Settings
    clock: Clock
    secret_box: SecretBox
    database: Database
    celery: Celery
    bell: Bell
    spans: SpanWriter
    reader: SpanReader
    projects: StoredProjects
    keys: StoredKeys
    rules: StoredRules
    automations: StoredAutomations
    deliveries: StoredDeliveries
    evaluations: Evaluations
    dated_rows: DatedRows
    functions: StoredFunctions
    shadows: Shadows
    bundles: Bundles
    match_records: MatchRecords
    matcher: Matcher
    ledger: Ledger
    circuits: Circuits
    budgets: StoredBudgets
    purses: Purses
    held: HeldOutcomes
    leases: Leases
    outcomes: StoredOutcomes
    jobs: StoredJobs
    job_records: JobRecords
    explain: ExplainRecords
    change_feed: ChangeFeed
    traces: Traces
    sandbox_workers: SandboxWorkers
    invocations: Invocations
    answers: AnswerListener
    invocation_client: InvocationClient
    expiry: LogExpiry
    upkeep: Upkeep

    def close(self) -> None:
        """Close all connections."""
        self.purses.close()
        self.answers.close()
        self.database.close()


def open_services(settings: Settings, *, clock: Clock = system_clock) -> Services:
    """All services, connected to nothing yet. Raises SetupError if a URL is not set."""
    database = Database(_given(settings.database_url, "TALLYARD_DATABASE_URL"))
    redis_url = _given(settings.redis_url, "TALLYARD_REDIS_URL")
    celery = make_celery(redis_url)
    bell = Bell(celery, redis_url)
    match_records = MatchRecords(database, clock, lease_s=settings.lease_s)
    answers = AnswerListener(database, patience_s=settings.invoke_timeout_s)
    invocations = Invocations(
        database, lease_s=settings.lease_s, patience_s=settings.invoke_timeout_s
    )
    traces = Traces(database)
    sandbox_workers = SandboxWorkers(database)
    return Services(
        settings=settings,
        clock=clock,
        secret_box=SecretBox(settings.secret_keys),
        database=database,
        celery=celery,
        bell=bell,
        spans=SpanWriter(database, clock, resend_minutes=settings.resend_minutes),
        reader=SpanReader(database, clock, query_timeout_s=settings.query_timeout_s),
        projects=StoredProjects(database),
        keys=StoredKeys(database),
        rules=StoredRules(database),
        automations=StoredAutomations(database),
        deliveries=StoredDeliveries(database),
        evaluations=Evaluations(database),
        dated_rows=DatedRows(database),
        functions=StoredFunctions(database),
        shadows=Shadows(database),
        bundles=Bundles(database),
        match_records=match_records,
        matcher=Matcher(store=match_records, cost_limit=settings.cost_limit),
        leases=Leases(database, lease_s=settings.lease_s),
        outcomes=StoredOutcomes(database),
        jobs=StoredJobs(database),
        job_records=JobRecords(database),
        ledger=Ledger(
            database, clock, lease_s=settings.lease_s, time_limits_s=time_limits_s(settings)
        ),
        circuits=Circuits(
            database, budget_s=settings.retry_budget_s, wait_max_s=settings.backoff_max_s
        ),
        budgets=StoredBudgets(database),
        purses=Purses(
            StoredPurses(database), answer_tokens_max=settings.judge_output_tokens_max
        ),
        held=HeldOutcomes(database),
        explain=ExplainRecords(database, match_records),
        change_feed=ChangeFeed(database),
        traces=traces,
        sandbox_workers=sandbox_workers,
        invocations=invocations,
        answers=answers,
        invocation_client=InvocationClient(
            store=invocations, answers=answers, ring=bell.ring,
            refusal=lambda queue: sandbox_workers.refusal() if queue == SANDBOX else None,
        ),
        expiry=LogExpiry(database),
        upkeep=Upkeep(
            database,
            Retention(
                log_days=settings.log_days,
                match_record_days=settings.match_record_days,
                rejected_row_days=settings.rejected_row_days,
                resend_minutes=settings.resend_minutes,
                invocation_days=settings.invocation_days,
                judge_cache_days=settings.judge_cache_days,
            ),
            clock,
        ),
    )


def _given(secret: SecretStr | None, name: str) -> str:
    if secret is None:
        raise SetupError(
            f"{name} is not set: set it, or use `make run`, which starts a server and sets it"
        )
    return secret.get_secret_value()
