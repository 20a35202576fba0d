"""What a terminal shows of a re-score job, and what the command exits with."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.rescore.jobs import JobProgress
from flows.rescore.rescores import JobStatus
from ops.commands.job_progress import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_PAUSED,
    EXIT_WITH_ERRORS,
    JobPace,
    exit_code,
    list_line,
    progress_line,
    summary_lines,
    waits,
)
from rules.rescore.model import JobScorer, JobState, PausedBy, RescoreJob, Selection
from spans.ids import ProjectId
from spans.queues import HEAVY
from spans.scoring import ScorerRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = RescoreJob(
    no=1, id=uuid.UUID(int=7), project_id=ProjectId(uuid.UUID(int=8)), state=JobState.RUNNING,
    request={}, selection=Selection(objects=()), created=NOW, scorers=(
        JobScorer(scorer=ScorerRef(kind="global", name="ExactMatch", version="1"), queue=HEAVY),
    ),
)


def status(progress: JobProgress | None = None, **changed: Any) -> JobStatus:
    return JobStatus(job=replace(JOB, **changed), progress=progress or JobProgress())


def test_a_running_job_tells_its_share_its_rate_and_the_time_left() -> None:
    pace = JobPace()
    pace.see(100.0, 0)
    pace.see(102.0, 1000)
    progress = JobProgress(records=4000, outcomes=4000, held=20, states={
        "completed": 900, "errored": 100, "pending": 50,
    })
    line = progress_line(status(progress), pace)
    assert line == (
        "[######..................] 1,000 of 4,000 (25%)  500/s  6 s left  100 errored  "
        "20 held back"
    )


def test_the_rate_is_that_of_the_last_seconds() -> None:
    pace = JobPace()
    assert pace.per_second is None
    for at_s, done in ((0.0, 0), (1.0, 1000), (20.0, 1000), (25.0, 1050)):
        pace.see(at_s, done)
    assert pace.per_second == 10


@pytest.mark.parametrize(("changed", "said"), [
    ({"state": JobState.PLANNED}, "selecting records: 0 so far"),
    ({"state": JobState.PAUSED, "paused_by": PausedBy.PROBE}, "paused after its probe"),
    ({"state": JobState.PAUSED, "paused_by": PausedBy.HAND}, "paused"),
    ({"state": JobState.FAILED, "failure": "the filter is wrong"},
     "failed: the filter is wrong"),
    ({"state": JobState.COMPLETED}, "0 of 0 (100%)  completed"),
])
def test_a_line_tells_the_state(changed: dict[str, Any], said: str) -> None:
    pace = JobPace()
    pace.see(0.0, 0)
    assert said in progress_line(status(**changed), pace)


def test_a_summary_has_counts_errors_the_rate_and_the_rollback() -> None:
    told = "\n".join(summary_lines(status(
        JobProgress(records=3, outcomes=3, states={"completed": 1, "errored": 2},
                    errors={"timeout": 2}),
        state=JobState.COMPLETED, max_per_second=5.0, rollback_at=NOW, rolled_back_at=NOW,
        restored=2, left_alone=1,
    )))
    for part in (
        "completed", "ExactMatch", "records   3", "1 completed, 2 errored", "2 timeout",
        "at most 5 records a second",
        "rolled back: 2 records restored, 1 left alone, since others have changed them",
    ):
        assert part in told


@pytest.mark.parametrize(("state", "errored", "code"), [
    (JobState.COMPLETED, 0, 0), (JobState.COMPLETED, 1, EXIT_WITH_ERRORS),
    (JobState.RUNNING, 1, 0), (JobState.FAILED, 0, EXIT_FAILED),
    (JobState.CANCELLED, 0, EXIT_CANCELLED), (JobState.PAUSED, 0, EXIT_PAUSED),
])
def test_the_exit_code_tells_how_the_job_stands(
    state: JobState, errored: int, code: int
) -> None:
    assert exit_code(status(JobProgress(states={"errored": errored}), state=state)) == code


def test_a_rollback_is_told_while_it_goes_on_and_ends_well() -> None:
    going_on = status(state=JobState.CANCELLED, rollback_at=NOW, restored=7)
    assert progress_line(going_on, JobPace()) == "being rolled back: 7 records restored"
    assert exit_code(going_on) == EXIT_CANCELLED
    done = status(state=JobState.CANCELLED, rollback_at=NOW, rolled_back_at=NOW, restored=9)
    assert progress_line(done, JobPace()) == "rolled back: 9 records restored"
    assert exit_code(done) == 0


def test_what_is_held_back_is_told_beside_what_is_pending() -> None:
    told = summary_lines(status(JobProgress(held=2, states={"pending": 3, "completed": 1})))
    assert "  outcomes  3 pending (2 held back), 1 completed" in told


def test_who_watches_waits_for_an_end_a_pause_or_the_end_of_a_rollback() -> None:
    running = {JobState.PLANNED, JobState.RUNNING, JobState.CANCELLING}
    assert {state for state in JobState if waits(status(state=state))} == running
    assert waits(status(state=JobState.COMPLETED, rollback_at=NOW))
    assert not waits(status(state=JobState.COMPLETED, rollback_at=NOW, rolled_back_at=NOW))


def test_a_list_counts_nothing_that_was_cancelled_as_done() -> None:
    progress = JobProgress(
        records=2000, outcomes=2000, cancelled=1950, states={"completed": 48, "errored": 2}
    )
    line = list_line(status(progress, state=JobState.CANCELLED))
    assert "cancelled          50 of 2,000      ExactMatch  2 errored" in line


def test_a_list_tells_which_jobs_were_rolled_back_or_held_back() -> None:
    ended = {"state": JobState.COMPLETED, "rollback_at": NOW}
    assert list_line(status(**ended)).endswith("ExactMatch  being rolled back")
    assert list_line(status(**ended, rolled_back_at=NOW)).endswith("ExactMatch  rolled back")
    assert list_line(status(JobProgress(held=7))).endswith("ExactMatch  7 held back")


def test_a_running_job_that_is_held_back_says_where_the_reason_is() -> None:
    progress = JobProgress(held=7, states={"pending": 7})
    assert any("tallyard status" in line for line in summary_lines(status(progress)))
    paused = summary_lines(status(progress, state=JobState.PAUSED))
    assert not any("tallyard status" in line for line in paused)
