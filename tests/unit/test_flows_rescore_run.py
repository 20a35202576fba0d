"""Running re-score jobs over stores in memory."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace

import pytest
from fakes.memory.rescore_steps import KeptJob, MemorySteps
from fakes.memory.ticks import START
from memory_scoring import MemoryWorld
from store_behaviours.scoring import CHEAP, ended, place_of, record

from flows.rescore.run import JobRunner, WantedRow
from rules.rescore.model import JobScorer, JobState, RescoreJob, Selection
from rules.rescore.pace import ATTEMPTS_MAX
from scorers import catalog
from scorers.catalog import GLOBAL
from scorers.functions.version import FUNCTION
from spans.errors import BadInput, StoreUnavailable
from spans.queues import HEAVY, JUDGE, RESCORE
from spans.row import RowKey
from spans.scoring import ScorerRef
from spans.work import BULK_TURN, Priority

ROWS = 6
FOREVER_S = 60.0


def scorer(name: str = "Levenshtein", queue: str = HEAVY) -> JobScorer:
    return JobScorer(
        scorer=ScorerRef(kind=GLOBAL, name=name, version=catalog.installed_version()),
        queue=queue,
    )


class Running:
    """A project with rows that no rule scores, its jobs, and what runs them."""

    def __init__(self) -> None:
        self.world = MemoryWorld()
        self.steps = MemorySteps(self.world.scoring)
        self.rung: list[str] = []
        self.selected: list[RescoreJob] = []
        self.time_s = 0.0
        self.runner = JobRunner(
            store=self.steps, select=self._select, roll_back=lambda _: False,
            ring=self.rung.append, cost_limit=CHEAP,
            seconds=lambda: self.time_s,
        )
        self.world.write(*(ended(f"row{number}") for number in range(ROWS)))
        self.world.match()

    def job(
        self, *scorers: JobScorer, size: int = 4, wants: int | None = None, **given: object
    ) -> int:
        """A running job over all rows, in steps of `size`."""
        no = len(self.steps.jobs) + 1
        rows = [
            WantedRow(place_of(row), kept.stored.content_xact, wants)
            for row in self.world.shown().values()
            for kept in [self.world.rows.find(RowKey(self.world.where, str(row["id"])))]
            if kept is not None
        ]
        job = RescoreJob(
            no=no, id=uuid.uuid4(), project_id=self.world.where.project_id,
            state=JobState.RUNNING, request={}, selection=Selection(objects=()),
            scorers=scorers or (scorer(),), created=START,
        )
        steps = [(self.world.where, rows[at : at + size]) for at in range(0, len(rows), size)]
        self.steps.jobs[no] = KeptJob(replace(job, **given), steps)
        return no

    def go(self, turns: int = 20) -> None:
        for _ in range(turns):
            for one in self.steps.active():
                self.runner.serve(one)

    def state(self, no: int) -> JobState:
        return self.steps.job(no).state

    def outcomes(self) -> Counter[tuple[str, str]]:
        return Counter(
            (one.state.value, one.queue) for one in self.world.scoring.outcomes.values()
        )

    def _select(self, job: RescoreJob) -> bool:
        self.selected.append(job)
        return False


@pytest.fixture
def running() -> Running:
    return Running()


def test_cheap_scorers_run_at_once_and_the_others_wait_as_bulk(running: Running) -> None:
    no = running.job(scorer(), scorer("Factuality", JUDGE))

    running.go()

    assert running.outcomes() == {("completed", RESCORE): ROWS, ("pending", JUDGE): ROWS}
    assert {one.priority for one in running.steps.pending(no)} == {Priority.BULK}
    assert set(running.rung) == {JUDGE}
    assert running.state(no) is JobState.RUNNING


def test_a_job_is_completed_once_its_last_outcome_is_there(running: Running) -> None:
    function = JobScorer(
        scorer=ScorerRef(kind=FUNCTION, name=str(uuid.uuid4()), version="1"), queue=HEAVY
    )
    no = running.job(function)
    running.go()

    record(running.world.worker, *running.world.claim(ROWS))
    running.go(1)

    assert running.state(no) is JobState.COMPLETED


def test_only_the_scorers_that_are_wanted_on_a_row_run_on_it(running: Running) -> None:
    running.job(scorer(), scorer("ExactMatch"), wants=0b10)

    running.go()

    assert {one.key.scorer.name for one in running.world.scoring.outcomes.values()} == {
        "ExactMatch"
    }
    assert running.outcomes() == {("completed", RESCORE): ROWS}


def test_jobs_are_served_in_turn(running: Running) -> None:
    first, second = running.job(size=2), running.job(scorer("ExactMatch"), size=2)

    running.go(1)

    assert [running.steps.jobs[no].begun for no in (first, second)] == [2, 2]


def test_a_deleted_function_gives_an_error_for_each_row(running: Running) -> None:
    function = JobScorer(
        scorer=ScorerRef(kind=FUNCTION, name=str(uuid.uuid4()), version="1"), queue=HEAVY,
        label="close",
    )
    no = running.job(function)
    running.steps.gone.add(function.scorer)

    running.go()

    assert running.outcomes() == {("errored", RESCORE): ROWS}
    assert running.state(no) is JobState.COMPLETED


def test_jobs_get_a_sixteenth_of_the_time_while_live_work_waits(running: Running) -> None:
    no = running.job(size=1)
    running.steps.live = True
    (active,) = running.steps.active()
    slices, waited_s = 0, 0.0
    claim = running.steps.claim

    def slow(*given: object) -> object:
        running.time_s += 0.02
        return claim(*given)

    running.steps = running.runner.store = SlowSteps(running.steps, slow)
    while running.state(no) is JobState.RUNNING:
        served = running.runner.serve(active)
        slices += served.rows
        waited_s += served.wait_s

    assert slices == ROWS
    # Nothing is known of a slice before the first.
    assert waited_s == pytest.approx((ROWS - 1) * 0.02 * (BULK_TURN - 1), rel=0.1)


class SlowSteps:
    """Steps whose claims take time."""

    def __init__(self, steps: MemorySteps, claim: object) -> None:
        self._steps = steps
        self.claim = claim

    def __getattr__(self, name: str) -> object:
        return getattr(self._steps, name)


def test_planned_jobs_have_their_rows_selected(running: Running) -> None:
    no = running.job(state=JobState.PLANNED)

    running.go(1)

    assert [job.no for job in running.selected] == [no]


def test_a_cancelled_job_ends_once_its_outcomes_are_closed(running: Running) -> None:
    no = running.job(scorer("Factuality", JUDGE))
    running.go()
    running.steps.set_state(no, JobState.CANCELLING)

    running.go(2)

    assert running.state(no) is JobState.CANCELLED
    assert running.outcomes() == {("superseded", JUDGE): ROWS}


def test_a_store_that_is_away_ends_the_task_and_counts_no_row(running: Running) -> None:
    no = running.job()
    running.runner.stopping.set()      # so that it gives up at once
    (active,) = running.steps.active()
    running.world.scoring.fail("record_slice", StoreUnavailable("away"))

    with pytest.raises(StoreUnavailable):
        running.runner.serve(active)

    running.go()
    assert running.state(no) is JobState.COMPLETED
    assert running.outcomes() == {("completed", RESCORE): ROWS}


def test_a_job_that_meets_a_bug_again_and_again_fails_and_keeps_no_other_waiting(
    running: Running,
) -> None:
    broken, other = running.job(), running.job(scorer("ExactMatch"))
    running.world.scoring.fail("record_slice", RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        running.runner.run(stop_after_s=FOREVER_S)

    running.steps.jobs[broken].attempts = ATTEMPTS_MAX
    running.runner.run(stop_after_s=FOREVER_S)

    assert [running.state(no) for no in (broken, other)] == [
        JobState.FAILED, JobState.COMPLETED
    ]


def test_a_job_whose_selection_is_refused_fails_with_the_reason(running: Running) -> None:
    no = running.job(state=JobState.PLANNED)

    def refuse(_: RescoreJob) -> bool:
        raise BadInput("the filter names no column")

    running.runner.select = refuse
    running.go(1)

    assert running.state(no) is JobState.FAILED
    assert running.steps.job(no).failure == "the filter names no column"


def test_a_run_ends_when_no_job_is_active_and_counts_the_rows(running: Running) -> None:
    running.job(size=2)

    assert running.runner.run(stop_after_s=FOREVER_S) == (ROWS, False)


def test_a_run_whose_time_is_up_says_that_jobs_are_left(running: Running) -> None:
    running.job()

    assert running.runner.run(stop_after_s=-1) == (0, True)
