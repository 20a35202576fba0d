"""How a worker spends the time between a ring and silence.

A loop ends after a while even if there is more to do, and rings for itself: only between
tasks can a worker be stopped gently, replaced, or seen by Flower to be moving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, Self

from flows.scoring.match import ROWS_PER_CLAIM
from flows.scoring.sandbox_executor import Sandboxing
from flows.scoring.score import score_heavy
from scorers.functions.source import KeptFunctions
from spans.errors import Contended, StoreUnavailable, TransientError
from spans.queues import HEAVY, JUDGE, MATCH, SANDBOX, UPKEEP
from wiring.services import Services

logger = logging.getLogger(__name__)

STINT_S = 20.0
"""How long one task goes on."""


class JudgeRun(Protocol):
    """Judges what is due on the process's event loop; gives how many that were."""

    def __call__(self, *, stop_after_s: float) -> int: ...


def match_until_empty(services: Services) -> str:
    """Match and score batch by batch; what is left for another queue rings there."""
    with _Stint(services, MATCH) as stint:
        _answer(services, MATCH)
        _repeat(services, stint, lambda: _match_some(services))
    return stint.told("rows matched")


def score_heavy_until_empty(services: Services) -> str:
    """Run slow scorers, a few claims at a time."""
    functions = KeptFunctions(services.functions)
    with _Stint(services, HEAVY) as stint:
        _answer(services, HEAVY)
        _repeat(
            services, stint,
            lambda: services.heavy_calls.answer_some()
            + score_heavy(services.ledger, functions),
        )
    return stint.told("runs")


def judge_until_empty(services: Services, judge: JudgeRun) -> str:
    """Ask judges, many at once."""
    with _Stint(services, JUDGE) as stint:
        _answer(services, JUDGE)
        stint.done = judge(stop_after_s=STINT_S)
        services.leases.release_own(JUDGE)
        if services.ledger.is_waiting(JUDGE):
            services.bell.ring(JUDGE)
    return stint.told("runs")


def sandbox_until_empty(services: Services, sandboxing: Sandboxing) -> str:
    """Run users' code, a few batches at once."""
    with _Stint(services, SANDBOX) as stint:
        _answer(services, SANDBOX)
        stint.done = sandboxing.drain(stop_after_s=STINT_S)
        services.leases.release_own(SANDBOX)
        if services.ledger.is_waiting(SANDBOX):
            services.bell.ring(SANDBOX)
    return stint.told("runs")


def tidy_up(services: Services) -> str:
    """Drop what is past its time."""
    with _Stint(services, UPKEEP) as stint:
        services.bell.answer(UPKEEP)
        stint.done = services.upkeep.drop_expired()
    return stint.told("rows dropped")


class _Stint:
    """What one task did. A database that is away ends it, with one line in the log: it is
    waited for by beat, and the next ring tries again."""

    def __init__(self, services: Services, queue: str) -> None:
        self.queue = queue
        self._services = services
        self.done = 0
        self._trouble = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        if error is None:
            return False
        if not isinstance(error, TransientError):
            with suppress(StoreUnavailable):
                self._services.leases.blame_own(self.queue)
            return False   # Celery logs it, with its traceback
        logger.warning("%s: %s; the next ring tries again", self.queue, error)
        self._trouble = ", then PostgreSQL was away"
        return True

    def told(self, what: str) -> str:
        """The task's result: what Flower shows of it."""
        return f"{self.done} {what}{self._trouble}"


def _answer(services: Services, queue: str) -> None:
    """Clear the bell first, so that whoever rings from now on is heard; free what this
    process, or one that is gone, left behind."""
    services.bell.answer(queue)
    services.leases.release_own(queue)
    services.leases.release_abandoned()


def _match_some(services: Services) -> int:
    matched = services.matcher.match_some()
    for queue in matched.queues:
        services.bell.ring(queue)   # not at the end: that of a backlog is far away
    if matched.rows >= ROWS_PER_CLAIM:
        services.bell.ring(MATCH)   # there is more than one process can carry
    return matched.rows


def _repeat(services: Services, stint: _Stint, work: Callable[[], int]) -> None:
    begin = time.monotonic()
    while True:
        try:
            if not (done := work()):
                return
            stint.done += done
        except Contended:
            # Two workers met on the same rows; PostgreSQL let one of them go. What this one
            # held is simply taken again, by whoever comes first.
            services.leases.release_own(stint.queue)
        if time.monotonic() - begin > STINT_S:
            services.bell.ring(stint.queue)
            return
