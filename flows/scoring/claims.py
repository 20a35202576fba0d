"""Claims of pending outcomes, and what a drain needs of the store that keeps them.

A claim's attempt is counted, and committed, before its run starts. When a worker dies, its
claims come back in ever smaller batches, until the assignment that kills workers runs alone. At
its third death it is recorded as `poisoned`; the claims that ran beside it are scored by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spans.outcome import Verdict
from spans.work import (
    DEATHS_MAX,
    BudgetHold,
    Claim,
    ColumnsOf,
    Execution,
    Hold,
    PutOff,
    Retry,
    RunnableClaim,
    StaleClaim,
)


class ClaimStore(Protocol):
    """Where pending outcomes are claimed, and where the results of the claims are written."""

    def claim(
        self, queue: str, limit: int, columns: ColumnsOf | None = None
    ) -> list[Claim]:
        """Claims due assignments of the queue that no process holds, at most `limit`.

        Their rows carry the columns that `columns` names for the scorer, or, if it is None, all
        columns that any scorer may read.
        """
        ...

    def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        """Writes the verdicts whose claim still holds, and drops the others."""
        ...

    def postpone(self, retries: Sequence[Retry]) -> None:
        """Gives claims back, to be tried again after their wait."""
        ...

    def hold(self, holds: Sequence[Hold]) -> None:
        """Moves claims to the held queue of their endpoint. They count no attempt."""
        ...

    def hold_for_budget(self, holds: Sequence[BudgetHold]) -> None:
        """Moves claims to the held queues of a budget, with its reason. They count no attempt,
        and the time for which they are tried begins anew. An outcome of another origin that
        shared the run becomes the lead, since the budget may not concern it."""
        ...

    def put_off(self, later: Sequence[PutOff]) -> None:
        """Gives claims back, to be claimed after their wait. They count no attempt."""
        ...

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        """Gives back claims that were not begun, for other workers to take at once."""
        ...

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        """Closes the outcomes of claims that have nothing to run."""
        ...

    def renew(self, queue: str) -> None:
        """Extends the leases of all claims of the queue that this process holds."""
        ...


def is_last_try(claim: RunnableClaim) -> bool:
    """Whether one more death poisons the claim. Such a claim must run alone."""
    return claim.deaths >= DEATHS_MAX - 1


def execution_of(claim: RunnableClaim, verdict: Verdict, queue: str) -> Execution:
    """The execution of the claim's assignment, which ended with `verdict`."""
    return Execution(
        assignment=claim.assignment, verdict=verdict, queue=queue, attempts=claim.attempts
    )
