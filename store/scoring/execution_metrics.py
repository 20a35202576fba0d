"""Counts recorded executions: outcomes, judge calls, and the time from span to score.

A histogram is stored as one counter per bucket. The label `le` holds the bucket's upper bound
in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from flows.health.measurements import BUCKET_LABELS, BUCKETS_S
from spans.outcome import Errored, verdict_usage
from spans.scoring import OutcomeState, Role
from spans.work import Execution
from store.postgres.counters import Counts

WAIT_MAX_S = 30 * 86400.0
"""Spans that ended longer ago than this are left out of the histograms, seconds. Such a span
was logged late or by a wrong clock, so its wait is no delay of Tallyard's."""


class Histogram:
    """The durations that one transaction measured, by bucket.

    A bucket does not include those below it. GET /metrics adds them up.
    """

    def __init__(self) -> None:
        self._buckets = [0] * len(BUCKET_LABELS)
        self._sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Add a duration to its bucket. A negative one (clocks differ) counts as 0."""
        value_s = max(0.0, value_s)
        self._buckets[bisect_left(BUCKETS_S, value_s)] += 1
        self._sum_s += value_s

    def add_to(self, counts: Counts, name: str) -> None:
        """Add the buckets and the sum to `counts`, under `name`."""
        for label, value in zip(BUCKET_LABELS, self._buckets, strict=True):
            counts.add(f"{name}_bucket", {"le": label}, value)
        counts.add(f"{name}_sum", {}, self._sum_s)


def count_executions(
    written: Iterable[tuple[Execution, bool]],
    *,
    now: datetime,
    counts: Counts,
) -> None:
    """Add the executions of one transaction to `counts`.

    Each execution has those requests alone whose outcomes the transaction wrote. It comes with
    whether the row still has the content that was scored: if not, it counts as superseded,
    whatever its verdict.
    """
    now_s = now.timestamp()
    outcomes: Counter[tuple[str, Role, str, str]] = Counter()
    wait, run = Histogram(), Histogram()
    for execution, is_current in written:
        assignment, verdict = execution.assignment, execution.verdict
        if not assignment.asked:
            continue
        ended_at = assignment.subject.ended_at
        state: str = verdict.state if is_current else OutcomeState.SUPERSEDED
        error_class = verdict.failure.error_class if isinstance(verdict, Errored) else ""
        for asked in assignment.asked:
            outcomes[assignment.shown_as, asked.use.role, state, error_class] += 1
        if (
            state == OutcomeState.COMPLETED
            and ended_at is not None
            and verdict.started_at - ended_at < WAIT_MAX_S
        ):
            wait.observe(verdict.started_at - ended_at)
            run.observe(now_s - verdict.started_at)
        if (usage := verdict_usage(verdict)).calls:
            judged = {"model": usage.model or ""}
            counts.add("judge_calls", judged, usage.calls)
            counts.add("judge_prompt_tokens", judged, usage.prompt_tokens)
            counts.add("judge_completion_tokens", judged, usage.completion_tokens)
            counts.add("judge_cached_tokens", judged, usage.cached_tokens)
            counts.add(
                "judge_cost", {**judged, "scorer": assignment.shown_as}, usage.cost or 0.0
            )
    for (scorer, role, state, error_class), number in outcomes.items():
        labels = {
            "scorer": scorer, "role": str(role), "state": str(state),
            "error_class": error_class,
        }
        counts.add("outcomes", labels, number)
    wait.add_to(counts, "score_wait_seconds")
    run.add_to(counts, "score_run_seconds")
