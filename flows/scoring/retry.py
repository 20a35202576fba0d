"""The one retry policy: what becomes of an error, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass

from spans.errors import TallyardError, TransientError
from spans.outcome import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryIn:
    """Try again after `wait_s` seconds."""

    wait_s: float


def decide(
    error: TallyardError, *, attempt: int, attempts_max: int, wait_max_s: float, jitter: float
) -> RetryIn | Failure:
    """Whether attempt number `attempt` (from 1) is followed by another.

    A transient error is, after 2, 4, 8 ... seconds, or later if the other side asked for it,
    never later than `wait_max_s`. `jitter` (0.5..1.5) keeps a thousand failures from coming
    back at one instant.
    """
    if isinstance(error, TransientError) and attempt < attempts_max:
        backoff_s = 2.0 ** min(attempt, 30) * jitter
        return RetryIn(wait_s=min(max(backoff_s, error.retry_after_s or 0.0), wait_max_s))
    return Failure(error_class=error.error_class(), message=str(error))
