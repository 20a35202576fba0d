"""Rolling re-score jobs back, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rescored_world import FAILED, RescoredWorld, gave, scorer
from store_behaviours.scoring import ended

from rules.rescore.model import RescoreJob

pytestmark = pytest.mark.every_postgres

CLOSE, EXACT = scorer("Levenshtein"), scorer("ExactMatch")
CLOSER = scorer("Levenshtein", "2")


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[RescoredWorld]:
    world = RescoredWorld(fresh_database_url)
    yield world
    assert world.wrong_entries() == []
    world.close()


def run(world: RescoredWorld, *rows: str, **values: float | None) -> RescoreJob:
    """A job whose scorer gave these scores on each of the rows."""
    job = world.job(CLOSER)
    world.select(job, *rows)
    world.score(job.origin, CLOSER, {row: gave(**values) for row in rows})
    return job


def test_a_rollback_restores_the_scores_before_the_job(world: RescoredWorld) -> None:
    world.write(ended("a"), ended("b"), ended("c"))
    world.score(world.rule_origin, CLOSE, {"a": gave(s=0.25, t=1.0), "b": gave(u=0.5)})
    before = {row: world.shown()[row]["scores"] for row in "abc"}
    version, spans = world.version("a"), world.score_spans()
    job = run(world, "a", "b", "c", s=0.75)
    assert world.scores("a") == world.scores("b") == world.scores("c") == {"s": 0.75}

    done = world.roll_back(job)

    assert (done.restored, done.left_alone) == (3, 0)
    assert {row: world.shown()[row]["scores"] for row in "abc"} == before
    assert world.score_spans() == spans
    assert world.version("a") > version
    found = world.found(job)
    assert (found.restored, found.left_alone) == (3, 0)
    assert found.rolled_back_at is not None


def test_a_row_of_other_content_is_left_alone(world: RescoredWorld) -> None:
    world.write(ended("a"), ended("b"))
    job = run(world, "a", "b", s=0.75)
    world.write(ended("a", "kitten"))
    world.score(world.rule_origin, CLOSE, {"a": gave(s=1)})
    version = world.version("a")

    done = world.roll_back(job)

    assert (done.restored, done.left_alone) == (1, 1)
    assert (world.scores("a"), world.version("a")) == ({"s": 1}, version)
    assert world.scores("b") is None


def test_a_row_whose_new_content_waits_for_its_match_is_left_alone(
    world: RescoredWorld
) -> None:
    world.write(ended("a"))
    job = run(world, "a", s=0.75)
    world.write(ended("a", "kitten"))
    version, scores = world.version("a"), world.scores("a")

    done = world.roll_back(job)

    assert (done.restored, done.left_alone) == (0, 1)
    assert (world.version("a"), world.scores("a")) == (version, scores)
    world.match()
    assert world.scores("a") is None


def test_logged_scores_and_feedback_stay(world: RescoredWorld) -> None:
    world.write(ended("a", scores={"s": 0}))
    world.score(world.rule_origin, CLOSE, {"a": gave(s=0.25)})
    job = run(world, "a", s=0.75, t=0.5)
    world.feedback("a", {"scores": {"liked": 1}, "expected": "mitten"})

    world.roll_back(job)

    assert world.scores("a") == {"s": 0, "liked": 1}
    assert world.shown()["a"]["expected"] == "mitten"


def test_a_score_of_a_later_job_stays_and_has_replaced_what_was_before_both(
    world: RescoredWorld
) -> None:
    world.write(ended("a"))
    world.score(world.rule_origin, CLOSE, {"a": gave(s=0.25)})
    first, second = run(world, "a", s=0.5), run(world, "a", s=0.75)

    done = world.roll_back(first)

    assert (done.restored, done.left_alone) == (0, 1)
    assert world.scores("a") == {"s": 0.75}
    world.roll_back(second)
    assert world.scores("a") == {"s": 0.25}


def test_what_failed_was_superseded_or_deleted_is_not_counted(world: RescoredWorld) -> None:
    world.write(ended("a"), ended("b"), ended("c"))
    job = world.job(CLOSER)
    world.select(job, "a", "b", "c")
    world.score(job.origin, CLOSER, {"a": FAILED, "b": gave(s=1)})
    world.write({"id": "b", "_object_delete": True})

    done = world.roll_back(job)

    assert (done.restored, done.left_alone) == (0, 0)
    assert [span["id"] for span in world.score_spans()] == []


def test_a_record_that_the_scorer_declined_is_not_counted(world: RescoredWorld) -> None:
    world.write(ended("a"), ended("b"))
    world.score(world.rule_origin, CLOSE, {"b": gave(s=0.25)})
    job = run(world, "a", "b")
    assert world.scores("b") is None

    done = world.roll_back(job)

    assert (done.restored, done.left_alone) == (1, 0)
    assert world.scores("b") == {"s": 0.25}


def test_steps_that_never_began_are_no_part_of_a_rollback(world: RescoredWorld) -> None:
    world.write(ended("a"), ended("b"))
    job = run(world, "a", s=1)
    world.end(job)
    world.select(job, "b")
    with world.database.cursor() as cursor:
        cursor.execute(
            "update rescore_job set rollback_at = now() where job_no = %s", (job.no,)
        )

    steps = [world.rollbacks.next_step(job.no) for _ in range(3)]

    assert [step.restored for step in steps] == [1, 0, 0]
    assert [step.is_last for step in steps] == [False, True, True]


def test_a_rollback_that_was_not_asked_for_changes_nothing(world: RescoredWorld) -> None:
    world.write(ended("a"))
    job = run(world, "a", s=1)
    world.end(job)

    assert world.rollbacks.next_step(job.no).is_last

    assert world.scores("a") == {"s": 1}
    assert world.found(job).rolled_back_at is None


def test_a_rollback_that_is_repeated_changes_nothing(world: RescoredWorld) -> None:
    world.write(ended("a"))
    job = run(world, "a", s=1)
    world.roll_back(job)
    world.score(world.rule_origin, EXACT, {"a": gave(s=0.5)})
    version = world.version("a")

    done = world.roll_back(job)

    assert (done.restored, done.left_alone) == (0, 0)
    assert (world.scores("a"), world.version("a")) == ({"s": 0.5}, version)
