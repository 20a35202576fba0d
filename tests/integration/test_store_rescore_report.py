"""The report of a re-score job against numbers that are counted by hand, on PostgreSQL."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Iterator

import pytest
from rescored_world import FAILED, RescoredWorld, gave, scorer
from store_behaviours.functions import body_of
from store_behaviours.scoring import ended

from flows.rescore.report import report_on
from rules.rescore.report import report_json
from scorers.functions.function import Definition, FunctionWrite, IfExists
from spans.ids import FunctionId
from spans.outcome import Verdict
from spans.scoring import Usage

pytestmark = pytest.mark.every_postgres

OLD, NEW, OTHER = scorer("Levenshtein"), scorer("Levenshtein", "2"), scorer("Factuality")
ROWS = 120


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[RescoredWorld]:
    world = RescoredWorld(fresh_database_url)
    yield world
    assert world.wrong_entries() == []
    world.close()


def drawn(draw: random.Random) -> tuple[str, Verdict]:
    """A verdict of the job's scorer at random, and the state that it leads to."""
    usage = Usage(
        calls=draw.randrange(3), prompt_tokens=draw.randrange(100),
        completion_tokens=draw.randrange(9), cost=draw.choice([None, 0.25, 0.5]),
        model="m", is_cached=draw.random() < 0.2,
    )
    kind = draw.choice(["completed"] * 4 + ["skipped", "errored"])
    if kind == "errored":
        return kind, FAILED
    if kind == "skipped":
        return kind, gave(usage, s=None)
    return kind, gave(usage, s=draw.choice([0, 0.25, 0.5, 0.75, 1]))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_numbers_of_a_report_are_those_of_brute_force(
    world: RescoredWorld, seed: int
) -> None:
    draw = random.Random(seed)
    rows = [f"r{number}" for number in range(ROWS)]
    logged = set(draw.sample(rows, 20))
    world.write(*(
        ended(row, **({"scores": {"s": 0.5}} if row in logged else {})) for row in rows
    ))
    before = {row: draw.choice([0, 0.25, 0.5, 0.75, 1]) for row in draw.sample(rows, 90)}
    world.score(world.rule_origin, OLD, {row: gave(s=one) for row, one in before.items()})
    job = world.job(NEW, OTHER)
    wanted = {row: draw.choice([1, 1, 2, 3]) for row in rows}
    for start in range(0, ROWS, 50):
        page = rows[start : start + 50]
        world.select(job, *page, wants=[wanted[row] for row in page])
    reached = [row for row in rows if wanted[row] & 1 and draw.random() < 0.9]
    given = {row: drawn(draw) for row in reached}
    world.score(job.origin, NEW, {row: one for row, (_, one) in given.items()})
    deleted = set(draw.sample(rows, 8))
    world.write(*({"id": row, "_object_delete": True} for row in deleted))

    content = report_json(report_on(world.reports, world.found(job)))

    alive = {row: one for row, one in given.items() if row not in deleted}
    states = Counter(state for state, _ in alive.values())
    first, second = content["scorers"]
    assert {state: first[state] for state in ("completed", "skipped", "errored")} == {
        state: states[state] for state in ("completed", "skipped", "errored")
    }
    assert first["error_classes"] == {"timeout": states["errored"]}
    assert first["deleted"] == sum(wanted[row] & 1 for row in deleted)
    assert first["unreached"] == sum(
        wanted[row] & 1 for row in rows if row not in given and row not in deleted
    )
    assert second["outcomes"] == sum(wanted[row] >> 1 for row in rows)
    assert second["unreached"] == sum(wanted[row] >> 1 for row in rows if row not in deleted)
    assert content["total"]["outcomes"] == first["outcomes"] + second["outcomes"]

    results = {row: one.result for row, (state, one) in alive.items() if state != "errored"}
    asked = [one.usage for one in results.values() if not one.usage.is_cached]
    assert first["calls"] == sum(usage.calls for usage in asked)
    assert first["prompt_tokens"] == sum(usage.prompt_tokens for usage in asked)
    assert first["cost"] == pytest.approx(sum(usage.cost or 0 for usage in asked))
    assert first["without_price"] == sum(
        usage.cost is None and usage.calls > 0 for usage in asked
    )

    after = {
        row: result.scores[0].value for row, result in results.items()
        if result.scores[0].value is not None
    }
    score = first["scores"]["s"]
    replaced = {row: before[row] for row in results if row in before}
    both = [(row, before[row], after[row]) for row in after if row in before]
    changes = [new - old for _, old, new in both]
    assert score["before"]["count"] == len(replaced)
    assert score["before"]["mean"] == pytest.approx(statistics.fmean(replaced.values()))
    assert score["after"]["bins"] == [
        sum(min(9, int(value * 10)) == place for value in after.values())
        for place in range(10)
    ]
    assert score["after"]["deviation"] == pytest.approx(statistics.stdev(after.values()))
    assert score["after"]["share_passing"] == pytest.approx(
        statistics.fmean(value >= 0.5 for value in after.values())
    )
    assert score["difference"]["pairs"] == len(both)
    assert score["difference"]["mean"] == pytest.approx(statistics.fmean(changes))
    assert score["difference"]["unchanged"] == changes.count(0)
    assert {flip["id"] for flip in score["flips"]["rows"]} == {
        row for row, old, new in both if (old >= 0.5) != (new >= 0.5)
    }
    assert score["flips"]["to_fail"] == sum(old >= 0.5 > new for _, old, new in both)
    assert score["logged_score_shown"] == len(logged & after.keys())


def test_a_name_that_the_scorer_gives_no_more_has_a_before_alone(world: RescoredWorld) -> None:
    world.write(ended("a"))
    world.score(world.rule_origin, OLD, {"a": gave(s=0.25, gone=1)})
    job = world.job(NEW)
    world.select(job, "a")
    world.score(job.origin, NEW, {"a": gave(s=0.75)})

    report = report_on(world.reports, job)

    gone = report.scorers[0].scores["gone"]
    assert (gone.before.values.mean, gone.after.values.count) == (1, 0)


def test_a_report_is_the_same_after_its_job_was_rolled_back(world: RescoredWorld) -> None:
    world.write(ended("a"))
    world.score(world.rule_origin, OLD, {"a": gave(s=0.25)})
    job = world.job(NEW)
    world.select(job, "a")
    world.score(job.origin, NEW, {"a": gave(s=0.75)})
    before = report_json(report_on(world.reports, job))

    world.roll_back(job)

    assert report_json(report_on(world.reports, job)) == before


@pytest.mark.parametrize(
    ("given", "found"), [(0.8, 0.8), (1, 1), ("high", None), (True, None), (7, None)]
)
def test_what_passes_is_decided_by_the_function_at_the_version_that_scored(
    world: RescoredWorld, given: object, found: float | None
) -> None:
    definition = Definition(
        project_id=world.where.project_id, if_exists=IfExists.REPLACE,
        body=body_of("tone", metadata={"__pass_threshold": given}),
    )
    (written,) = world.functions.write(world.org_id, [FunctionWrite(
        definition=definition, new_id=FunctionId(world.where.project_id), program=None
    )])
    function = written.function
    mine = scorer(str(function.id), str(function.version), kind="function")
    assert world.reports.thresholds(world.job(NEW, mine)) == [None, found]
