"""Keeps a process to one task of each queue at a time.

A worker that serves several queues has a thread for each. A second task of one of them would
take the thread of another, which then waits.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class BusyQueues:
    """The queues whose tasks run now, and those of them that were rung for meanwhile."""

    _busy: set[str] = field(default_factory=set)
    _rung: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, queue: str) -> bool:
        """Whether a task of the queue may run. Otherwise one runs already, which is told when
        it leaves."""
        with self._lock:
            if queue in self._busy:
                self._rung.add(queue)
                return False
            self._busy.add(queue)
            return True

    def leave(self, queue: str) -> bool:
        """Ends the task that has entered. Whether another wanted to enter meanwhile: what it
        was rung for may have come after this task's last look."""
        with self._lock:
            is_rung = queue in self._rung
            self._busy.discard(queue)
            self._rung.discard(queue)
            return is_rung
