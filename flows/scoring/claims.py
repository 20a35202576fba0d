"""Claims of pending outcomes, and what scoring needs of the store that keeps them.

Attempts are counted, and committed, before the work starts. A claim whose worker died comes
back in ever smaller batches, until the assignment that kills workers stands alone; at its third
death it is marked `poisoned`, and its neighbours have long been scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spans.outcome import Verdict
from spans.work import DEATHS_MAX, Claim, ColumnsOf, Execution, Retry, RunnableClaim, StaleClaim


class ClaimStore(Protocol):
    """Where pending outcomes are claimed, and what became of the claims is written."""

    def claim(
        self, queue: str, limit: int, columns: ColumnsOf | None = None
    ) -> list[Claim]:
        """Due assignments of the queue that nobody holds, now held by this process.

        Their rows carry the columns that `columns` names for the scorer, or without it all
        that any scorer may take.
        """
        ...

    def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        """Write the verdicts whose claim still holds; the others are dropped."""
        ...

    def postpone(self, retries: Sequence[Retry]) -> None:
        """Give claims back, to be tried again later."""
        ...

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        """Let other workers have claims that were not begun."""
        ...

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        """Close the outcomes of claims that have nothing to run."""
        ...

    def renew(self, queue: str) -> None:
        """Keep what this process holds of the queue for another lease."""
        ...


def is_last_try(claim: RunnableClaim) -> bool:
    """Whether one more death poisons the claim: nothing else is to run beside it."""
    return claim.deaths >= DEATHS_MAX - 1


def execution_of(claim: RunnableClaim, verdict: Verdict, queue: str) -> Execution:
    """The claim's assignment, with the verdict that it came to."""
    return Execution(
        assignment=claim.assignment, verdict=verdict, queue=queue, attempts=claim.attempts
    )
