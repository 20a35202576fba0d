"""Waiting for the last outcome without taking part in the measurement."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import LiteralString

import psycopg

from benchmarks.tables import COMPLETED, WAITING_ROWS

POLL_LEAST_S = 0.02
POLL_MOST_S = 1.0


def wait_for_outcomes(
    reader: psycopg.Connection, project_id: str, wanted: int, *, deadline_s: float,
    count: LiteralString = COMPLETED,
) -> float:
    """CLOCK_MONOTONIC seconds at which `wanted` outcomes were seen completed.

    Looks when half of what seems to be left is done: a count costs the database some
    milliseconds, so it is made ten times or so, the more often the nearer the end.
    Raises TimeoutError.
    """
    begin = time.monotonic()
    pause = threading.Event()
    while True:
        found = reader.execute(count, (project_id,)).fetchone()
        now = time.monotonic()
        done = found[0] if found else 0
        if done >= wanted:
            return now
        if now - begin > deadline_s:
            raise TimeoutError(f"{done} of {wanted} outcomes after {deadline_s:g} s")
        rate = done / (now - begin) if now > begin else 0.0
        left_s = (wanted - done) / rate if rate else 4 * POLL_LEAST_S
        pause.wait(min(max(left_s / 2, POLL_LEAST_S), POLL_MOST_S))


def wait_until_matched(
    reader: psycopg.Connection, project_id: str, *, deadline_s: float
) -> float:
    """CLOCK_MONOTONIC seconds at which no row of the project waited for its scores any more.

    Rules that have cheap scorers alone are meant: those run before their rows cease to wait.
    Other than a count of outcomes, this costs the same however many there are. Raises
    TimeoutError.
    """
    until = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        found = reader.execute(WAITING_ROWS, (project_id,)).fetchone()
        now = time.monotonic()
        if found == (0,):
            return now
        if now > until:
            raise TimeoutError(f"{found} rows still wait after {deadline_s:g} s")
        pause.wait(POLL_LEAST_S)


@contextmanager
def deadline(seconds: float, what: str) -> Iterator[None]:
    """Raises TimeoutError in the block when the time is over, wherever it waits."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"{what} took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
