"""The steps of re-score jobs in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fakes.memory.scoring import MemoryScoring, Outcome

from flows.rescore.run import ActiveJob, JobSlice, WantedRow
from rules.rescore.model import ENDED, JobState, PausedBy, RescoreJob
from rules.rescore.pace import PENDING_MAX, Begin, Standing
from spans.ids import RowSeq
from spans.outcome import CANCELLED, Failure
from spans.queues import held_by_job
from spans.row import ObjectRef
from spans.scoring import ScorerRef
from spans.work import Deferred, Execution, Subject


@dataclass(slots=True)
class KeptJob:
    """A job, the steps that its rows are selected in, and how far they are run."""

    job: RescoreJob
    steps: list[tuple[ObjectRef, list[WantedRow]]]
    next_step: int = 0
    next_row: int = 0
    begun: int = 0
    attempts: int = 0
    paced_from: float | None = None
    paced_records: int = 0


@dataclass(slots=True)
class MemorySteps:
    """Implements flows.rescore.run.StepStore. `now_s` is the time by which rates are kept."""

    scoring: MemoryScoring
    jobs: dict[int, KeptJob] = field(default_factory=dict)
    now_s: float = 0.0
    live: bool = False
    gone: set[ScorerRef] = field(default_factory=set)

    def active(self) -> Sequence[ActiveJob]:
        return [
            ActiveJob(no=no, state=kept.job.state)
            for no, kept in sorted(self.jobs.items())
            if kept.job.state not in {*ENDED, JobState.PAUSED}
        ]

    def job(self, job_no: int) -> RescoreJob:
        return self.jobs[job_no].job

    def hold_stragglers(self) -> None:
        for no, kept in self.jobs.items():
            if kept.job.state is JobState.PAUSED:
                for outcome in self.pending(no):
                    if outcome.owner is None:
                        outcome.queue = held_by_job(no)

    def is_live_waiting(self) -> bool:
        return self.live

    def standing(self, job_no: int) -> Standing | None:
        kept = self.jobs[job_no]
        if kept.job.state is not JobState.RUNNING:
            return None
        rows = kept.steps[kept.next_step][1] if kept.next_step < len(kept.steps) else []
        return Standing(
            rows_left=len(rows) - kept.next_row, begun=kept.begun,
            pending=min(PENDING_MAX, len(self.pending(job_no))), attempts=kept.attempts,
            scorers=len(kept.job.scorers), probe=kept.job.probe,
            max_per_second=kept.job.max_per_second, paced_records=kept.paced_records,
            paced_s=None if kept.paced_from is None else self.now_s - kept.paced_from,
        )

    def claim(self, job_no: int, begin: Begin) -> JobSlice | None:
        kept = self.jobs[job_no]
        if kept.job.state is not JobState.RUNNING:
            return None
        kept.attempts += 1
        kept.paced_from = (
            self.now_s if kept.paced_from is None else kept.paced_from
        ) + begin.skipped_s
        kept.paced_records += begin.rows
        where, rows = kept.steps[kept.next_step]
        taken = rows[kept.next_row : kept.next_row + begin.rows]
        return JobSlice(
            job=kept.job, step_no=kept.next_step, first=kept.next_row, where=where,
            rows=tuple(taken), attempts=kept.attempts,
            is_last=kept.next_row + len(taken) == len(rows), gone=frozenset(self.gone),
        )

    def subjects(
        self, where: ObjectRef, row_seqs: Sequence[RowSeq], columns: frozenset[str]
    ) -> Mapping[RowSeq, Subject]:
        return self.scoring.subjects(where, row_seqs, columns)

    def record(
        self, one: JobSlice, executions: Sequence[Execution], deferred: Sequence[Deferred]
    ) -> bool:
        kept = self.jobs[one.job.no]
        stands = kept.job.state, kept.next_step, kept.next_row
        if stands != (JobState.RUNNING, one.step_no, one.first):
            return False
        with self.scoring.transaction("record_slice"):
            self.scoring.record(executions, deferred)
        kept.attempts = 0
        kept.begun += len(one.rows)
        kept.next_row += len(one.rows)
        if one.is_last:
            kept.next_step, kept.next_row = kept.next_step + 1, 0
        return True

    def finish(self, job_no: int) -> None:
        self.set_state(job_no, JobState.COMPLETED)

    def pause_after_probe(self, job_no: int) -> None:
        self.set_state(job_no, JobState.PAUSED)
        kept = self.jobs[job_no]
        kept.job = replace(kept.job, paused_by=PausedBy.PROBE)

    def fail(self, job_no: int, why: str) -> None:
        self._close(self.pending(job_no))
        self.set_state(job_no, JobState.FAILED)
        kept = self.jobs[job_no]
        kept.job = replace(kept.job, failure=why)

    def close_some(self, job_no: int, limit: int) -> bool:
        self._close(self.pending(job_no)[:limit])
        if self.pending(job_no):
            return True
        self.set_state(job_no, JobState.CANCELLED)
        return False

    @staticmethod
    def _close(outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            outcome.supersede()
            outcome.failure = Failure(error_class=CANCELLED, message="cancelled")

    def set_state(self, job_no: int, state: JobState) -> None:
        """Has the job in this state from now on."""
        self.jobs[job_no].job = replace(self.jobs[job_no].job, state=state)

    def pending(self, job_no: int) -> list[Outcome]:
        """The pending outcomes of the job."""
        return [
            one for one in self.scoring.outcomes.values()
            if one.is_waiting and one.key.origin.generation == job_no
        ]
