"""What `explain` says of the outcomes of re-score jobs, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rescored_world import RescoredWorld, gave, scorer
from store_behaviours.scoring import ended

from flows.outcomes.explain import Explanation, RuleAnswer, explain, explanation_json
from spans.scoring import OutcomeState
from store.outcomes.explain import ExplainRecords

pytestmark = pytest.mark.every_postgres

CLOSE, EXACT = scorer("Levenshtein"), scorer("ExactMatch")


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[RescoredWorld]:
    world = RescoredWorld(fresh_database_url)
    yield world
    assert world.wrong_entries() == []
    world.close()


def explained(world: RescoredWorld) -> Explanation:
    store = ExplainRecords(world.database, world.process().records)
    found = explain(store, world.org_id, world.where.project_id, "a")
    assert isinstance(found, Explanation)
    return found


def of_jobs(world: RescoredWorld) -> RuleAnswer:
    (answer,) = [one for one in explained(world).rules if one.status == "rescored"]
    return answer


def test_an_outcome_tells_its_job_and_what_it_replaced(world: RescoredWorld) -> None:
    world.write(ended("a"))
    world.score(world.rule_origin, CLOSE, {"a": gave(s=0.25)})
    job = world.job(CLOSE, EXACT)
    world.select(job, "a")
    world.score(job.origin, CLOSE, {"a": gave(s=0.75)})
    world.score(job.origin, EXACT, {"a": gave(u=1)})

    answer = of_jobs(world)

    assert answer.rule_name.startswith(f"re-score job {job.id} of ")
    assert answer.rule_name.endswith(", planned")
    assert "Levenshtein 1 scored 0.75 in place of 0.25 at " in answer.text
    assert "ExactMatch 1 scored 1 at " in answer.text
    content = explanation_json(explained(world))
    outcomes = [one for rule in content["rules"] for one in rule["outcomes"]]
    by_job = {one["scorer"]: one for one in outcomes if "rescore_job_id" in one}
    assert by_job["Levenshtein"]["job"]["id"] == str(job.id)
    assert by_job["Levenshtein"]["replaced"] == {"s": 0.25}
    assert by_job["ExactMatch"]["replaced"] == {}
    (by_rule,) = [one for one in outcomes if "rule_id" in one]
    assert not {"job", "replaced"} & by_rule.keys()


def test_a_job_that_was_rolled_back_is_said_to_be(world: RescoredWorld) -> None:
    world.write(ended("a"))
    job = world.job(CLOSE)
    world.select(job, "a")
    world.score(job.origin, CLOSE, {"a": gave(s=0.75)})
    world.roll_back(job)

    answer = of_jobs(world)

    assert ", completed, rolled back on 20" in answer.rule_name
    assert answer.outcomes[0].state is OutcomeState.COMPLETED


@pytest.mark.parametrize(("error_class", "text"), [
    ("cancelled", "Levenshtein 1: closed when the job was cancelled, at "),
    (None, "Levenshtein 1: superseded: the content changed before its turn"),
])
def test_an_outcome_that_never_ran_says_why(
    world: RescoredWorld, error_class: str | None, text: str
) -> None:
    world.write(ended("a"))
    job = world.job(CLOSE)
    world.score(job.origin, CLOSE, {"a": gave(s=0.75)})
    with world.database.cursor() as cursor:
        cursor.execute(
            "update outcome set state = 'superseded', error_class = %s", (error_class,)
        )

    assert of_jobs(world).text.startswith(text)
