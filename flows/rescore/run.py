"""Runs re-score jobs: selects their rows, scores them slice by slice, and ends the jobs.

A **slice** are some rows of a step, at most ROWS_PER_SLICE. Its attempt is counted and
committed before it begins. Cheap scorers run right here, outside of any transaction; the others
become pending outcomes of bulk priority. Then one transaction records everything and moves the
job on, if the job is still running and stands where the slice began. So a slice that was killed
is done again, one that was done twice is recorded once, and a job that is paused or cancelled
gets nothing more.

A row whose content has changed since it was selected gets superseded outcomes: its new content
is the business of the live rules.

Live work goes first. While rows wait to be matched, a slice begins only after a pause of
BULK_TURN times as long as the last one took, so that jobs get a sixteenth of the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from flows.patience import patiently
from flows.scoring.match import now_or_later
from rules.rescore.model import JobScorer, JobState, RescoreJob
from rules.rescore.pace import (
    CLOSED_AT_ONCE,
    INLINE_ATTEMPTS_MAX,
    WAIT_S,
    Begin,
    Fail,
    Finish,
    PauseAfterProbe,
    Standing,
    WaitFor,
    what_next,
)
from scorers import catalog
from scorers.arguments import columns_of
from scorers.catalog import GLOBAL, ScorerKind
from scorers.run.heuristic import failed_verdict
from spans.errors import BadInput, UserError
from spans.ids import RowSeq, Xact
from spans.queues import RESCORE
from spans.row import ObjectRef
from spans.scoring import ScorerRef
from spans.work import BULK_TURN, Assignment, Deferred, Execution, Priority, Subject

PATIENCE_S = 30.0
"""How long the results of a slice are kept while the store is away, before they are given up
and the slice is done again."""

GIVE_WAY_MIN_S, GIVE_WAY_MAX_S = 0.01, 0.1
"""The shortest and the longest time between two looks whether live work still waits."""

TEND_S = 1.0
"""How often outcomes are looked for that must wait for a paused job, seconds."""


@dataclass(frozen=True, slots=True)
class WantedRow:
    """A row of a job: its content when it was selected, and which of the job's scorers are
    wanted on it, by their places among `RescoreJob.scorers`. None stands for all."""

    seq: RowSeq
    version: Xact
    wants: int | None

    def is_wanted(self, place: int) -> bool:
        """Whether the scorer at this place is wanted."""
        return self.wants is None or bool(self.wants >> place & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSlice:
    """Rows of a step that are scored and recorded together, from row `first` of the step on.

    `attempts` counts this one too. `gone` are the scorers that have been deleted. `is_last`:
    these are the last rows of the step.
    """

    job: RescoreJob
    step_no: int
    first: int
    where: ObjectRef
    rows: tuple[WantedRow, ...]
    attempts: int
    is_last: bool
    gone: frozenset[ScorerRef] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveJob:
    """A job that something is to be done for: in its state, or since it is rolled back."""

    no: int
    state: JobState
    is_rolled_back: bool = False


class StepStore(Protocol):
    """Where the steps of jobs are read, and what became of them is written."""

    def active(self) -> Sequence[ActiveJob]:
        """The jobs that something is to be done for, the oldest first."""
        ...

    def job(self, job_no: int) -> RescoreJob:
        """The job as it was made; its state may be an earlier one."""
        ...

    def hold_stragglers(self) -> None:
        """Holds back outcomes of paused jobs which have come back to their queue since."""
        ...

    def is_live_waiting(self) -> bool:
        """Whether rows wait to be matched, and nobody is at them."""
        ...

    def standing(self, job_no: int) -> Standing | None:
        """Where the job stands; None if it does not run now."""
        ...

    def claim(self, job_no: int, begin: Begin) -> JobSlice | None:
        """The next rows of the job, with the attempt counted and committed; None if it does
        not run now, or another process is at them."""
        ...

    def subjects(
        self, where: ObjectRef, row_seqs: Sequence[RowSeq], columns: frozenset[str]
    ) -> Mapping[RowSeq, Subject]:
        """The rows that exist and are not deleted."""
        ...

    def record(
        self, one: JobSlice, executions: Sequence[Execution], deferred: Sequence[Deferred]
    ) -> bool:
        """Writes what became of the slice, and moves the job on: all of it, or nothing.

        Nothing, and False, if the job does not run any more, or has been moved on already.
        """
        ...

    def finish(self, job_no: int) -> None:
        """Completes a running job of which no row is left and nothing is pending."""
        ...

    def pause_after_probe(self, job_no: int) -> None:
        """Pauses a running job whose probe has its outcomes."""
        ...

    def fail(self, job_no: int, why: str) -> None:
        """Ends a job that cannot go on, and closes its pending outcomes."""
        ...

    def close_some(self, job_no: int, limit: int) -> bool:
        """Closes pending outcomes of a job that is being cancelled, at most `limit`. Once none
        is left the job is cancelled. Whether some may be left."""
        ...


@dataclass(slots=True, kw_only=True)
class JobRunner:
    """Serves all active jobs in turn, a slice each, while there is work.

    `select` selects more rows of a planned job, and `roll_back` undoes more of a job; each says
    whether there was something to do. `ring` is called with the queues that got outcomes. The
    unit of `cost_limit` is that of `scorers.heuristics.in_process.cost`. Any thread may set
    `stopping`.
    """

    store: StepStore
    select: Callable[[RescoreJob], bool]
    roll_back: Callable[[RescoreJob], bool]
    ring: Callable[[str], None]
    cost_limit: float
    stopping: threading.Event = field(default_factory=threading.Event)
    seconds: Callable[[], float] = time.monotonic
    _served: int = 0
    _took_s: float = 0.0
    _gave_way_s: float = 0.0

    def run(self, *, stop_after_s: float) -> tuple[int, bool]:
        """Serves the active jobs until there is none, or until `stop_after_s` have passed.

        Returns the number of rows that it scored or handed on, and whether jobs are left. Safe
        to repeat, to kill, and to run in several processes at once.
        """
        until = self.seconds() + stop_after_s
        rows = 0
        tended_at: float | None = None
        while not self.stopping.is_set():
            now = self.seconds()
            if tended_at is None or now - tended_at >= TEND_S:
                self.store.hold_stragglers()
                tended_at = now
            active = self.store.active()
            if not active:
                return rows, False
            if now >= until:
                break
            served = [self.serve(one) for one in self._in_turn(active)]
            rows += sum(one.rows for one in served)
            if all(one.wait_s for one in served):
                self.stopping.wait(min(one.wait_s for one in served))
        return rows, True

    def _in_turn(self, active: Sequence[ActiveJob]) -> list[ActiveJob]:
        """The jobs, beginning behind the one that was served last."""
        return sorted(active, key=lambda one: (one.no <= self._served, one.no))

    def serve(self, one: ActiveJob) -> Served:
        """Does the next thing for a job. A job that a user must mend fails.

        An error that nobody foresaw is raised, and ends the task. The next run begins with
        another job, and the attempts of this one are counted, so that it fails in the end.
        """
        self._served = one.no
        try:
            return self._serve(one)
        except UserError as error:
            self.store.fail(one.no, str(error))
        return Served()

    def _serve(self, one: ActiveJob) -> Served:
        if one.is_rolled_back:
            return Served(wait_s=0.0 if self.roll_back(self.store.job(one.no)) else WAIT_S)
        match one.state:
            case JobState.CANCELLING:
                self.store.close_some(one.no, CLOSED_AT_ONCE)
                return Served()
            case JobState.PLANNED:
                if wait_s := self._give_way():
                    return Served(wait_s=wait_s)
                begin = self.seconds()
                found = self.select(self.store.job(one.no))
                self._took_s = self.seconds() - begin
                return Served(wait_s=0.0 if found else WAIT_S)
            case JobState.RUNNING:
                return self._go_on(one.no)
            case _:
                return Served(wait_s=WAIT_S)

    def _go_on(self, job_no: int) -> Served:
        standing = self.store.standing(job_no)
        if standing is None:
            return Served(wait_s=WAIT_S)
        match what_next(standing):
            case WaitFor(seconds):
                return Served(wait_s=seconds)
            case Finish():
                self.store.finish(job_no)
            case PauseAfterProbe():
                self.store.pause_after_probe(job_no)
            case Fail(why):
                self.store.fail(job_no, why)
            case Begin() as begin:
                if wait_s := self._give_way():
                    return Served(wait_s=wait_s)
                rows = self._run_slice(job_no, begin)
                return Served(rows=rows, wait_s=0.0 if rows else WAIT_S)
        return Served()

    def _give_way(self) -> float:
        """For how long to wait for live work now, seconds; 0 if it is the job's turn."""
        if not self.store.is_live_waiting():
            self._gave_way_s = 0.0
            return 0.0
        if self._gave_way_s >= self._took_s * (BULK_TURN - 1):
            self._gave_way_s = 0.0
            return 0.0
        wait_s = min(max(self._took_s, GIVE_WAY_MIN_S), GIVE_WAY_MAX_S)
        self._gave_way_s += wait_s
        return wait_s

    def _run_slice(self, job_no: int, begin: Begin) -> int:
        began = self.seconds()
        one = self.store.claim(job_no, begin)
        if one is None:
            return 0
        seqs = [row.seq for row in one.rows]
        columns = columns_of_job(one.job)
        executions, deferred = decide(
            one, self.store.subjects(one.where, seqs, columns), cost_limit=self.cost_limit
        )
        is_written = patiently(
            partial(self.store.record, one, executions, deferred),
            patience_s=PATIENCE_S, stopping=self.stopping,
        )
        self._took_s = self.seconds() - began
        if not is_written:
            return 0
        for queue in {later.queue for later in deferred}:
            self.ring(queue)
        return len(one.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was done for a job: how many rows, and for how long nothing can be done."""

    rows: int = 0
    wait_s: float = 0.0


def columns_of_job(job: RescoreJob) -> frozenset[str]:
    """The columns that the job's scorers read which may run here."""
    read: frozenset[str] = frozenset()
    for one in job.scorers:
        scorer = one.scorer
        if scorer.kind == GLOBAL and catalog.is_known(scorer.name):
            spec = catalog.resolve(scorer.name)
            if spec.kind is not ScorerKind.JUDGED:
                read |= columns_of(spec)
    return read


def decide(
    one: JobSlice, subjects: Mapping[RowSeq, Subject], *, cost_limit: float
) -> tuple[list[Execution], list[Deferred]]:
    """Runs the cheap scorers of the slice, and hands on the others. Writes nothing.

    A row that was deleted gets nothing. One with other content by now gets what is superseded
    as it is recorded: an outcome of the content that was selected.
    """
    executions: list[Execution] = []
    deferred: list[Deferred] = []
    requests = one.job.requests()
    suspect = one.attempts > INLINE_ATTEMPTS_MAX
    for row in one.rows:
        subject = subjects.get(row.seq)
        if subject is None:
            continue
        is_current = subject.content_xact == row.version
        if not is_current:
            subject = replace(subject, content_xact=row.version)
        for place, (scorer, request) in enumerate(zip(one.job.scorers, requests, strict=True)):
            if not row.is_wanted(place):
                continue
            assignment = Assignment(
                subject=subject, scorer=scorer.scorer, asked=(request,), label=scorer.label
            )
            later = Deferred(
                assignment=assignment, queue=scorer.queue, priority=Priority.BULK
            )
            if not is_current:
                deferred.append(later)
            elif scorer.scorer in one.gone:
                executions.append(_gone(assignment, scorer))
            elif scorer.scorer.kind != GLOBAL:
                deferred.append(later)
            else:
                verdict, queue = now_or_later(
                    assignment, cost_limit=cost_limit, suspect=suspect
                )
                if verdict is None:
                    deferred.append(replace(later, queue=queue))
                else:
                    executions.append(Execution(
                        assignment=assignment, verdict=verdict, queue=RESCORE, attempts=1
                    ))
    return executions, deferred


def _gone(assignment: Assignment, scorer: JobScorer) -> Execution:
    error = BadInput(
        f"the function {scorer.shown_as} was deleted after the job was made: push it again, "
        "and make a new job"
    )
    return Execution(
        assignment=assignment, verdict=failed_verdict(error), queue=RESCORE, attempts=1
    )
