"""Scoring with users' code: claimed in bulk, run in batches of one scorer, recorded together.

The code runs in a sandbox, in other processes: threads here only wait for it. What a scorer
does wrong is its outcome; what goes wrong with a sandbox is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from flows.answering import TRACE
from flows.code_scorers import wanted
from flows.function_source import FunctionSource
from flows.judging import JudgeStore
from flows.retry import RetryIn, decide
from flows.run import failed
from flows.score import DEATHS_MAX, RetryPolicy, executed
from flows.trace import TraceRef, TraceStore, trace_argument
from flows.work import SANDBOX, Assignment, Claim, Execution, Retry
from scorers.function import FunctionVersion
from scorers.sandbox.model import Program
from spans.errors import TallyardError, TransientError
from spans.json import JsonObject
from spans.outcome import BUG, Failure, Verdict

logger = logging.getLogger(__name__)

BATCH = 100
"""Records that one child of a sandbox runs: a child costs some 5 ms, a record 0.05."""

POLL_S = 0.5
"""How often an otherwise busy drain looks for more work."""


RECORDERS = 2
"""Transactions that record at once; one alone is what all the others come to wait for."""

LISTEN_S = 0.05
"""How often it looks for calls that somebody waits for: 1 ms each time."""


class Scorers(Protocol):
    """What runs code (`flows.code_scorers.CodeScorers`)."""

    def ready(self, function: FunctionVersion) -> Program:
        """What runs it here, now. Raises a TallyardError if nothing can."""
        ...

    def run(
        self, function: FunctionVersion, records: Sequence[JsonObject]
    ) -> list[Verdict | TransientError]:
        """One for each record, in order; a TransientError where the scorer is not at fault."""
        ...


Done = tuple[Claim, Execution | Retry]


@dataclass(slots=True)
class _Hand:
    """What one drain has in hand: batches that run, ends that wait to be recorded, and those
    that are just being recorded."""

    running: dict[Future[list[Done]], list[Claim]] = field(default_factory=dict)
    ended: list[Done] = field(default_factory=list)
    recording: dict[Future[None], int] = field(default_factory=dict)   # to how many they are

    def under_way(self) -> Iterator[Future[Any]]:
        """What will end by itself."""
        yield from self.running
        yield from self.recording

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
    functions: FunctionSource
    traces: TraceStore
    scorers: Scorers
    policy: RetryPolicy
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
            # Twice as much again as runs: to be recorded, and ready to be run.
            room = BATCH * 3 * self.batches_max - len(hand)
            may_claim = now - begin < stop_after_s and room >= BATCH * self.batches_max
            if may_claim and (not is_empty or now - looked > POLL_S):
                claims = self._claim(room)
                looked, is_empty = now, not claims
                count += len(claims)
                is_last_try = any(claim.deaths >= DEATHS_MAX - 1 for claim in claims)
                if is_last_try:   # and nothing else is to die of it
                    self._finish(hand, recorder)
                for batch in batches(claims):
                    hand.running[runners.submit(self._run, batch)] = batch
                if is_last_try:
                    self._finish(hand, recorder)
            if len(hand):
                self._go_on(hand, recorder)
            elif is_empty or not may_claim:
                return count
        return count

    def _claim(self, room: int) -> list[Claim]:
        claims = self.store.claim(SANDBOX, room)
        self.store.supersede([claim for claim in claims if claim.assignment is None])
        return [claim for claim in claims if claim.assignment is not None]

    def _finish(self, hand: _Hand, recorder: Executor) -> None:
        while len(hand) and not self.stopping.is_set():
            self._go_on(hand, recorder)

    def _go_on(self, hand: _Hand, recorder: Executor) -> None:
        """Wait for a batch or a record, at most POLL_S; record what has ended meanwhile."""
        wait(hand.under_way(), timeout=POLL_S, return_when=FIRST_COMPLETED)
        for batch in [one for one in hand.running if one.done()]:
            hand.ended += _ended(hand.running.pop(batch), batch)
        for record in [one for one in hand.recording if one.done()]:
            del hand.recording[record]
            record.result()
        if hand.ended and len(hand.recording) < RECORDERS:
            hand.recording[recorder.submit(self._record, hand.ended)] = len(hand.ended)
            hand.ended = []
        if time.monotonic() - self.renewed_at > self.renew_s:
            self.renewed_at = time.monotonic()
            self.store.renew(SANDBOX)

    def _record(self, ended: list[Done]) -> None:
        self.store.record([(one, end) for one, end in ended if isinstance(end, Execution)])
        self.store.postpone([end for _, end in ended if isinstance(end, Retry)])

    def _run(self, batch: list[Claim]) -> list[Done]:
        """Run one batch, all of one scorer."""
        assignments = [claim.assignment for claim in batch if claim.assignment is not None]
        begin = time.perf_counter()
        try:
            function = self.functions.function(assignments[0].scorer)
            names = wanted(self.scorers.ready(function))
        except TallyardError as error:
            return [self._answer(claim, _as_end(error, begin)) for claim in batch]
        records: list[JsonObject] = []
        readable: list[Claim] = []
        done: list[Done] = []
        for claim, assignment in zip(batch, assignments, strict=True):
            try:
                records.append(record_of(assignment, names, self.traces))
                readable.append(claim)
            except TallyardError as error:
                done.append(self._answer(claim, _as_end(error, begin)))
        ends = self.scorers.run(function, records) if records else []
        done += [self._answer(claim, end) for claim, end in zip(readable, ends, strict=True)]
        return done

    def _answer(self, claim: Claim, end: Verdict | TransientError) -> Done:
        """What becomes of a claim: recorded, or tried again."""
        if isinstance(end, Verdict):
            return claim, executed(claim, end, SANDBOX)
        policy = self.policy
        decision = decide(
            end, attempt=claim.attempts, attempts_max=policy.attempts_max,
            wait_max_s=policy.wait_max_s, jitter=policy.jitter(),
        )
        if isinstance(decision, RetryIn):
            return claim, Retry(
                claim=claim, error_class=end.error_class(), message=str(end),
                wait_s=decision.wait_s,
            )
        verdict = Verdict(failure=decision, started_at=time.time(), run_ms=0.0)
        return claim, executed(claim, verdict, SANDBOX)


def record_of(assignment: Assignment, names: Sequence[str], traces: TraceStore) -> JsonObject:
    """The arguments `names` of a handler, taken from a span. Raises TraceTooLarge."""
    subject = assignment.subject
    record: JsonObject = {name: subject.view.get(name) for name in names if name != TRACE}
    if TRACE in names:
        trace = TraceRef(where=subject.key.object, root_span_id=subject.root_span_id)
        record[TRACE] = trace_argument(traces, trace)
    return record


def batches(claims: Iterable[Claim]) -> Iterator[list[Claim]]:
    """The claims by scorer and project, at most BATCH in one."""
    def owner(claim: Claim) -> tuple[str, str, str]:
        lead = claim.lead
        return str(lead.object.project_id), lead.scorer.name, lead.scorer.version

    for _, group in groupby(sorted(claims, key=owner), key=owner):
        of_one = list(group)
        for start in range(0, len(of_one), BATCH):
            yield of_one[start : start + BATCH]


def _as_end(error: TallyardError, begin: float) -> Verdict | TransientError:
    return error if isinstance(error, TransientError) else failed(error, begin=begin)


def _ended(claims: list[Claim], batch: Future[list[Done]]) -> list[Done]:
    """What came of a batch. An error that nobody foresaw ends its claims too: tried again,
    they would only meet it again."""
    error = batch.exception()
    if error is None:
        return batch.result()
    if isinstance(error, TransientError):
        raise error   # the store is away: the claims are let go, and taken again
    logger.error("scoring %s", claims[0].lead.id, exc_info=error)
    failure = Failure(
        error_class=BUG,
        message=f"{type(error).__name__}; the sandbox worker's log has it under "
        f"{claims[0].lead.id}",
    )
    verdict = Verdict(failure=failure, started_at=time.time(), run_ms=0.0)
    return [(claim, executed(claim, verdict, SANDBOX)) for claim in claims]
