"""A project on PostgreSQL whose rows re-score jobs score, a verdict at a time."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from stored_world import StoredWorld

from flows.rescore.jobs import NewJob
from rules.rescore.model import Action, JobScorer, RescoreJob
from rules.rescore.wire import read_rescore, request_json, selection_of
from spans.clock import system_clock
from spans.ids import RuleId
from spans.outcome import (
    Errored,
    Failure,
    Origin,
    RuleOrigin,
    ScorerUse,
    Verdict,
    verdict_of,
)
from spans.queues import MATCH
from spans.scoring import Role, Score, ScorerRef, ScoringResult, Usage
from spans.work import Assignment, Execution, OutcomeRequest
from store.postgres.counters import Counts
from store.postgres.row_views import read_subjects
from store.rescore.jobs import StoredJobs
from store.rescore.reports import JobRecords
from store.rescore.rollback import Rollbacks, RolledBack
from store.scoring.locked_rows import lock_rows
from store.scoring.record import record

FAILED = Errored(
    failure=Failure(error_class="timeout", message="late"), started_at=1.5, run_ms=2.0
)


def scorer(name: str, version: str = "1", kind: str = "global") -> ScorerRef:
    return ScorerRef(kind=kind, name=name, version=version)


def gave(usage: Usage | None = None, **values: float | None) -> Verdict:
    """The verdict with these scores by name."""
    scores = tuple(Score(name=name, value=value) for name, value in values.items())
    result = ScoringResult(scores=scores, arguments={}, usage=usage or Usage())
    return verdict_of(result, started_at=1.5, run_ms=2.0)


class RescoredWorld(StoredWorld):
    """A stored world with jobs. Its rules score when a test says so."""

    def __init__(self, url: str, *, project: str = "app") -> None:
        super().__init__(url, project=project)
        self.jobs = StoredJobs(self.database)
        self.reports = JobRecords(self.database)
        self.rollbacks = Rollbacks(self.database)
        self.rule_origin = RuleOrigin(RuleId(uuid.uuid4()))

    def job(self, *scorers: ScorerRef, label: str | None = None) -> RescoreJob:
        """A stored job with these scorers, whose rows are selected by `select`."""
        body = read_rescore({"filter": "", "scorers": [one.name for one in scorers]})
        request = request_json(body)
        made, _ = self.jobs.make(NewJob(
            id=uuid.uuid4(), project_id=self.where.project_id, request=request,
            request_hash=b"", selection=selection_of(request, [self.where]),
            scorers=tuple(JobScorer(scorer=one, queue=MATCH, label=label) for one in scorers),
            created_by=None,
        ))
        return made

    def select(
        self, job: RescoreJob, *rows: str, wants: Sequence[int] | None = None
    ) -> None:
        """Add a step of the job with these rows, at their present content."""
        seqs = [self.place(row) for row in rows]
        object_no = self.database.numbers.object_no(self.where)
        versions = dict(self.rows(
            "select seq, content_xact from span_head where object_no = %s and seq = any(%s)",
            object_no, seqs,
        ))
        with self.database.cursor() as cursor:
            cursor.execute(
                """insert into rescore_step (job_no, step_no, object_no, records, outcomes,
                                             seqs, versions, wants)
                   select %s, count(*), %s, %s, %s, %s, %s, %s
                     from rescore_step where job_no = %s""",
                (
                    job.no, object_no, len(rows), len(rows) * len(job.scorers), seqs,
                    [versions[seq] for seq in seqs], None if wants is None else list(wants),
                    job.no,
                ),
            )

    def score(self, origin: Origin, by: ScorerRef, verdicts: Mapping[str, Verdict]) -> None:
        """Record the verdicts of a scorer by row id, at the rows' present content."""
        asked = OutcomeRequest(
            use=ScorerUse(origin=origin, role=Role.LIVE, scorer=by), rules_revision=None,
            skip_logging=False,
        )
        seqs = {self.place(row): verdict for row, verdict in verdicts.items()}
        numbers = self.database.numbers
        with self.database.cursor() as cursor:
            subjects = read_subjects(
                cursor, self.where, numbers.object_no(self.where), list(seqs),
                frozenset({"input", "output", "metadata"}),
            )
            locked = lock_rows(cursor, numbers, subjects.values())
            executions = [
                Execution(
                    assignment=Assignment(subject=subject, scorer=by, asked=(asked,)),
                    verdict=seqs[seq], queue=MATCH, attempts=1,
                )
                for seq, subject in subjects.items()
            ]
            record(
                cursor, numbers, locked, executions, (), now=system_clock(), counts=Counts()
            )

    def end(self, job: RescoreJob) -> None:
        """All steps of the job are done."""
        with self.database.cursor() as cursor:
            cursor.execute(
                """update rescore_job set state = 'completed', next_step = (
                     select count(*) from rescore_step where job_no = %s) where job_no = %s""",
                (job.no, job.no),
            )

    def roll_back(self, job: RescoreJob) -> RolledBack:
        """End the job and roll it back whole. Returns the totals of its steps."""
        self.end(job)
        self.jobs.act(job.id, Action.ROLLBACK)
        restored = left_alone = 0
        while not (step := self.rollbacks.next_step(job.no)).is_last:
            restored += step.restored
            left_alone += step.left_alone
        return RolledBack(restored, left_alone, is_last=True)

    def found(self, job: RescoreJob) -> RescoreJob:
        found = self.jobs.find(self.org_id, job.id)
        assert found is not None
        return found
