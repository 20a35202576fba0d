"""Matches what waits, and stays awake for what comes next.

A ring costs a message over Celery and a task, which is more than matching a few rows. So a
process that has matched few rows stays awake: it pauses, and looks again for what has come
meanwhile. While it is awake, rings need no message (`wiring/bell.py`). One process at a time
stays awake for the queue. Others end their task, and so does this one once nothing comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.scoring.match import ROWS_PER_CLAIM, MatchCount
from spans.errors import Contended
from spans.queues import MATCH
from wiring.bell import Bell

LOOK_EVERY_S = 0.04
"""The time from one claim of few rows to the next, seconds. The fixed cost of a claim is that
of about 20 rows (measured), so a few hundred rows a second share it; a row is matched this much
later."""

FEW_ROWS = 50
"""After a claim of fewer rows a process waits for company. A larger one is followed by the next
at once: a claim of many small requests is below ROWS_PER_CLAIM although more wait."""

WATCH_S = 2.0
"""How long one task goes on, seconds, before it rings for the next. Celery waits this long when
it stops a worker, and the message and the task cost a thousandth of it."""


@dataclass(slots=True)
class MatchWatch:
    """Looks for outbox entries until there are none. A watch is for one task.

    `match` matches one claim, `release` releases what the process has claimed, and `matched`
    is told the rows of each claim.
    """

    match: Callable[[], MatchCount]
    release: Callable[[], None]
    matched: Callable[[int], None]
    bell: Bell
    seconds: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = threading.Event().wait
    is_awake: bool = False

    def run(self) -> None:
        """Matches until no entry waits or WATCH_S have passed, which a ring then continues."""
        until = self.seconds() + WATCH_S
        try:
            while self._look_once():
                if self.seconds() > until:
                    self._fall_asleep()
                    self.bell.ring(MATCH)
                    return
        finally:
            self._fall_asleep()

    def _look_once(self) -> bool:
        """Matches one claim, and waits for company if it was small. False if all is done."""
        began = self.seconds()
        try:
            found = self.match()
        except Contended:
            # Another worker changed the same rows, and PostgreSQL undid this transaction. The
            # entries are released, and the first worker to come claims them again.
            self.release()
            return True
        self.matched(found.rows)
        for queue in found.queues:
            self.bell.ring(queue)   # now, since this backlog may take long
        if 0 < found.rows < FEW_ROWS:
            self.is_awake = self.bell.stay_awake(MATCH)
            if not self.is_awake:
                return False        # the process that is awake looks after what is left
            self.pause(max(0.0, began + LOOK_EVERY_S - self.seconds()))
            return True
        was_awake = self.is_awake
        self._fall_asleep()         # where much comes, rings bring other processes to help
        if found.rows >= ROWS_PER_CLAIM:
            self.bell.ring(MATCH)   # a full claim: more waits
        # If nothing was found while rings were silent, something may have come since.
        return found.rows > 0 or was_awake

    def _fall_asleep(self) -> None:
        if self.is_awake:
            self.is_awake = False
            self.bell.fall_asleep(MATCH)
