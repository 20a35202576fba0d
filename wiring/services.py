"""Settings -> services: everything that a process needs, built once, in one place."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass

from celery import Celery
from pydantic import SecretStr

from flows.invocations.client import Calls
from flows.invocations.runners import InProcess, Judged
from flows.invocations.server import Answering, Builder, Runner
from flows.scoring.code_batches import CodeBatches
from flows.scoring.judge_executor import Judging
from flows.scoring.match import Matcher
from flows.scoring.sandbox_executor import Sandboxing
from flows.scoring.score import RetryPolicy
from scorers.functions.source import KeptFunctions
from scorers.judge.client import Judge
from scorers.running.code import CodeBuilder, CodeScorers
from scorers.running.judged import JudgedScorers
from scorers.sandbox.lending.broker import Broker
from scorers.sandbox.model import Limits
from scorers.sandbox.place import Place, Tier, find_place, unavailable
from scorers.sandbox.pool import Sandboxes
from spans.clock import Clock, system_clock
from spans.errors import SetupError
from spans.queues import HEAVY, JUDGE, SANDBOX
from store.access.keys import Keys
from store.access.projects import Projects
from store.functions.bundles import Bundles
from store.functions.functions import Functions
from store.functions.shadows import Shadows
from store.invocations.answers import Answers
from store.invocations.invocations import Invocations
from store.logs.change_feed import Following
from store.logs.fetch import SpanReader
from store.logs.ingest import SpanWriter
from store.logs.traces import Traces
from store.outcomes.explain import ExplainRecords
from store.outcomes.outcomes import Outcomes
from store.postgres.database import Database
from store.postgres.leases import Leases
from store.retention import Retention, Upkeep
from store.rules.recent_rows import RecentRows
from store.rules.rules import Rules
from store.scoring.judge_cache import JudgeAnswers
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords
from store.scoring.sandbox_workers import SandboxWorkers
from store.scoring.token_budget import TokenBudgets
from wiring.bell import Bell
from wiring.celery import make_celery
from wiring.settings import Settings

JUDGED_CALLS = 32
"""Calls that wait which one judge worker answers at once, each on a thread that waits too."""

CALL_ATTEMPTS = 3
CALL_WAIT_MAX_S = 5.0
"""How often, and after which longest pause, a judge is asked again while a caller waits."""

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
    functions: Functions
    shadows: Shadows
    bundles: Bundles
    match_records: MatchRecords
    matcher: Matcher
    ledger: Ledger
    leases: Leases
    outcomes: Outcomes
    recent: RecentRows
    explain: ExplainRecords
    following: Following
    traces: Traces
    sandbox_workers: SandboxWorkers
    invocations: Invocations
    answers: Answers
    calls: Calls
    heavy_calls: Answering
    upkeep: Upkeep

    def judging(self) -> Judging:
        """The judge and its calls; to be made on the event loop that will run it."""
        settings = self.settings
        key = settings.judge_api_key
        scorers = JudgedScorers(
            judge=Judge(
                base_url=settings.judge_base_url,
                api_key=key.get_secret_value() if key else None,
                model=settings.judge_model,
                embedding_model=settings.judge_embedding_model,
                timeout_s=settings.judge_timeout_s,
                in_flight=settings.judge_in_flight,
            ),
            functions=KeptFunctions(self.functions),
            traces=self.traces,
            cache=JudgeAnswers(self.database, days=settings.judge_cache_days)
            if settings.judge_cache_days
            else None,
        )
        answering = self.answering(
            JUDGE,
            Judged(
                scorers=scorers, loop=asyncio.get_running_loop(),
                policy=self._retry_policy(CALL_ATTEMPTS, CALL_WAIT_MAX_S),
            ),
            at_once=JUDGED_CALLS,
        )
        return Judging(
            store=self.ledger,
            scorers=scorers,
            policy=self._retry_policy(),
            in_flight_max=settings.judge_in_flight,
            renew_s=settings.lease_s / LEASE_RENEWALS,
            meanwhile=answering.look,
            stopping=answering.stopping,
        )

    def sandbox_place(self) -> Place:
        """Where users' code is contained. Raises SandboxUnavailable where nothing does that."""
        settings = self.settings
        if settings.sandbox == "off":
            raise unavailable("TALLYARD_SANDBOX is off (unset it, or set it to auto)")
        packages = settings.scorer_packages_dir
        has_packages = packages.is_dir()
        return find_place(
            tier=Tier.LANDLOCK if settings.sandbox == "landlock" else Tier.BUBBLEWRAP,
            packages=packages if has_packages else None,
            preload=("autoevals", "pydantic") if has_packages else (),
            bundles=settings.data_dir / "bundles",
            scratch=settings.data_dir / "scratch",
        )

    def sandboxing(self, sandboxes: Sandboxes) -> tuple[Sandboxing, Answering]:
        """What runs users' code, live and for those who wait."""
        settings = self.settings
        builder = CodeBuilder(sandboxes=sandboxes, bundles=self.bundles)
        scorers = CodeScorers(
            sandboxes, builder, lending=self._lending(),
            most=Limits(
                time_s=settings.sandbox_time_max_s, memory_mb=settings.sandbox_memory_max_mb,
                result_bytes=settings.sandbox_result_bytes_max,
                log_bytes=settings.sandbox_log_bytes_max,
            ),
        )
        answering = self.answering(SANDBOX, scorers, builder, at_once=settings.sandbox_batches)
        sandboxing = Sandboxing(
            store=self.ledger,
            batches=CodeBatches(
                functions=KeptFunctions(self.functions), traces=self.traces, scorers=scorers,
                policy=self._retry_policy(),
            ),
            batches_max=settings.sandbox_batches,
            renew_s=settings.lease_s / LEASE_RENEWALS, meanwhile=answering.look,
            stopping=answering.stopping,
        )
        return sandboxing, answering

    def _lending(self) -> Broker | None:
        """What lends code a model; None where the operator names none."""
        settings = self.settings
        named = (settings.sandbox_models or "").split(",")
        models = frozenset(filter(None, map(str.strip, named)))
        if not models:
            return None
        key = settings.judge_api_key
        return Broker(
            base_url=settings.judge_base_url,
            api_key=key.get_secret_value() if key else None,
            timeout_s=settings.judge_timeout_s,
            models=models,
            tokens_per_call=settings.sandbox_tokens_per_call,
            budget=TokenBudgets(self.database, per_day=settings.sandbox_tokens_per_day),
        )

    def _retry_policy(
        self, attempts_most: float = math.inf, wait_most_s: float = math.inf
    ) -> RetryPolicy:
        settings = self.settings
        return RetryPolicy(
            attempts_max=int(min(settings.attempts_max, attempts_most)),
            wait_max_s=min(settings.backoff_max_s, wait_most_s),
            jitter=lambda: random.uniform(0.5, 1.5),  # noqa: S311 spreads, hides nothing
        )

    def answering(
        self, queue: str, runner: Runner, builder: Builder | None = None, *, at_once: int
    ) -> Answering:
        """Answers the calls of a queue, that many together."""
        return Answering(
            queue=queue, store=self.invocations, traces=self.traces, runner=runner,
            builder=builder, at_once=at_once, ring=self.bell.ring_now,
        )

    def close(self) -> None:
        """Close the connections."""
        self.answers.close()
        self.database.close()


def open_services(settings: Settings, *, clock: Clock = system_clock) -> Services:
    """Build every service. Connects to nothing yet; raises SetupError if a URL is missing."""
    database = Database(_given(settings.database_url, "TALLYARD_DATABASE_URL"))
    redis_url = _given(settings.redis_url, "TALLYARD_REDIS_URL")
    celery = make_celery(redis_url)
    bell = Bell(celery, redis_url)
    match_records = MatchRecords(database, clock, lease_s=settings.lease_s)
    answers = Answers(database, patience_s=settings.invoke_timeout_s)
    invocations = Invocations(
        database, lease_s=settings.lease_s, patience_s=settings.invoke_timeout_s
    )
    traces = Traces(database)
    sandbox_workers = SandboxWorkers(database)
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        celery=celery,
        bell=bell,
        spans=SpanWriter(database, clock, resend_minutes=settings.resend_minutes),
        reader=SpanReader(database, clock, query_timeout_s=settings.query_timeout_s),
        projects=Projects(database),
        keys=Keys(database),
        rules=Rules(database),
        functions=Functions(database),
        shadows=Shadows(database),
        bundles=Bundles(database),
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
        traces=traces,
        sandbox_workers=sandbox_workers,
        invocations=invocations,
        answers=answers,
        calls=Calls(
            store=invocations, answers=answers, ring=bell.ring,
            refusal=lambda queue: sandbox_workers.refusal() if queue == SANDBOX else None,
        ),
        heavy_calls=Answering(
            queue=HEAVY, store=invocations, traces=traces, runner=InProcess()
        ),
        upkeep=Upkeep(
            database,
            Retention(
                match_record_days=settings.match_record_days,
                rejected_row_days=settings.rejected_row_days,
                resend_minutes=settings.resend_minutes,
                invocation_days=settings.invocation_days,
                judge_cache_days=settings.judge_cache_days,
            ),
        ),
    )


def _given(secret: SecretStr | None, name: str) -> str:
    if secret is None:
        raise SetupError(
            f"{name} is not set: run `make run`, which starts a server and sets it, or set it"
        )
    return secret.get_secret_value()
