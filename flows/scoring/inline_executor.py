"""Runs scorers that compute, one after another, on the drain's own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from flows.scoring.drain import RunEnd
from scorers.functions.source import FunctionSource
from scorers.functions.version import FUNCTION
from scorers.running.in_process import (
    failed_verdict,
    run_assignment,
    run_global,
    scoring_fields,
)
from spans.errors import TallyardError, TransientError
from spans.outcome import Verdict
from spans.work import Assignment, ColumnsOf, RunnableClaim

BATCH = 16
"""Claims at once: each may take seconds, and other workers are to have their share."""


class InlineExecutor:
    """An executor for slow in-process scorers, which hold the interpreter while they run.

    A batch is taken over when the one before it is recorded; `wait` runs one claim, however
    long that takes. What a drain that ends has not begun is taken back, for whoever is free.
    """

    columns: ColumnsOf | None = None

    def __init__(self, functions: FunctionSource) -> None:
        self._functions = functions
        self._waiting: deque[RunnableClaim] = deque()

    def room(self, unrecorded: int) -> int:
        """A whole batch, or nothing."""
        return 0 if self._waiting or unrecorded else BATCH

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Queue the claims: `wait` runs them."""
        self._waiting += claims

    def wait(self, timeout_s: float) -> list[RunEnd]:  # noqa: ARG002 it never waits
        """Run the oldest claim."""
        if not self._waiting:
            return []
        claim = self._waiting.popleft()
        return [RunEnd(claim, self._run(claim.assignment))]

    def under_way(self) -> int:
        """Claims that `wait` has yet to run."""
        return len(self._waiting)

    def take_back(self) -> list[RunnableClaim]:
        """Every claim that was not run."""
        claims = list(self._waiting)
        self._waiting.clear()
        return claims

    def cancel(self) -> None:
        """Forget the claims that were not run."""
        self._waiting.clear()

    def _run(self, assignment: Assignment) -> Verdict | TransientError:
        """The verdict of a scorer that computes: autoevals' own, or a function that is one."""
        if assignment.scorer.kind != FUNCTION:
            return run_assignment(assignment)
        try:
            function = self._functions.function(assignment.scorer)
        except TransientError as error:
            return error
        except TallyardError as error:
            return failed_verdict(error)
        return run_global(function, scoring_fields(assignment.subject))
