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

POLL_LEAST_S = 0.02
POLL_MOST_S = 1.0
COUNT = "select count(*) from outcome where project_id = %s and state = 'completed'"


def wait_for_outcomes(
    reader: psycopg.Connection, project_id: str, wanted: int, *, deadline_s: float,
    count: LiteralString = COUNT,
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
