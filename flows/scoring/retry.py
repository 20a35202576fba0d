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
    """For how long a transient error is tried again, and after which waits.

    The budget is a time and not a number of attempts: an outage of an hour costs no outcome,
    however often it was tried meanwhile. `budget_s` seconds after its first transient error, an
    outcome's next one is final.

    `spread` returns a number from 0 to 1, so that many claims that failed together are not
    tried again at one instant.
    """

    budget_s: float
    wait_max_s: float
    spread: Callable[[], float]

    def decide(
        self, error: TallyardError, *, attempt: int, failing_s: float
    ) -> RetryIn | Failure:
        """When to try again after attempt number `attempt` (from 1), or the final failure.

        `failing_s` is how many seconds ago the first transient error was; 0 if this is the
        first. The wait is 2, 4, 8 ... seconds or the second half of that, by the spread. It is
        longer if the other side asked for that, but never longer than `wait_max_s`. Every
        error that is not transient is final.
        """
        if not isinstance(error, TransientError) or self._is_used_up(error, attempt, failing_s):
            return Failure(error_class=error.error_class(), message=str(error))
        asked_s = error.retry_after_s or 0.0
        # Twice the time that the other side asked for, so that its second half is late enough.
        longest_s = min(max(2.0 ** min(attempt, DOUBLINGS_MAX), 2 * asked_s), self.wait_max_s)
        wait_s = longest_s * (1 + self.spread()) / 2
        return RetryIn(wait_s=max(wait_s, min(asked_s, self.wait_max_s)))

    def left_s(self, failing_s: float) -> float:
        """Seconds for which an outcome is still tried, by how long it has failed already."""
        return max(0.0, self.budget_s - failing_s)

    def _is_used_up(self, error: TransientError, attempt: int, failing_s: float) -> bool:
        if error.attempts_max is not None and attempt >= error.attempts_max:
            return True
        return self.left_s(failing_s) == 0.0
