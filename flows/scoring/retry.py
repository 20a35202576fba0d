"""The retry policy of every queue: whether an error is final, or when to try again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spans.errors import TallyardError, TransientError
from spans.outcome import Failure

DOUBLINGS_MAX = 30
"""The backoff stops doubling here: 2 ** 30 seconds are 34 years, far above `wait_max_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryIn:
    """Try again after `wait_s` seconds."""

    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a transient error is tried again, and after how long.

    `jitter` returns a factor of 0.5 to 1.5, so that many claims that failed together are not
    tried again at one instant.
    """

    attempts_max: int
    wait_max_s: float
    jitter: Callable[[], float]

    def decide(self, error: TallyardError, *, attempt: int) -> RetryIn | Failure:
        """When to try again after attempt number `attempt` (from 1), or the final failure.

        A transient error is tried again after 2, 4, 8 ... seconds times the jitter, or later
        if the other side asked for that, but within `wait_max_s`. Every other error is final,
        and so is that of the last attempt.
        """
        if isinstance(error, TransientError) and attempt < self.attempts_max:
            backoff_s = 2.0 ** min(attempt, DOUBLINGS_MAX) * self.jitter()
            asked_s = error.retry_after_s or 0.0
            return RetryIn(wait_s=min(max(backoff_s, asked_s), self.wait_max_s))
        return Failure(error_class=error.error_class(), message=str(error))
