"""Scoring with users' code: claimed in bulk, run in batches of one scorer, recorded together.

The code runs in a sandbox, in other processes: threads here only wait for it. What a scorer
does wrong is its outcome; what goes wrong with a sandbox is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from flows.scoring.code_batches import BATCH, CodeBatches, Done, batches, size_of
from flows.scoring.judge_executor import JudgeStore
from flows.scoring.score import DEATHS_MAX, executed, runnable, stale
from spans.errors import Contended, TransientError
from spans.outcome import BUG, Errored, Failure
from spans.queues import SANDBOX
from spans.work import Execution, Retry, RunnableClaim

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""How often an otherwise busy drain looks for more work."""

LISTEN_S = 0.1
"""How often it looks for calls that somebody waits for: 1 ms each time."""

IN_HAND = 8
"""Batches in hand for each that runs: some are ready to be run, some are being recorded. With
fewer, what runs them waits for PostgreSQL."""

RECORDERS = 3
"""Transactions that record at once; with fewer, all the others come to wait for them."""

GATHER = 300
"""Ends that one transaction should record: it costs 4 ms, and 0.2 more for each."""

GATHER_S = 0.05
"""How long the first of them waits for others."""

CLAIM_BYTES = 32 * 2**20
"""JSON that one claim should hold, of spans that may have 6 MiB each."""

FIRST_CLAIM = 32
"""Claims to begin with, while it is not known how large the spans are."""

PATIENCE_S = 30.0
"""How long results wait for a store that is away, before they are given up."""

CONTENDED_S = 0.05
"""The same wait after two transactions have met: the other one is through soon."""


@dataclass(slots=True)
class _Hand:
    """What one drain has in hand: batches that run, ends that wait to be recorded, and those
    that are just being recorded. `most` is how many to claim at once, `ended_at` since when
    (by time.monotonic) the first of `ended` waits."""

    running: dict[Future[list[Done]], list[RunnableClaim]] = field(default_factory=dict)
    ended: list[Done] = field(default_factory=list)
    ended_at: float = 0.0
    recording: dict[Future[None], int] = field(default_factory=dict)   # to how many they are
    most: int = FIRST_CLAIM

    def under_way(self) -> Iterator[Future[Any]]:
        """What will end by itself."""
        yield from self.running
        yield from self.recording

    def is_gathered(self) -> bool:
        """Whether to record what has ended, or to wait for more to come with it."""
        waits_s = time.monotonic() - self.ended_at
        is_enough = len(self.ended) >= GATHER or not self.running or waits_s > GATHER_S
        return bool(self.ended) and is_enough

    def fit(self, claims: Sequence[RunnableClaim]) -> None:
        """RunnableClaim more next time, or fewer, by how large these were."""
        if size_of(claims) > CLAIM_BYTES:
            self.most = max(1, self.most // 2)
        elif len(claims) >= self.most:
            self.most *= 2

    def __len__(self) -> int:
        running = sum(map(len, self.running.values()))
        return running + len(self.ended) + sum(self.recording.values())


@dataclass(slots=True, kw_only=True)
class Sandboxing:
    """The collaborators, and how many batches may be under way at once.

    `stopping` is set, from any thread, when the worker is to stop. `meanwhile` is called
    between batches: what must not wait for the end of a long backlog.
    """

    store: JudgeStore
    batches: CodeBatches
    batches_max: int
    renew_s: float
    meanwhile: Callable[[], object] = lambda: None
    stopping: threading.Event = field(default_factory=threading.Event)
    renewed_at: float = 0.0     # by time.monotonic

    def drain(self, *, stop_after_s: float) -> int:
        """Score what is due until nothing is; claims nothing more after `stop_after_s`.
        Gives how many claims there were.

        Safe to repeat: a verdict is recorded only under its claim's own fence.
        """
        hand = _Hand()
        with (
            ThreadPoolExecutor(self.batches_max, thread_name_prefix="batch") as runners,
            ThreadPoolExecutor(RECORDERS, thread_name_prefix="record") as recorder,
        ):
            try:
                return self._drain(hand, runners, recorder, stop_after_s)
            finally:
                for batch in hand.running:
                    batch.cancel()

    def _drain(
        self, hand: _Hand, runners: Executor, recorder: Executor, stop_after_s: float
    ) -> int:
        begin = time.monotonic()
        count = 0
        is_empty = False
        looked = 0.0
        listened = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now - listened > LISTEN_S:
                listened = now
                self.meanwhile()
            most = BATCH * IN_HAND * self.batches_max
            room = most - len(hand)
            may_claim = now - begin < stop_after_s and room >= most // 4
            if may_claim and (not is_empty or now - looked > POLL_S):
                claims = self._claim(min(room, hand.most))
                hand.fit(claims)
                looked, is_empty = now, not claims
                count += len(claims)
                is_last_try = any(claim.deaths >= DEATHS_MAX - 1 for claim in claims)
                if is_last_try:   # and nothing else is to die of it
                    self._finish(hand, recorder)
                for batch in batches(claims):
                    hand.running[runners.submit(self.batches.run, batch)] = batch
                if is_last_try:
                    self._finish(hand, recorder)
            if len(hand):
                self._go_on(hand, recorder)
            elif is_empty or not may_claim:
                return count
        return count

    def _claim(self, most: int) -> list[RunnableClaim]:
        try:
            claims = self.store.claim(SANDBOX, most, self.batches.columns)
            self.store.supersede(stale(claims))
        except TransientError as error:
            logger.warning("sandbox: %s; nothing new is begun meanwhile", error)
            return []
        return runnable(claims)

    def _finish(self, hand: _Hand, recorder: Executor) -> None:
        while len(hand) and not self.stopping.is_set():
            self._go_on(hand, recorder)

    def _go_on(self, hand: _Hand, recorder: Executor) -> None:
        """Wait for a batch or a record, at most POLL_S; record what has ended meanwhile."""
        patience_s = GATHER_S if hand.ended else POLL_S
        wait(hand.under_way(), timeout=patience_s, return_when=FIRST_COMPLETED)
        for batch in [one for one in hand.running if one.done()]:
            hand.ended_at = hand.ended_at if hand.ended else time.monotonic()
            hand.ended += _ended(hand.running.pop(batch), batch)
        for record in [one for one in hand.recording if one.done()]:
            del hand.recording[record]
            record.result()
        if hand.is_gathered() and len(hand.recording) < RECORDERS:
            hand.recording[recorder.submit(self._record, hand.ended)] = len(hand.ended)
            hand.ended = []
        if time.monotonic() - self.renewed_at > self.renew_s:
            self.renewed_at = time.monotonic()
            self._patiently(lambda: self.store.renew(SANDBOX))

    def _record(self, ended: list[Done]) -> None:
        executions = [(one, end) for one, end in ended if isinstance(end, Execution)]
        retries = [end for _, end in ended if isinstance(end, Retry)]
        self._patiently(lambda: self.store.record(executions))
        self._patiently(lambda: self.store.postpone(retries))

    def _patiently(self, work: Callable[[], None]) -> None:
        """Do it, and again while the store is away: what ran need not run twice."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return work()
            except TransientError as error:
                if time.monotonic() > until or self.stopping.is_set():
                    raise
                self.stopping.wait(CONTENDED_S if isinstance(error, Contended) else POLL_S)


def _ended(claims: list[RunnableClaim], batch: Future[list[Done]]) -> list[Done]:
    """What came of a batch. An error that nobody foresaw ends its claims too: tried again,
    they would only meet it again."""
    error = batch.exception()
    if error is None:
        return batch.result()
    logger.error("scoring %s", claims[0].lead.id, exc_info=error)
    failure = Failure(
        error_class=BUG,
        message=f"{type(error).__name__}; the sandbox worker's log has it under "
        f"{claims[0].lead.id}",
    )
    verdict = Errored(failure=failure, started_at=time.time(), run_ms=0.0)
    return [(claim, executed(claim, verdict, SANDBOX)) for claim in claims]
