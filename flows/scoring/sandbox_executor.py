"""Runs users' code in batches. Each batch has one scorer and a sandbox of its own.

The code runs in other processes; the threads here only wait for it. An error of the scorer
becomes its outcome, and an error of the sandbox is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from flows.scoring.code_batches import BATCH, CodeBatches, batches, size_of
from flows.scoring.drain import RunEnd, bug_end
from spans.queues import SANDBOX
from spans.work import ColumnsOf, RunnableClaim

IN_HAND = 8
"""Batches in hand for each one that runs: some wait to run, some are being recorded. With
fewer, the threads would be idle while PostgreSQL answers."""

CLAIM_BYTES = 32 * 2**20
"""Bytes of JSON that the rows of one `claim` should have. A span may have 6 MiB."""

FIRST_CLAIM = 32
"""How many claims to take at first, before the size of the spans is known."""


class SandboxExecutor:
    """An executor that runs up to `batches_max` batches at once, with a thread for each."""

    def __init__(self, batches: CodeBatches, *, batches_max: int) -> None:
        self._batches = batches
        self._in_hand_max = BATCH * IN_HAND * batches_max
        self._claim_max = FIRST_CLAIM
        self._threads = ThreadPoolExecutor(batches_max, thread_name_prefix="batch")
        self._running: dict[Future[list[RunEnd]], list[RunnableClaim]] = {}

    @property
    def columns(self) -> ColumnsOf:
        """The columns that the scorer's handler takes; no others are read."""
        return self._batches.columns

    def room(self, unrecorded: int) -> int:
        """How many more claims it accepts: none until a quarter of the places is free."""
        room = self._in_hand_max - self.under_way() - unrecorded
        return min(room, self._claim_max) if room >= self._in_hand_max // 4 else 0

    def begin(self, claims: Sequence[RunnableClaim]) -> None:
        """Queues the claims in batches, and sets by their size how many to claim next."""
        self._fit(claims)
        for batch in batches(claims):
            self._running[self._threads.submit(self._batches.run, batch)] = batch

    def wait(self, timeout_s: float) -> list[RunEnd]:
        """The runs of the batches that ended: at least one batch, or none when time is up."""
        wait(self._running, timeout=timeout_s, return_when=FIRST_COMPLETED)
        return [
            ended
            for batch in [one for one in self._running if one.done()]
            for ended in _ended(batch, self._running.pop(batch))
        ]

    def under_way(self) -> int:
        """How many claims are in batches that run or wait for a thread."""
        return sum(map(len, self._running.values()))

    def take_back(self) -> list[RunnableClaim]:
        """Nothing, since a batch that waits will run soon."""
        return []

    def cancel(self) -> None:
        """Withdraws the batches that wait, and waits for the others to end.

        The next run begins with small claims again: its spans may be larger.
        """
        for batch in self._running:
            batch.cancel()
        wait(self._running)
        self._running.clear()
        self._claim_max = FIRST_CLAIM

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
