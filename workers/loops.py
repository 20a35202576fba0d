"""How a worker spends the time between a ring and silence.

A loop ends after a while even if there is more to do, and rings for itself: only between
tasks can a worker be stopped gently, replaced, or seen by Flower to be moving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from flows.match import ROWS_PER_CLAIM
from flows.score import score_heavy
from flows.work import HEAVY, JUDGE, MATCH, UPKEEP
from spans.errors import Contended, StoreUnavailable
from wiring.services import Services

logger = logging.getLogger(__name__)

STINT_S = 20.0
"""How long one task goes on."""


class JudgeRun(Protocol):
    """Judges what is due on the process's event loop."""

    def __call__(self, *, stop_after_s: float) -> None: ...


def match_until_empty(services: Services) -> None:
    """Match and score batch by batch; what is left for another queue rings there."""
    with _waiting_for_the_store(MATCH):
        _answer(services, MATCH)
        _repeat(services, MATCH, lambda: _match_some(services))
        for queue in (HEAVY, JUDGE):
            if services.ledger.is_waiting(queue):
                services.bell.ring(queue)


def score_heavy_until_empty(services: Services) -> None:
    """Run slow scorers, a few claims at a time."""
    with _waiting_for_the_store(HEAVY):
        _answer(services, HEAVY)
        _repeat(services, HEAVY, lambda: score_heavy(services.ledger))


def judge_until_empty(services: Services, judge: JudgeRun) -> None:
    """Ask judges, many at once."""
    with _waiting_for_the_store(JUDGE):
        _answer(services, JUDGE)
        judge(stop_after_s=STINT_S)
        if services.ledger.is_waiting(JUDGE):
            services.bell.ring(JUDGE)


def tidy_up(services: Services) -> None:
    """Drop what is past its time."""
    with _waiting_for_the_store(UPKEEP):
        services.bell.answer(UPKEEP)
        services.upkeep.drop_expired()


def _answer(services: Services, queue: str) -> None:
    """Clear the bell first, so that whoever rings from now on is heard; free what this
    process, or one that is gone, left behind."""
    services.bell.answer(queue)
    services.leases.release_own(queue)
    services.leases.release_abandoned()


def _match_some(services: Services) -> int:
    rows = services.matcher.match_some()
    if rows >= ROWS_PER_CLAIM:
        services.bell.ring(MATCH)   # there is more than one process can carry
    return rows


def _repeat(services: Services, queue: str, work: Callable[[], int]) -> None:
    begin = time.monotonic()
    while True:
        try:
            if not work():
                return
        except Contended:
            # Two workers met on the same rows; PostgreSQL let one of them go. What this one
            # held is simply taken again, by whoever comes first.
            services.leases.release_own(queue)
        if time.monotonic() - begin > STINT_S:
            services.bell.ring(queue)
            return


@contextmanager
def _waiting_for_the_store(queue: str) -> Iterator[None]:
    """A database that is away is waited for by beat, not here: one line, and the next ring
    tries again."""
    try:
        yield
    except StoreUnavailable as error:
        logger.warning("%s: %s; the next ring tries again", queue, error)
