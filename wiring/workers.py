"""Builds what workers run: a drain for each queue of outcomes, with its server of invocations.

Each call builds a new one. A worker process keeps it (`workers.process`).
"""

from __future__ import annotations

import asyncio
import random
import threading

from flows.invocations.runners import InProcess, Judged
from flows.invocations.server import CheckCode, InvocationServer, Runner
from flows.scoring.circuit import Gates
from flows.scoring.code_batches import CodeBatches
from flows.scoring.drain import Drain, Pace
from flows.scoring.inline_executor import InlineExecutor
from flows.scoring.judge_executor import JudgeExecutor
from flows.scoring.retry import RetryPolicy
from flows.scoring.sandbox_executor import SandboxExecutor
from scorers.functions.source import KeptFunctions
from scorers.judge.client import Judge
from scorers.run.code import CodeBuilder, CodeScorers
from scorers.run.judge import JudgedScorers
from scorers.sandbox.lending.broker import Broker
from scorers.sandbox.model import Limits
from scorers.sandbox.place import Place, Tier, find_place, unavailable
from scorers.sandbox.pool import Sandboxes
from spans.queues import HEAVY, JUDGE, SANDBOX
from store.scoring.judge_cache import JudgeAnswers
from store.scoring.token_budget import TokenBudgets
from wiring.services import Services
from wiring.settings import Settings

JUDGE_INVOCATIONS = 32
"""Invocations that one judge worker serves at once, each on a thread that waits."""

CALL_RETRY_S = 10.0
CALL_WAIT_MAX_S = 5.0
"""For how long a judge call that a client waits for is tried again, and the longest pause
between two attempts, seconds: three attempts or four."""

LEASE_RENEWALS = 4
"""How many times a lease is renewed within its duration."""

HEAVY_GATHER_S = 0.2
"""Longest time that a slow scorer's result waits to be recorded together with others."""

JUDGE_GATHER_S = 0.02
"""The same for answers of judges, of which hundreds arrive in a second."""

SANDBOX_GATHER, SANDBOX_GATHER_S = 300, 0.05
"""How many results of code one transaction should record, and how long they wait for that.

A transaction costs 4 ms, and 0.2 ms more for each result."""

RECORDERS = 3
"""Transactions that record results of code at once; with fewer, everything else waits."""

NO_LIMIT = 1_000_000
"""For queues that never have more results at once than one transaction can record."""


def heavy_drain(services: Services) -> Drain:
    """The drain of slow in-process scorers. It serves invocations between them."""
    server = _server(services, HEAVY, InProcess(), at_once=1)
    return Drain(
        store=services.ledger, queue=HEAVY, policy=_retry_policy(services.settings),
        executor=InlineExecutor(KeptFunctions(services.functions.version)),
        pace=Pace(
            gather=NO_LIMIT, gather_s=HEAVY_GATHER_S, renew_s=_renew_s(services.settings)
        ),
        meanwhile=server.serve_some,
    )


def judge_drain(services: Services, loop: asyncio.AbstractEventLoop) -> Drain:
    """The drain of judged scorers. Judge calls run on `loop`, which must be running."""
    settings = services.settings
    endpoints = settings.judge_endpoints
    scorers = JudgedScorers(
        judge=Judge(
            endpoints, model=settings.judge_model,
            embedding_model=settings.judge_embedding_model,
        ),
        functions=KeptFunctions(services.functions.version),
        spans_of=services.traces.spans_of,
        cache=JudgeAnswers(services.database, days=settings.judge_cache_days)
        if settings.judge_cache_days
        else None,
    )
    patience = RetryPolicy(
        budget_s=CALL_RETRY_S, wait_max_s=min(settings.backoff_max_s, CALL_WAIT_MAX_S),
        spread=random.random,
    )
    server = _server(
        services, JUDGE,
        Judged(
            scorers=scorers, loop=loop, policy=patience, purse_of=services.purses.of_project
        ),
        at_once=JUDGE_INVOCATIONS,
    )
    gates = Gates(
        services.circuits, services.clock, loop=loop,
        in_flight_max={each.name: each.in_flight for each in endpoints},
    )

    def meanwhile() -> int:
        gates.tend()
        return server.serve_aside()

    return Drain(
        store=services.ledger, queue=JUDGE, policy=_retry_policy(settings),
        executor=JudgeExecutor(scorers, gates, loop=loop, purse_of=services.purses.of_claim),
        pace=Pace(gather=NO_LIMIT, gather_s=JUDGE_GATHER_S, renew_s=_renew_s(settings)),
        meanwhile=meanwhile,
        stopping=server.stopping,
    )


def sandbox_drain(
    services: Services, sandboxes: Sandboxes
) -> tuple[Drain, InvocationServer]:
    """The drain of users' code, and the server of its invocations, which runs beside it."""
    settings = services.settings
    builder = CodeBuilder(sandboxes=sandboxes, bundles=services.bundles)
    scorers = CodeScorers(
        sandboxes, builder, lending=_lending(services), purse_of=services.purses.of_project,
        most=Limits(
            time_s=settings.sandbox_time_max_s, memory_mb=settings.sandbox_memory_max_mb,
            result_bytes=settings.sandbox_result_bytes_max,
            log_bytes=settings.sandbox_log_bytes_max,
        ),
    )
    server = _server(
        services, SANDBOX, scorers, builder.build, at_once=settings.sandbox_batches
    )
    batches = CodeBatches(
        functions=KeptFunctions(services.functions.version),
        spans_of=services.traces.spans_of, scorers=scorers, purse_of=services.purses.of_claim,
    )
    drain = Drain(
        store=services.ledger, queue=SANDBOX, policy=_retry_policy(settings),
        executor=SandboxExecutor(batches, batches_max=settings.sandbox_batches),
        pace=Pace(
            gather=SANDBOX_GATHER, gather_s=SANDBOX_GATHER_S, recorders=RECORDERS,
            renew_s=_renew_s(settings),
        ),
        meanwhile=server.serve_aside,
        stopping=server.stopping,
    )
    return drain, server


def sandbox_place(settings: Settings) -> Place:
    """The kind of sandbox for users' code. Raises SandboxUnavailable if there is none."""
    if settings.sandbox == "off":
        raise unavailable("TALLYARD_SANDBOX is off (unset it, or set it to auto)")
    packages = settings.scorer_packages_dir
    has_packages = packages.is_dir()
    return find_place(
        tier=Tier.LANDLOCK if settings.sandbox == "landlock" else Tier.BUBBLEWRAP,
        packages=packages if has_packages else None,
        preload=("autoevals", "pydantic") if has_packages else (),
        preload_for_models=("openai",) if has_packages else (),
        bundles=settings.data_dir / "bundles",
        scratch=settings.data_dir / "scratch",
    )


def _server(
    services: Services, queue: str, runner: Runner, check_code: CheckCode | None = None, *,
    at_once: int,
) -> InvocationServer:
    return InvocationServer(
        queue=queue, store=services.invocations, spans_of=services.traces.spans_of,
        runner=runner, check_code=check_code, at_once=at_once, ring=services.bell.ring_now,
        stopping=threading.Event(),
    )


def _lending(services: Services) -> Broker:
    """The broker that calls models for users' code: those that the operator allows."""
    settings = services.settings
    named = (settings.sandbox_models or "").split(",")
    return Broker(
        endpoints=settings.judge_endpoints,
        models=frozenset(filter(None, map(str.strip, named))),
        tokens_per_call=settings.sandbox_tokens_per_call,
        budget=TokenBudgets(services.database, per_day=settings.sandbox_tokens_per_day),
    )


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        budget_s=settings.retry_budget_s, wait_max_s=settings.backoff_max_s,
        spread=random.random,
    )


def _renew_s(settings: Settings) -> float:
    return settings.lease_s / LEASE_RENEWALS
