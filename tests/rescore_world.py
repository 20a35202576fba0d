"""Re-score jobs over the rows of a stored world, and what runs them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from store_behaviours.scoring import CHEAP
from stored_world import StoredWorld

from flows.rescore.jobs import NewJob
from flows.rescore.run import JobRunner
from rules.rescore.model import Action, JobScorer, JobState, RescoreJob
from rules.rescore.wire import read_rescore, request_json, selection_of
from scorers import catalog
from scorers.catalog import GLOBAL
from spans.clock import system_clock
from spans.json import JsonObject
from spans.queues import HEAVY
from spans.scoring import ScorerRef
from store.postgres.database import Database
from store.rescore.jobs import StoredJobs
from store.rescore.steps import StoredSteps

# The rows of a project that no scorer made, newest first, in steps of so many.
SELECT_ALL = """
    with chosen as (
      select head.object_no, head.seq, head.content_xact,
             (row_number() over (order by head.created desc, head.seq desc) - 1) / %(size)s
               as step_no
        from span_head head join span on span.seq = head.seq
        join object on object.object_no = head.object_no
       where object.project_id = %(project)s and span.scored_use is null
         and deleted_at is null)
    insert into rescore_step (job_no, step_no, object_no, records, outcomes, seqs, versions)
    select %(job_no)s, step_no, object_no, count(*), count(*) * %(scorers)s,
           array_agg(seq), array_agg(content_xact)
      from chosen group by step_no, object_no
"""


def global_scorer(name: str) -> JobScorer:
    """A scorer of autoevals. Its runs wait for the heavy workers, if they wait."""
    scorer = ScorerRef(kind=GLOBAL, name=name, version=catalog.installed_version())
    return JobScorer(scorer=scorer, queue=HEAVY)


@dataclass
class RescoreWorld:
    """A project whose rows jobs score, and the jobs."""

    world: StoredWorld
    jobs: StoredJobs = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = StoredJobs(self.world.database)

    def make(
        self, *scorers: JobScorer, rate: float | None = None, probe: int | None = None,
        **more: object,
    ) -> RescoreJob:
        """A job for all rows of the project, of which none is selected yet."""
        request: JsonObject = request_json(read_rescore({
            "filter": "", "scorers": [one.scorer.name for one in scorers], **more,
        }))
        job, _ = self.jobs.make(NewJob(
            id=uuid.uuid4(), project_id=self.world.where.project_id, request=request,
            request_hash=b"", selection=selection_of(request, [self.world.where]),
            scorers=scorers, created_by=None, probe=probe, max_per_second=rate,
        ))
        return job

    def begin(
        self, *scorers: JobScorer, size: int = 500, rate: float | None = None,
        probe: int | None = None,
    ) -> RescoreJob:
        """A job whose rows are selected, in steps of `size`, and which runs."""
        job = self.make(*scorers or (global_scorer("Levenshtein"),), rate=rate, probe=probe)
        with self.world.database.cursor() as cursor:
            cursor.execute(SELECT_ALL, {
                "size": size, "project": job.project_id, "job_no": job.no,
                "scorers": len(job.scorers),
            })
            cursor.execute(
                """update rescore_job set state = 'running', selected_at = now(),
                          started_at = now() where job_no = %s""",
                (job.no,),
            )
        return self.now(job)

    def now(self, job: RescoreJob) -> RescoreJob:
        """The job as it is stored now."""
        found = self.jobs.find(self.world.org_id, job.id)
        assert found is not None
        return found

    def act(self, job: RescoreJob, action: Action) -> RescoreJob:
        return self.jobs.act(job.id, action)

    def outcomes(self, job: RescoreJob) -> list[tuple[str, str, str, str | None]]:
        """(row, scorer, state, error class) of each outcome of the job."""
        return self.world.rows(
            """select span.id, scorer, outcome.state, error_class
                 from outcome join scorer_use using (use_no)
                 join span on span.seq = outcome.subject_seq
                where outcome.job_no = %s""",
            job.no,
        )

    def states(self, job: RescoreJob) -> Counter[str]:
        return Counter(state for _, _, state, _ in self.outcomes(job))

    def queues(self, job: RescoreJob) -> Counter[str]:
        """The queues in which the job's pending outcomes wait."""
        return Counter(queue for (queue,) in self.world.rows(
            "select queue from outcome where job_no = %s and state = 'pending'", job.no
        ))


def runner_over(
    database: Database, *, cost_limit: float = CHEAP,
    ring: Callable[[str], None] = lambda _: None,
) -> JobRunner:
    """What runs jobs, over the database."""
    return JobRunner(
        store=StoredSteps(database, system_clock), select=lambda _: False,
        roll_back=lambda _: False, ring=ring,
        cost_limit=cost_limit,
    )


def is_ended(job: RescoreJob) -> bool:
    return job.state in {JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED}
