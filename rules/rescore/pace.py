"""Decides what a running re-score job does next, from where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

ROWS_PER_SLICE = 500
"""Rows that are scored and recorded in one transaction: enough to spread its fixed cost, few
enough that it ends within a fraction of a second, and that a kill repeats little."""

PENDING_MAX = 2000
"""Pending outcomes of a job beyond which none are added. They are a few seconds' work of a
judge at 500 calls a second, and few enough to hold back or to close in one transaction."""

CLOSED_AT_ONCE = 1000
"""Rows of a cancelled job whose pending outcomes are closed at once."""

INLINE_ATTEMPTS_MAX = 3
"""Attempts of a slice in which its cheap scorers run right here. One more, and they move to the
heavy queue, which finds the row that kills its workers and goes on without it."""

ATTEMPTS_MAX = 12
"""Attempts of a slice after which the job fails."""

BURST_S = 1.0
"""A rate is kept over this time, seconds: a job that could not go on for longer does not make
up for it at once."""

WAIT_S = 0.1
"""How soon a job that waits for its queues or its rate is looked at again, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a running job stands.

    `rows_left` are the rows of its next step that have not begun; 0 after the last step.
    `begun` are the rows that have begun, which is counted only where `probe` is set. `pending`
    counts its pending outcomes, at most PENDING_MAX. `paced_s` are the seconds since its rate
    was set, and `paced_records` the rows that have begun since; None if none has. `attempts`
    are those of the next slice.
    """

    rows_left: int
    begun: int
    pending: int
    attempts: int
    scorers: int
    probe: int | None = None
    max_per_second: float | None = None
    paced_s: float | None = None
    paced_records: int = 0


@dataclass(frozen=True, slots=True)
class Begin:
    """So many rows begin. `skipped_s` are seconds that the rate forgets (see BURST_S)."""

    rows: int
    skipped_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Nothing can be done for so many seconds."""

    seconds: float


class Finish:
    """Every outcome is there: the job is completed."""


class PauseAfterProbe:
    """The probe's outcomes are there: the job is paused."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The job cannot go on."""

    why: str


Next: TypeAlias = Begin | WaitFor | Finish | PauseAfterProbe | Fail


def what_next(standing: Standing) -> Next:
    """What the job does now."""
    if not standing.rows_left:
        return WaitFor(WAIT_S) if standing.pending else Finish()
    rows = min(
        standing.rows_left, ROWS_PER_SLICE,
        max(1, PENDING_MAX // max(1, standing.scorers)),
    )
    if standing.probe is not None:
        rows = min(rows, standing.probe - standing.begun)
        if rows <= 0:
            return WaitFor(WAIT_S) if standing.pending else PauseAfterProbe()
    if standing.attempts >= ATTEMPTS_MAX:
        return Fail(
            f"the same rows could not be scored and recorded in {ATTEMPTS_MAX} attempts; the "
            "log of the worker `automations` says why"
        )
    if standing.pending >= PENDING_MAX:
        return WaitFor(WAIT_S)
    if standing.max_per_second is None:
        return Begin(rows)
    return _at_rate(standing, rows, standing.max_per_second)


def _at_rate(standing: Standing, rows: int, rate: float) -> Begin | WaitFor:
    if standing.paced_s is None:
        return Begin(1)   # the first row begins at once, and the time runs from then on
    due = rate * standing.paced_s - standing.paced_records
    most = max(1.0, rate * BURST_S)
    skipped_s = max(0.0, (due - most) / rate)
    due = min(due, most)
    if due < 1:
        return WaitFor(min(WAIT_S, (1 - due) / rate))
    return Begin(min(rows, math.floor(due)), skipped_s)
