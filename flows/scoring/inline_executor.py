"""Runs in-process scorers, one after another, on the drain's own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from flows.scoring.drain import RunEnd
from scorers.functions.source import KeptFunctions
from scorers.functions.version import FUNCTION
from scorers.run.heuristic import failed_verdict, run_assignment, run_global, scoring_fields
from spans.errors import TallyardError, TransientError
from spans.outcome import Verdict
from spans.work import Assignment, ColumnsOf, RunnableClaim

BATCH = 16
"""Claims taken at once. Few: each may run for seconds, and other workers want some."""


class InlineExecutor:
    """An executor for slow in-process scorers, which hold the interpreter while they run.

    It accepts a batch once the batch before is recorded. `wait` runs one claim, however long
    that takes. When the time of the drain is up, `take_back` gives up the claims that did not
    run, so that other workers can have them.
    """

    columns: ColumnsOf | None = None

    def __init__(self, functions: KeptFunctions) -> None:
        self._functions = functions
        self._waiting: deque[RunnableClaim] = deque()

    def room(self, unrecorded: int) -> int:
        """A whole batch, or nothing while claims wait or are unrecorded."""
        return 0 if self._waiting or unrecorded else BATCH

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Queues the claims, which `wait` runs."""
        self._waiting += claims

    def wait(self, timeout_s: float) -> list[RunEnd]:  # noqa: ARG002 - never waits
        """Runs the oldest claim and returns its end."""
        if not self._waiting:
            return []
        claim = self._waiting.popleft()
        return [RunEnd(claim, self._run(claim.assignment))]

    def under_way(self) -> int:
        """How many claims `wait` has yet to run."""
        return len(self._waiting)

    def take_back(self) -> list[RunnableClaim]:
        """Removes and returns every claim that has not run."""
        claims = list(self._waiting)
        self._waiting.clear()
        return claims

    def cancel(self) -> None:
        """Forgets the claims that have not run."""
        self._waiting.clear()

    def _run(self, assignment: Assignment) -> Verdict | TransientError:
        """The verdict of an autoevals scorer, or of a function that stands for one."""
        if assignment.scorer.kind != FUNCTION:
            return run_assignment(assignment)
        try:
            function = self._functions.function(assignment.scorer)
        except TransientError as error:
            return error
        except TallyardError as error:
            return failed_verdict(error)
        return run_global(function, scoring_fields(assignment.subject))
