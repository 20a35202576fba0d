"""A stint: the work of one task, from its ring until its queue is empty or its time is up.

A stint whose time is up rings its queue, so that a new task continues. Celery can stop a worker
gently, or replace a process, only between tasks, and Flower shows progress only by tasks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from flows.automations.deliver import Sender
from flows.automations.evaluate import Evaluator
from flows.rescore.run import JobRunner
from spans.errors import StoreUnavailable, TransientError
from spans.queues import AUTOMATIONS, MATCH, RESCORE, UPKEEP, WEBHOOKS
from wiring.services import Services
from workers.match_watch import MatchWatch

logger = logging.getLogger(__name__)

STINT_S = 20.0
"""How long one task runs outcomes before it rings for the next, seconds."""


def match_until_empty(services: Services) -> str:
    """Matches and scores batch by batch, and rings the queues that got outcomes."""
    with _Stint(services, MATCH) as stint:
        _answer_bell(services, MATCH)
        MatchWatch(
            match=services.matcher.match_some,
            release=lambda: services.leases.release_own(MATCH),
            matched=stint.add,
            bell=services.bell,
        ).run()
    return stint.told("rows matched")


def drain_until_empty(services: Services, queue: str, run: Callable[[float], int]) -> str:
    """Runs what is due in a queue of outcomes.

    `run` takes the seconds after which it claims nothing more, and returns how many it ran.
    """
    with _Stint(services, queue) as stint:
        _answer_bell(services, queue)
        stint.done = run(STINT_S)
        services.leases.release_own(queue)
        if services.ledger.is_waiting(queue):
            services.bell.ring(queue)
    return stint.told("runs")


def evaluate_until_done(services: Services, evaluator: Evaluator) -> str:
    """Evaluates automations over what has changed, and forms the notifications that are due."""
    with _Stint(services, AUTOMATIONS) as stint:
        services.bell.answer(AUTOMATIONS)
        stint.done = evaluator.evaluate_all(seconds=time.monotonic, stop_after_s=STINT_S)
    return stint.told("rows and notifications")


def send_until_done(services: Services, sender: Sender) -> str:
    """Sends the deliveries that are due."""
    with _Stint(services, WEBHOOKS) as stint:
        _answer_bell(services, WEBHOOKS)
        stint.done = sender.run(STINT_S)
        if sender.is_waiting:
            services.bell.ring(WEBHOOKS)
    return stint.told("attempts")


def rescore_until_done(services: Services, runner: JobRunner) -> str:
    """Selects the rows of re-score jobs, and has them scored."""
    with _Stint(services, RESCORE) as stint:
        services.bell.answer(RESCORE)
        stint.done, is_left = runner.run(stop_after_s=STINT_S)
        if is_left:
            services.bell.ring(RESCORE)
    return stint.told("rows")


def tidy_up(services: Services) -> str:
    """Removes what is past its retention time."""
    with _Stint(services, UPKEEP) as stint:
        services.bell.answer(UPKEEP)
        stint.done = services.upkeep.drop_expired()
    return stint.told("rows dropped")


class _Stint:
    """A context that counts what one task did, and decides what an exception means.

    A transient error, such as a database that is away, ends the task with one line in the log;
    beat rings again within seconds and the next task continues. Any other exception is a bug:
    it counts as a death of every claim held, so that a claim which causes it is poisoned in the
    end and does not come back for ever.
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

    def add(self, done: int) -> None:
        """Counts what was done just now."""
        self.done += done

    def told(self, what: str) -> str:
        """The task's result, which Flower shows."""
        return f"{self.done} {what}{self._trouble}"


def _answer_bell(services: Services, queue: str) -> None:
    """Answers the bell, and releases what this process or one that is gone left claimed.

    The bell is answered before any work, so that a ring during the work makes a new task.
    """
    services.bell.answer(queue)
    services.leases.release_own(queue)
    services.leases.release_abandoned()
