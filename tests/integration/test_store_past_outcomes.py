"""What the latest outcomes of a scorer took, read from PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import fmean, stdev

import pytest
from store_behaviours.scoring import ended
from stored_world import StoredWorld

import store.rescore.past_outcomes
from rules.rescore.estimate import PastOutcomes
from rules.rescore.model import JobScorer
from spans.queues import JUDGE
from spans.scoring import ScorerRef
from store.rescore.past_outcomes import StoredPastOutcomes

pytestmark = pytest.mark.every_postgres

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROWS = 30


@pytest.fixture
def world(database_url: str) -> Iterator[StoredWorld]:
    stored = StoredWorld(database_url, project=f"judged {uuid.uuid4()}")
    yield stored
    stored.close()


def judged(name: str, version: str = "2") -> JobScorer:
    return JobScorer(
        scorer=ScorerRef(kind="function", name=name, version=version), queue=JUDGE, label="good"
    )


def add(
    world: StoredWorld, one: JobScorer, origin: uuid.UUID, *, version: str, role: str = "live",
    state: str = "completed", calls: int | None = 1, tokens: int = 100,
) -> None:
    """An outcome of each row of the project: later ones took more tokens."""
    ((use_no,),) = world.rows(
        """insert into scorer_use (origin_kind, origin_id, role, scorer_kind, scorer,
                                   scorer_version)
           values ('rule', %s, %s, %s, %s, %s) returning use_no""",
        origin, role, one.scorer.kind, one.scorer.name, version,
    )
    rows = world.rows(
        """select head.seq, content_xact, head.object_no from span_head head
             join object using (object_no) where project_id = %s order by seq""",
        world.where.project_id,
    )
    for number, (seq, content, object_no) in enumerate(rows):
        world.rows(
            """insert into outcome (subject_seq, subject_version, use_no, object_no, role,
                                    queue, state, finished_at, calls, prompt_tokens,
                                    completion_tokens, run_ms, model)
               values (%s, %s, %s, %s, %s, 'judge', %s, %s, %s, %s, 7, 250, %s)
               returning true""",
            seq, content, use_no, object_no, role, state,
            NOON + timedelta(seconds=number), calls, tokens + number,
            f"model {version}",
        )
    world.rows(
        """update span_head set computed_by = jsonb_build_object(
             'good enough', jsonb_build_object('use', %s::integer, 'version', 1))
            where object_no = %s returning true""",
        use_no, rows[0][2],
    )


def past(world: StoredWorld, one: JobScorer) -> PastOutcomes:
    (found,) = StoredPastOutcomes(world.database).past(
        world.where.project_id, [world.where], [one]
    )
    return found


def test_the_judged_outcomes_of_the_project_are_measured_whatever_their_version(
    world: StoredWorld,
) -> None:
    one = judged(str(uuid.uuid4()))
    rule = uuid.UUID(str(world.rule()))
    world.write(*(ended(f"row{number}") for number in range(ROWS)))
    add(world, one, rule, version="1")
    # None of these is of the scorer as the project's own rules and jobs have used it.
    add(world, one, rule, version="1", role="shadow", tokens=10**6)
    add(world, one, uuid.uuid4(), version="1", tokens=10**6)
    add(world, one, rule, version="3", state="errored", tokens=10**6)
    add(world, one, rule, version="4", calls=0, tokens=10**6)
    add(world, one, rule, version="5", calls=None, tokens=10**6)
    add(world, judged(str(uuid.uuid4())), rule, version="1", tokens=10**6)

    found = past(world, one)

    tokens = [100 + number for number in range(ROWS)]
    assert found.outcomes == ROWS
    assert found.prompt_tokens.mean == pytest.approx(fmean(tokens))
    assert found.prompt_tokens.deviation == pytest.approx(stdev(tokens))
    assert (found.completion_tokens.mean, found.completion_tokens.deviation) == (7, 0)
    assert found.calls.mean == 1
    assert found.run_ms.mean == 250
    assert found.cached_tokens.mean == 0
    assert found.model == "model 1"


def test_the_latest_outcomes_count_if_there_are_too_many(
    world: StoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = judged(str(uuid.uuid4()))
    rule = uuid.UUID(str(world.rule()))
    world.write(*(ended(f"row{number}") for number in range(ROWS)))
    add(world, one, rule, version="1")
    few = store.rescore.past_outcomes.TAKEN.replace("limit 1000", "limit 5")
    monkeypatch.setattr(store.rescore.past_outcomes, "TAKEN", few)

    found = past(world, one)

    assert found.outcomes == 5
    assert found.prompt_tokens.mean == 100 + ROWS - 3


def test_names_are_those_of_the_scores_of_recent_rows_and_the_scorers_own(
    world: StoredWorld,
) -> None:
    one = judged(str(uuid.uuid4()))
    rule = uuid.UUID(str(world.rule()))
    world.write(ended("a"))
    assert past(world, one).names == {"good"}
    add(world, one, rule, version="1")

    assert past(world, one).names == {"good", "good enough"}
    assert past(world, judged(str(uuid.uuid4()))).names == {"good"}


def test_a_project_without_rows_has_no_past(world: StoredWorld) -> None:
    found = past(world, judged("x"))

    assert found == PastOutcomes(names=frozenset({"good"}))
