"""Runs users' code: batches of one scorer, each in a sandbox of its own.

The code runs in other processes; threads here only wait for it. What a scorer does wrong is its
outcome; what goes wrong with a sandbox is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from flows.scoring.code_batches import BATCH, CodeBatches, batches, size_of
from flows.scoring.drain import RunEnd, bug_end
from spans.queues import SANDBOX
from spans.work import ColumnsOf, RunnableClaim

IN_HAND = 8
"""Batches in hand for each that runs: some are ready to be run, some are being recorded. With
fewer, what runs them waits for PostgreSQL."""

CLAIM_BYTES = 32 * 2**20
"""JSON that one claim should hold, of spans that may have 6 MiB each."""

FIRST_CLAIM = 32
"""Claims to begin with, while it is not known how large the spans are."""


class SandboxExecutor:
    """An executor that runs `batches_max` batches at once, with a waiting thread for each."""

    def __init__(self, batches: CodeBatches, *, batches_max: int) -> None:
        self._batches = batches
        self._in_hand_max = BATCH * IN_HAND * batches_max
        self._claim_max = FIRST_CLAIM
        self._threads = ThreadPoolExecutor(batches_max, thread_name_prefix="batch")
        self._running: dict[Future[list[RunEnd]], list[RunnableClaim]] = {}

    @property
    def columns(self) -> ColumnsOf:
        """Only what the scorer's handler takes is read."""
        return self._batches.columns

    def room(self, unrecorded: int) -> int:
        """What may still be taken in hand; nothing before a quarter of that is free."""
        room = self._in_hand_max - self.under_way() - unrecorded
        return min(room, self._claim_max) if room >= self._in_hand_max // 4 else 0

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Queue the claims as batches, and claim more next time, or fewer, by their size."""
        self._fit(claims)
        for batch in batches(claims):
            self._running[self._threads.submit(self._batches.run, batch)] = batch

    def wait(self, timeout_s: float) -> list[RunEnd]:
        """The claims of the batches that ended, at least one batch unless the time runs out."""
        wait(self._running, timeout=timeout_s, return_when=FIRST_COMPLETED)
        return [
            ended
            for batch in [one for one in self._running if one.done()]
            for ended in _ended(batch, self._running.pop(batch))
        ]

    def under_way(self) -> int:
        """Claims of the batches that run or wait for a thread."""
        return sum(map(len, self._running.values()))

    def take_back(self) -> list[RunnableClaim]:
        """None: a batch that waits is run soon."""
        return []

    def cancel(self) -> None:
        """Withdraw the batches that wait; those that run end with their sandboxes."""
        for batch in self._running:
            batch.cancel()
        wait(self._running)
        self._running.clear()

    def _fit(self, claims: Sequence[RunnableClaim]) -> None:
        if size_of(claims) > CLAIM_BYTES:
            self._claim_max = max(1, self._claim_max // 2)
        elif len(claims) >= self._claim_max:
            self._claim_max *= 2


def _ended(batch: Future[list[RunEnd]], claims: Sequence[RunnableClaim]) -> list[RunEnd]:
    error = batch.exception()
    if error is None:
        return batch.result()
    return [bug_end(claim, error, SANDBOX) for claim in claims]
