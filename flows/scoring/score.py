"""Scoring what was left for a queue: claim, run, record, a few at a time.

Attempts are counted, and committed, before the work starts. A claim whose worker died comes
back in ever smaller batches, until what kills workers stands alone; at its third death it
is marked `poisoned`, and its neighbours have long been scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flows.scoring.retry import RetryIn, decide
from scorers.functions.source import FunctionSource
from scorers.functions.version import FUNCTION
from scorers.running.in_process import failed, run_assignment, run_global, scoring_fields
from scorers.running.judged import JudgedScorers
from spans.errors import TallyardError
from spans.outcome import Errored, Verdict, verdict_of
from spans.queues import HEAVY, JUDGE
from spans.scoring import ScorerRef
from spans.work import Assignment, Claim, Execution, Retry, RunnableClaim, StaleClaim

HEAVY_BATCH = 16
"""Claims of the heavy worker at once: each may take seconds."""

HEAVY_BATCH_S = 20.0
"""A batch that has taken this long gives the rest of its claims back, for whoever is free."""

RECORD_S = 0.2
"""Heavy results wait no longer than this for others to be recorded with."""

JUDGE_BATCH = 32
"""Claims of the judge worker at once; many such batches are in flight together."""

DEATHS_MAX = 3
"""Workers that a claim may cost before it is poisoned."""


def runnable(claims: Sequence[Claim]) -> list[RunnableClaim]:
    """Those of the claims that there is something to run for."""
    return [claim for claim in claims if isinstance(claim, RunnableClaim)]


def stale(claims: Sequence[Claim]) -> list[StaleClaim]:
    """Those of the claims whose row is gone, or has other content by now."""
    return [claim for claim in claims if isinstance(claim, StaleClaim)]


def batch_size(full: int, deaths: int) -> int:
    """How many claims may run together with one that has cost `deaths` workers.

    The batch shrinks to its square root, then to one: a poisonous row is alone at its third
    and last try, whatever the size was at its first.
    """
    share: float = float(full) ** (1 - deaths / (DEATHS_MAX - 1))
    return max(1, round(share))


ColumnsOf = Callable[[ScorerRef], frozenset[str]]
"""The columns of a row that a scorer reads."""


class ScoreStore(Protocol):
    """What scoring needs of stored data."""

    def claim(
        self, queue: str, limit: int, columns: ColumnsOf | None = None
    ) -> list[Claim]:
        """Due assignments of the queue that nobody holds, now held by this process.

        Of their rows what `columns` names for the scorer, else all that any scorer may take.
        """
        ...

    def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        """Write verdicts whose claim still holds; the others are dropped."""
        ...

    def postpone(self, retries: Sequence[Retry]) -> None:
        """Give claims back, to be tried again later."""
        ...

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        """Let others have claims that were not begun."""
        ...

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        """Close claims whose row has other content by now, or is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Limits of `flows.scoring.retry.decide`, and where its jitter comes from."""

    attempts_max: int
    wait_max_s: float
    jitter: Callable[[], float]


def score_heavy(store: ScoreStore, functions: FunctionSource) -> int:
    """Run one batch of slow in-process scorers. Returns how many claims there were.

    Safe to repeat: a result is recorded only under the claim's own fence.
    """
    claimed = store.claim(HEAVY, HEAVY_BATCH)
    claims = runnable(claimed)
    store.supersede(stale(claimed))
    done: list[tuple[RunnableClaim, Execution]] = []
    begin = recorded_at = time.monotonic()
    for index, claim in enumerate(claims):
        if time.monotonic() - begin > HEAVY_BATCH_S:
            store.give_back(claims[index:])
            break
        verdict = _run(claim.assignment, functions)
        done.append((claim, executed(claim, verdict, HEAVY)))
        if time.monotonic() - recorded_at > RECORD_S:
            store.record(done)
            done, recorded_at = [], time.monotonic()
    store.record(done)
    return len(claimed)


def _run(assignment: Assignment, functions: FunctionSource) -> Verdict:
    """The verdict of a scorer that computes: autoevals' own, or a function that is one."""
    if assignment.scorer.kind != FUNCTION:
        return run_assignment(assignment)
    try:
        function = functions.function(assignment.scorer)
    except TallyardError as error:
        return failed(error)
    return run_global(function, scoring_fields(assignment.subject))


async def judge_one(
    claim: RunnableClaim, scorers: JudgedScorers, policy: RetryPolicy
) -> Execution | Retry:
    """Ask the judge about one claim. Never raises a TallyardError: it is part of the answer."""
    started_at = time.time()
    begin = time.perf_counter()
    try:
        result = await scorers.score(claim.assignment)
    except TallyardError as error:
        decision = decide(
            error,
            attempt=claim.attempts,
            attempts_max=policy.attempts_max,
            wait_max_s=policy.wait_max_s,
            jitter=policy.jitter(),
        )
        if isinstance(decision, RetryIn):
            return Retry(
                claim=claim, error_class=error.error_class(), message=str(error),
                wait_s=decision.wait_s,
            )
        verdict: Verdict = Errored(
            failure=decision, started_at=started_at,
            run_ms=(time.perf_counter() - begin) * 1000,
        )
        return executed(claim, verdict, JUDGE)
    run_ms = (time.perf_counter() - begin) * 1000
    return executed(claim, verdict_of(result, started_at=started_at, run_ms=run_ms), JUDGE)


def executed(claim: RunnableClaim, verdict: Verdict, queue: str) -> Execution:
    """`claim`, answered."""
    return Execution(
        assignment=claim.assignment, verdict=verdict, queue=queue, attempts=claim.attempts
    )
