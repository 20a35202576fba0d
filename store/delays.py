"""Counting what was run: outcomes by class, judge calls, and the time from span to score.

A histogram is a counter for each bucket: `le` holds its upper bound, in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from flows.work import Execution
from spans.scoring import OutcomeState
from store.counters import Counts

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
BUCKET_LABELS = (*(f"{bound:g}" for bound in BUCKETS_S), "+Inf")


def count_executions(
    executions: Sequence[Execution], fresh: set[UUID], now: datetime, counts: Counts
) -> None:
    """Count the executions whose outcomes were written by this transaction."""
    now_s = now.timestamp()
    for execution in executions:
        assignment = execution.assignment
        written = sum(asked.key.id in fresh for asked in assignment.asked)
        if not written:
            continue
        verdict = execution.verdict
        labels = {
            "scorer": assignment.scorer.name,
            "state": str(verdict.state),
            "error_class": verdict.failure.error_class if verdict.failure else "",
        }
        counts.add("outcomes", labels, written)
        if verdict.state is OutcomeState.COMPLETED and assignment.subject.ended_at is not None:
            wait_s = max(0.0, verdict.started_at - assignment.subject.ended_at)
            observe(counts, "score_wait_seconds", wait_s)
            observe(counts, "score_run_seconds", max(0.0, now_s - verdict.started_at))
        if verdict.result is not None and (usage := verdict.result.usage).calls:
            judged = {"model": usage.model or ""}
            counts.add("judge_calls", judged, usage.calls)
            counts.add("judge_prompt_tokens", judged, usage.prompt_tokens)
            counts.add("judge_completion_tokens", judged, usage.completion_tokens)


def observe(counts: Counts, name: str, value_s: float) -> None:
    """Put a duration into its bucket (not cumulated: the reader sums them up)."""
    counts.add(f"{name}_bucket", {"le": BUCKET_LABELS[bisect_left(BUCKETS_S, value_s)]}, 1)
    counts.add(f"{name}_sum", {}, value_s)
