"""Readiness: whether PostgreSQL and Redis answer. Measurements: counters and queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flows.health.measurements import QueueDepth, Sample, SandboxWorker, Sending, Waiting
from spans.errors import TallyardError


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether this process can do its work.

    Without PostgreSQL nothing works: `postgres_problem` says why it does not answer, and the
    other fields mean nothing. Without Redis, scores come some seconds later. A worker in
    `sandbox_workers` whose `is_ok` is false runs no code.
    """

    postgres_problem: str | None
    has_redis: bool
    sandbox_workers: tuple[SandboxWorker, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All counters, queues and sandbox workers at one instant."""

    samples: tuple[Sample, ...]
    queues: tuple[QueueDepth, ...]
    waiting: Waiting
    sending: Sending
    sandbox_workers: tuple[SandboxWorker, ...]


class Health:
    """Readiness and measurements. They need no key, since they contain no users' data."""

    def __init__(
        self, *, check_database: Callable[[], None], is_redis_reachable: Callable[[], bool],
        sandbox_workers: Callable[[], Sequence[SandboxWorker]],
        samples: Callable[[], Iterable[Sample]],
        queue_depths: Callable[[], Sequence[QueueDepth]], waiting: Callable[[], Waiting],
        sending: Callable[[], Sending],
    ) -> None:
        self._check_database = check_database
        self._is_redis_reachable = is_redis_reachable
        self._sandbox_workers = sandbox_workers
        self._samples = samples
        self._queue_depths = queue_depths
        self._waiting = waiting
        self._sending = sending

    def readiness(self) -> Readiness:
        """Whether PostgreSQL and Redis answer. Takes seconds if one of them does not."""
        try:
            self._check_database()
            workers = tuple(self._sandbox_workers())
        except TallyardError as error:
            return Readiness(
                postgres_problem=str(error), has_redis=False, sandbox_workers=()
            )
        return Readiness(
            postgres_problem=None, has_redis=self._is_redis_reachable(),
            sandbox_workers=workers,
        )

    def measure(self) -> Measurements:
        """The measurements of now. Raises StoreUnavailable."""
        return Measurements(
            samples=tuple(self._samples()), queues=tuple(self._queue_depths()),
            waiting=self._waiting(), sending=self._sending(),
            sandbox_workers=tuple(self._sandbox_workers()),
        )

    def waiting(self) -> Waiting:
        """What waits to be tried again. Its reasons may quote a judge, so it is for operators.

        Raises StoreUnavailable.
        """
        return self._waiting()

    def sending(self) -> Sending:
        """What is on its way to webhooks, and what Tallyard has paused. For operators.

        Raises StoreUnavailable.
        """
        return self._sending()
