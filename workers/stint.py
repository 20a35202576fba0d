"""How a worker spends the time between a ring and silence.

A stint ends after a while even if there is more to do, and rings for itself: only between
tasks can a worker be stopped gently, replaced, or seen by Flower to be moving.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from flows.scoring.match import ROWS_PER_CLAIM
from spans.errors import Contended, StoreUnavailable, TransientError
from spans.queues import MATCH, UPKEEP
from wiring.services import Services

logger = logging.getLogger(__name__)

STINT_S = 20.0
"""How long one task goes on."""


def match_until_empty(services: Services) -> str:
    """Match and score batch by batch; what is left for another queue rings there."""
    with _Stint(services, MATCH) as stint:
        _answer_bell(services, MATCH)
        _match_until_empty(services, stint)
    return stint.told("rows matched")


def drain_until_empty(services: Services, queue: str, run: Callable[[float], int]) -> str:
    """Run what is due in a queue of outcomes.

    `run` gets the seconds after which it claims nothing more, and gives how much it ran.
    """
    with _Stint(services, queue) as stint:
        _answer_bell(services, queue)
        stint.done = run(STINT_S)
        services.leases.release_own(queue)
        if services.ledger.is_waiting(queue):
            services.bell.ring(queue)
    return stint.told("runs")


def tidy_up(services: Services) -> str:
    """Drop what is past its retention time."""
    with _Stint(services, UPKEEP) as stint:
        services.bell.answer(UPKEEP)
        stint.done = services.upkeep.drop_expired()
    return stint.told("rows dropped")


class _Stint:
    """What one task did.

    A database that is away ends it with one line in the log: beat rings again in seconds, and
    the next task goes on. An error that nobody foresaw counts as a death of what is claimed,
    so that it does not come back for ever.
    """

    def __init__(self, services: Services, queue: str) -> None:
        self._queue = queue
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
                self._services.leases.blame_own(self._queue)
            return False   # Celery logs it, with its traceback
        logger.warning("%s: %s; the next ring tries again", self._queue, error)
        self._trouble = ", then PostgreSQL was away"
        return True

    def told(self, what: str) -> str:
        """The task's result: what Flower shows of it."""
        return f"{self.done} {what}{self._trouble}"


def _answer_bell(services: Services, queue: str) -> None:
    """Clear the bell first, so that whoever rings from now on is heard; release what this
    process, or one that is gone, left claimed."""
    services.bell.answer(queue)
    services.leases.release_own(queue)
    services.leases.release_abandoned()


def _match_until_empty(services: Services, stint: _Stint) -> None:
    until = time.monotonic() + STINT_S
    while True:
        try:
            if not (rows := _match_some(services)):
                return
            stint.done += rows
        except Contended:
            # Two workers met on the same rows, and PostgreSQL undid one of them. What this one
            # held is simply claimed again, by whoever comes first.
            services.leases.release_own(MATCH)
        if time.monotonic() > until:
            services.bell.ring(MATCH)
            return


def _match_some(services: Services) -> int:
    matched = services.matcher.match_some()
    for queue in matched.queues:
        services.bell.ring(queue)   # now, since the end of a backlog may be far away
    if matched.rows >= ROWS_PER_CLAIM:
        services.bell.ring(MATCH)   # there is more than one process can carry
    return matched.rows
