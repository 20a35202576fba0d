"""Settings -> services: everything that a process needs, built once, in one place."""

from __future__ import annotations

import random
from dataclasses import dataclass

from celery import Celery
from pydantic import SecretStr

from flows.judging import Judging
from flows.match import Matcher
from flows.score import RetryPolicy
from scorers.judge import Judge
from spans.clock import Clock, system_clock
from spans.errors import SetupError
from store.database import Database
from store.explain import ExplainRecords
from store.following import Following
from store.ingest import SpanWriter
from store.keys import Keys
from store.leases import Leases
from store.ledger import Ledger
from store.matching import MatchRecords
from store.outcomes import Outcomes
from store.projects import Projects
from store.reading import SpanReader
from store.recent import RecentRows
from store.rules import Rules
from store.upkeep import Retention, Upkeep
from wiring.bell import Bell
from wiring.celery import make_celery
from wiring.settings import Settings

LEASE_RENEWALS = 4
"""How many times a lease is renewed before it would run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """A process's collaborators. Share between threads; build anew after a fork."""

    settings: Settings
    clock: Clock
    database: Database
    celery: Celery
    bell: Bell
    spans: SpanWriter
    reader: SpanReader
    projects: Projects
    keys: Keys
    rules: Rules
    match_records: MatchRecords
    matcher: Matcher
    ledger: Ledger
    leases: Leases
    outcomes: Outcomes
    recent: RecentRows
    explain: ExplainRecords
    following: Following
    upkeep: Upkeep

    def judging(self) -> Judging:
        """The judge and its calls; to be made on the thread whose event loop will run it."""
        settings = self.settings
        key = settings.judge_api_key
        return Judging(
            store=self.ledger,
            judge=Judge(
                base_url=settings.judge_base_url,
                api_key=key.get_secret_value() if key else None,
                model=settings.judge_model,
                embedding_model=settings.judge_embedding_model,
                timeout_s=settings.judge_timeout_s,
                in_flight=settings.judge_in_flight,
            ),
            policy=RetryPolicy(
                attempts_max=settings.attempts_max,
                wait_max_s=settings.backoff_max_s,
                jitter=lambda: random.uniform(0.5, 1.5),  # noqa: S311 spreads, hides nothing
            ),
            in_flight_max=settings.judge_in_flight,
            renew_s=settings.lease_s / LEASE_RENEWALS,
        )

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


def open_services(settings: Settings, *, clock: Clock = system_clock) -> Services:
    """Build every service. Connects to nothing yet; raises SetupError if a URL is missing."""
    database = Database(_given(settings.database_url, "TALLYARD_DATABASE_URL"))
    redis_url = _given(settings.redis_url, "TALLYARD_REDIS_URL")
    celery = make_celery(redis_url)
    match_records = MatchRecords(database, clock, lease_s=settings.lease_s)
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        celery=celery,
        bell=Bell(celery, redis_url),
        spans=SpanWriter(database, clock, resend_minutes=settings.resend_minutes),
        reader=SpanReader(database, clock, query_timeout_s=settings.query_timeout_s),
        projects=Projects(database),
        keys=Keys(database),
        rules=Rules(database),
        match_records=match_records,
        matcher=Matcher(store=match_records, cost_limit=settings.cost_limit),
        leases=Leases(database, lease_s=settings.lease_s),
        outcomes=Outcomes(database),
        recent=RecentRows(database, clock),
        ledger=Ledger(
            database, clock, lease_s=settings.lease_s, heavy_timeout_s=settings.heavy_timeout_s
        ),
        explain=ExplainRecords(database, match_records),
        following=Following(database),
        upkeep=Upkeep(
            database,
            Retention(
                match_record_days=settings.match_record_days,
                rejected_row_days=settings.rejected_row_days,
                resend_minutes=settings.resend_minutes,
            ),
        ),
    )


def _given(secret: SecretStr | None, name: str) -> str:
    if secret is None:
        raise SetupError(
            f"{name} is not set: run `make run`, which starts a server and sets it, or set it"
        )
    return secret.get_secret_value()
