"""The report of a re-score job over records in memory."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from fakes.memory.job_records import MemoryJobRecords

from flows.rescore.report import report_on
from rules.rescore.model import JobScorer, JobState, RescoreJob, Selection
from rules.rescore.report import JobOutcome, JobRecord
from spans.ids import ProjectId
from spans.queues import MATCH
from spans.scoring import OutcomeState, ScorerRef

JOB = RescoreJob(
    no=1, id=uuid.uuid4(), project_id=ProjectId(uuid.uuid4()), state=JobState.RUNNING,
    request={}, selection=Selection(objects=()), created=datetime(2026, 1, 1, tzinfo=UTC),
    scorers=(JobScorer(scorer=ScorerRef(kind="function", name="f", version="1"), queue=MATCH),),
)


def record(row: str, value: float | None) -> JobRecord:
    outcome = None
    if value is not None:
        outcome = JobOutcome(state=OutcomeState.COMPLETED, values={"s": value})
    return JobRecord(row_id=row, scorer=0, outcome=outcome, before={"s": 0.75})


def test_the_report_of_a_running_job_has_what_is_there_so_far() -> None:
    store = MemoryJobRecords()
    store.kept[JOB.id] = [[record("a", 0.85)], [record("b", 0.7), record("c", None)]]
    store.least[JOB.id] = [0.8]

    report = report_on(store, JOB)

    assert (report.total.states["completed"], report.total.unreached) == (2, 1)
    assert report.scorers[0].scores["s"].flips.to_pass == 1
    assert report.scorers[0].threshold == 0.8


def test_a_job_without_steps_has_an_empty_report() -> None:
    report = report_on(MemoryJobRecords(), JOB)
    assert (report.total.outcomes, report.scorers[0].scores) == (0, {})
    assert report.scorers[0].threshold == 0.5
