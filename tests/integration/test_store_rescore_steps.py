"""What PostgreSQL keeps of jobs that run: each row is scored once, and every action holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from rescore_world import RescoreWorld, global_scorer, runner_over
from store_behaviours.scoring import (
    NOTHING_IS_CHEAP,
    RESELECT,
    ended,
    record,
    rows_of,
)
from stored_world import StoredWorld, opened_world

from flows.rescore.run import JobRunner, JobSlice, decide
from flows.scoring.match import Matcher
from ops.servers.children import wait_until
from rules.rescore.model import Action, JobScorer, JobState, PausedBy
from rules.rescore.pace import Begin
from scorers.functions.version import FUNCTION
from spans.clock import system_clock
from spans.queues import HEAVY, held_by_job
from spans.scoring import ScorerRef
from store.postgres.database import Database
from store.postgres.row_deletion import delete_with_history
from store.rescore.steps import StoredSteps
from store.retention import Retention, Upkeep
from store.scoring.circuits import Circuits

pytestmark = pytest.mark.every_postgres

ROWS = 12


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[StoredWorld]:
    with opened_world(fresh_database_url) as world:
        yield world


@pytest.fixture
def jobs(world: StoredWorld) -> RescoreWorld:
    return RescoreWorld(world)


@pytest.fixture
def rows(world: StoredWorld) -> list[str]:
    """The ids of rows that no rule scores."""
    ids = [f"row{number}" for number in range(ROWS)]
    world.write(*map(ended, ids))
    world.match()
    return ids


def runner(world: StoredWorld, cost_limit: float = 1e7) -> JobRunner:
    return runner_over(world.database, cost_limit=cost_limit)


def go(world: StoredWorld, times: int = 20, cost_limit: float = 1e7) -> None:
    """Has the jobs served so often that they come to an end, or to something they wait for."""
    run = runner(world, cost_limit)
    for _ in range(times):
        for one in run.store.active():
            run.serve(one)


def test_a_job_scores_each_of_its_rows_and_shows_the_scores(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin(size=5)

    go(world)

    assert jobs.now(job).state is JobState.COMPLETED
    assert sorted(jobs.outcomes(job)) == sorted(
        (row, "Levenshtein", "completed", None) for row in rows
    )
    shown = world.shown()
    assert {row: shown[row]["scores"] for row in rows} == {
        row: {"Levenshtein": pytest.approx(4 / 7)} for row in rows
    }
    assert len(world.score_spans()) == ROWS


def test_a_job_replaces_what_a_rule_scored_and_keeps_it(
    world: StoredWorld, jobs: RescoreWorld
) -> None:
    world.rule()
    world.write(ended("a"))
    world.match()
    job = jobs.begin()

    go(world)

    assert world.replaced() == [("a", job.no, "Levenshtein", pytest.approx(4 / 7))]
    ((by,),) = world.rows("select computed_by from span_head where computed_by is not null")
    assert by["Levenshtein"]["generation"] == job.no


def test_a_slice_that_is_recorded_twice_counts_once(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    store = StoredSteps(world.database, system_clock)
    one, other = store.claim(job.no, Begin(5)), store.claim(job.no, Begin(5))
    assert one is not None
    assert other is not None

    for part in (one, other):
        done = decide(
            part, store.subjects(part.where, [row.seq for row in part.rows], frozenset({
                "output", "expected",
            })), cost_limit=1e7,
        )
        assert store.record(part, *done) is (part is one)

    assert (one.attempts, other.attempts) == (1, 2)
    assert jobs.states(job) == {"completed": 5}
    assert jobs.jobs.progress(jobs.now(job)).unreached == ROWS - 5


def test_another_process_leaves_a_slice_to_the_one_that_is_at_it_while_that_lives(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    with closing(Database(world.url)) as there:
        second = StoredSteps(there, system_clock)
        with closing(Database(world.url)) as here:
            assert StoredSteps(here, system_clock).claim(job.no, Begin(5)) is not None
            assert second.claim(job.no, Begin(5)) is None
        taken: list[JobSlice] = []

        def is_taken() -> bool:   # once PostgreSQL has seen that the other one is gone
            taken.extend(filter(None, [second.claim(job.no, Begin(5))]))
            return bool(taken)

        assert wait_until(is_taken, deadline_s=20)
    assert taken[0].attempts == 2


@pytest.mark.parametrize("action", [Action.PAUSE, Action.CANCEL])
def test_a_slice_of_a_job_that_was_stopped_meanwhile_leaves_nothing(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str], action: Action
) -> None:
    job = jobs.begin()
    store = StoredSteps(world.database, system_clock)
    one = store.claim(job.no, Begin(5))
    assert one is not None
    subjects = store.subjects(one.where, [row.seq for row in one.rows], frozenset())

    jobs.act(job, action)

    assert not store.record(one, *decide(one, subjects, cost_limit=0))
    assert jobs.outcomes(job) == []
    assert store.claim(job.no, Begin(5)) is None


def test_a_row_whose_content_changed_before_its_turn_is_superseded(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin(global_scorer("Levenshtein"), global_scorer("ExactMatch"))
    world.write(ended("row3", "another"))

    go(world)

    assert Counter(
        (row == "row3", state) for row, _, state, _ in jobs.outcomes(job)
    ) == {(True, "superseded"): 2, (False, "completed"): 2 * (ROWS - 1)}
    assert not world.shown()["row3"].get("scores")


def test_a_row_that_changes_while_its_outcome_waits_is_superseded_and_the_job_ends(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    go(world, cost_limit=NOTHING_IS_CHEAP)
    assert jobs.states(job) == {"pending": ROWS}
    world.write(ended("row3", "another"), {"id": "row4", "_object_delete": True})

    claims = world.worker.ledger.claim(HEAVY, 100)
    stale = [one for one in claims if not hasattr(one, "fence")]
    world.worker.ledger.supersede(stale)
    record(world.worker, *(one for one in claims if hasattr(one, "fence")))
    go(world)

    assert jobs.states(job) == {"completed": ROWS - 2, "superseded": 1}
    assert jobs.now(job).state is JobState.COMPLETED


def test_rows_that_were_deleted_before_their_turn_have_no_outcome_and_hold_nothing_up(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    world.write({"id": "row3", "_object_delete": True})

    go(world)

    assert jobs.states(job) == {"completed": ROWS - 1}
    assert jobs.now(job).state is JobState.COMPLETED


def test_a_paused_job_has_nothing_claimed_until_it_is_resumed(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    go(world, cost_limit=NOTHING_IS_CHEAP)
    under_way = world.claim(2)

    jobs.act(job, Action.PAUSE)
    assert world.claim(100) == []
    Circuits(world.database, budget_s=60, wait_max_s=60).tend(["default"])
    assert world.claim(100) == []
    assert jobs.queues(job) == {HEAVY: 2, held_by_job(job.no): ROWS - 2}

    record(world.worker, under_way[0])     # what was claimed goes on, and its result counts
    world.worker.ledger.give_back(under_way[1:])
    run = runner(world)
    run.store.active()
    run.store.hold_stragglers()
    assert world.claim(100) == []

    jobs.act(job, Action.RESUME)
    record(world.worker, *world.claim(100))
    go(world)
    assert jobs.states(job) == {"completed": ROWS}
    assert jobs.now(job).state is JobState.COMPLETED


def test_cancelling_closes_what_is_pending_also_what_a_worker_runs(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    go(world, cost_limit=NOTHING_IS_CHEAP)
    under_way = world.claim(2)

    jobs.act(job, Action.CANCEL)
    record(world.worker, *under_way)
    go(world)

    assert Counter(
        (state, error_class) for _, _, state, error_class in jobs.outcomes(job)
    ) == {("superseded", "cancelled"): ROWS}
    assert jobs.now(job).state is JobState.CANCELLED
    assert world.score_spans() == []


@pytest.mark.parametrize("action", [Action.PAUSE, Action.CANCEL])
def test_a_live_outcome_that_shared_the_run_of_a_job_goes_on_without_it(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str], action: Action
) -> None:
    job = jobs.begin()
    go(world, cost_limit=NOTHING_IS_CHEAP)
    world.rule()
    world.write({"id": "row3", **RESELECT})
    # As if the rule's outcome had joined before live ones led: the job's is the lead.
    world.match(NOTHING_IS_CHEAP)
    with world.database.cursor() as cursor:
        cursor.execute(
            """update outcome set is_lead = job_no is not null
                where subject_seq = (select seq from span where id = 'row3')"""
        )

    jobs.act(job, action)

    (live,) = world.claim(100)
    assert rows_of([live]) == {"row3"}
    assert live.lead.origin.kind == "rule"


def test_a_probe_pauses_the_job_once_its_rows_are_scored_and_resuming_goes_on(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin(probe=3, size=2)

    go(world)
    assert jobs.states(job) == {"completed": 3}
    paused = jobs.now(job)
    assert (paused.state, paused.paused_by) == (JobState.PAUSED, PausedBy.PROBE)

    jobs.act(job, Action.RESUME)
    go(world)
    assert jobs.states(job) == {"completed": ROWS}
    assert jobs.now(job).state is JobState.COMPLETED


def test_a_job_that_was_paused_by_hand_before_its_probe_still_pauses_after_it(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin(probe=3, size=2)
    jobs.act(job, Action.PAUSE)
    jobs.act(job, Action.RESUME)

    go(world)

    assert jobs.states(job) == {"completed": 3}
    assert jobs.now(job).paused_by is PausedBy.PROBE


def test_a_job_that_fails_has_nothing_run_any_more(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin(size=6)
    runner(world, NOTHING_IS_CHEAP).run(stop_after_s=0.3)
    assert jobs.states(job) == {"pending": ROWS}
    (claim, *_) = world.claim(1)

    StoredSteps(world.database, system_clock).fail(job.no, "why")

    assert world.claim(100) == []
    record(world.worker, claim)
    assert jobs.states(job) == {"superseded": ROWS}
    assert jobs.now(job).failure == "why"


def test_a_job_of_a_function_that_was_deleted_ends_with_errors_that_say_so(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    function_id, version = world.push("close")
    scorer = ScorerRef(kind=FUNCTION, name=str(function_id), version=str(version))
    job = jobs.begin(JobScorer(scorer=scorer, queue=HEAVY, label="close"))
    with world.database.cursor() as cursor:
        cursor.execute("update function set deleted_at = now() where id = %s", (function_id,))

    go(world)

    assert jobs.states(job) == {"errored": ROWS}
    assert jobs.now(job).state is JobState.COMPLETED
    ((message,),) = world.rows(
        "select distinct error_message from outcome where job_no = %s", job.no
    )
    assert "close was deleted" in message


def test_a_slice_that_was_tried_too_often_leaves_its_cheap_scorers_to_the_heavy_queue(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    with world.database.cursor() as cursor:
        cursor.execute("update rescore_job set attempts = 3 where job_no = %s", (job.no,))

    go(world)

    assert jobs.queues(job) == {HEAVY: ROWS}
    record(world.worker, *world.claim(100))
    go(world)
    assert jobs.now(job).state is JobState.COMPLETED


def test_rows_that_wait_to_be_matched_are_live_work_but_not_those_of_a_deleted_project(
    world: StoredWorld,
) -> None:
    store = StoredSteps(world.database, system_clock)
    assert not store.is_live_waiting()

    world.write(ended("a"))
    assert store.is_live_waiting()
    world.worker.records.claim_entries(10)
    assert not store.is_live_waiting()

    world.write(ended("b"))
    world.delete_project()
    assert not store.is_live_waiting()


def test_a_row_that_is_in_two_steps_is_scored_once(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin(size=6)
    with world.database.cursor() as cursor:
        cursor.execute(
            """update rescore_step set seqs = first.seqs, versions = first.versions
                 from rescore_step first
                where rescore_step.job_no = first.job_no and first.step_no = 0
                  and rescore_step.step_no = 1"""
        )

    go(world)

    assert jobs.states(job) == {"completed": 6}
    assert len(world.score_spans()) == 6
    assert jobs.now(job).state is JobState.COMPLETED


def test_jobs_of_a_deleted_project_are_left_alone(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    job = jobs.begin()
    world.delete_project()

    go(world)

    assert jobs.outcomes(job) == []


def test_a_matched_row_is_scored_by_the_rule_once_its_content_changes_after_the_job(
    world: StoredWorld, jobs: RescoreWorld, rows: list[str]
) -> None:
    world.rule()
    jobs.begin()
    go(world)

    world.write(ended("row3", "kitten"))
    Matcher(store=world.worker.records, cost_limit=1e7).match_some()

    assert world.shown()["row3"]["scores"] == {"Levenshtein": 1}


def test_a_job_goes_ninety_days_after_its_end_and_its_scores_and_outcomes_stay(
    world: StoredWorld, jobs: RescoreWorld
) -> None:
    world.rule()
    world.write(*(ended(f"row{number}") for number in range(ROWS)))
    world.match()
    old, young = jobs.begin(size=1), jobs.begin()
    go(world, times=2 * ROWS)
    with world.database.cursor() as cursor:
        cursor.execute(
            """update rescore_job set finished_at = now() - case job_no
                      when %s then interval '91 days' else interval '89 days' end""",
            (old.no,),
        )

    upkeep(world).drop_expired()

    assert world.rows("select job_no from rescore_job") == [(young.no,)]
    assert world.rows("select distinct job_no from rescore_step") == [(young.no,)]
    assert {job_no for _, job_no, _, _ in world.replaced()} == {young.no}
    assert jobs.states(old) == jobs.states(young) == {"completed": ROWS}
    assert world.shown()["row0"]["scores"] == {"Levenshtein": pytest.approx(4 / 7)}


def test_what_jobs_replaced_goes_with_its_row(world: StoredWorld, jobs: RescoreWorld) -> None:
    world.rule()
    world.write(ended("a"), ended("b"))
    world.match()
    jobs.begin()
    go(world)
    ((seq,),) = world.rows("select seq from span where id = 'a'")
    assert len(world.replaced()) == 2

    with world.database.cursor() as cursor:
        object_no = world.database.numbers.object_no(world.where)
        delete_with_history(cursor, world.where, object_no, [seq])

    assert [row for row, *_ in world.replaced()] == ["b"]


def upkeep(world: StoredWorld) -> Upkeep:
    keep = Retention(
        match_record_days=1, rejected_row_days=1, resend_minutes=1, invocation_days=1,
        judge_cache_days=1,
    )
    return Upkeep(world.database, keep, system_clock)
