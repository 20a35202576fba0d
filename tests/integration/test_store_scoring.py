"""Matching and scoring over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from store_behaviours.circuits import CircuitBehaviours
from store_behaviours.score_spans import GenerationBehaviours, ScoreSpanBehaviours
from store_behaviours.scoring import (
    CHEAP,
    NOTHING_IS_CHEAP,
    ClaimBehaviours,
    MatchingBehaviours,
    VersionBehaviours,
    ended,
    record,
)
from stored_world import StoredWorld, opened_world

from flows.scoring.match import Matcher
from spans.ids import Xact
from spans.json import JsonObject
from spans.outcome import POISONED
from spans.work import DEATHS_MAX

pytestmark = pytest.mark.every_postgres

REFUSE_SPANS = """
create function refuse() returns trigger language plpgsql as
  'begin raise unique_violation; end';
create trigger refuse before insert on span for each row execute function refuse();
"""

HOLDS = [
    pytest.param(
        "select from span_head where computed_by is null for no key update", id="its lock"
    ),
    pytest.param("lock table audit_entry in share mode", id="its last statement"),
]
"""What holds up feedback on a score span: before it has locked the row, or once it has written
all but its audit entry."""


class OnPostgres:
    @pytest.fixture
    def world(self, fresh_database_url: str) -> Iterator[StoredWorld]:
        with opened_world(fresh_database_url) as world:
            yield world


class TestStoredMatching(OnPostgres, MatchingBehaviours):
    pass


class TestStoredClaims(OnPostgres, ClaimBehaviours):
    def test_a_poisoned_outcome_is_closed_also_if_its_score_span_cannot_be_stored(
        self, world: StoredWorld, fresh_database_url: str
    ) -> None:
        world.rule()
        world.defer("row")
        for _ in range(DEATHS_MAX):
            doomed = world.process()
            world.claim(1, doomed)
            world.die(doomed)
            assert world.worker.leases.release_abandoned() == 1
        with psycopg.connect(fresh_database_url.replace("+psycopg", "")) as connection:
            connection.execute(REFUSE_SPANS)

        assert world.claim() == []

        (outcome,) = world.outcomes()
        assert (outcome.state, outcome.error_class) == ("errored", POISONED)


class TestStoredCircuits(OnPostgres, CircuitBehaviours):
    pass


class TestStoredVersions(OnPostgres, VersionBehaviours):
    pass


class TestStoredScoreSpans(OnPostgres, ScoreSpanBehaviours):
    def test_a_score_span_follows_its_row_into_the_trace_that_a_write_names(
        self, world: StoredWorld
    ) -> None:
        world.rule()
        world.write(ended("a"))
        world.match()
        world.write(ended("a", span_id="s", root_span_id="t"))
        (span,) = world.score_spans()
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])

    def test_a_score_span_is_in_the_trace_to_which_its_row_moved_while_the_scorer_ran(
        self, world: StoredWorld
    ) -> None:
        world.rule()
        world.write(ended("a"))
        world.match(NOTHING_IS_CHEAP)
        (claim,) = world.claim()
        world.write(ended("a", span_id="s", root_span_id="t"))
        record(world.worker, claim)
        (span,) = world.score_spans()
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])

    def test_a_score_span_is_in_the_trace_to_which_its_row_moved_while_it_was_matched(
        self, world: StoredWorld
    ) -> None:
        world.rule()
        world.write(ended("a"))
        matcher = Matcher(store=world.worker.records, cost_limit=CHEAP)
        (batch,) = world.worker.records.claim_entries(1)
        decided = matcher.decide(batch)
        world.write(ended("a", span_id="s", root_span_id="t"))
        world.worker.records.record_match(decided)
        (span,) = world.score_spans()
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])

    @pytest.mark.parametrize("before_it", HOLDS)
    def test_a_score_span_that_a_client_writes_over_while_it_is_replaced_gets_the_new_score(
        self, world: StoredWorld, before_it: str
    ) -> None:
        world.rule()
        world.defer("a")
        record(world.worker, *world.claim(), value=0.5)
        (before,) = world.score_spans()
        world.write(ended("a", "another"))
        world.match(NOTHING_IS_CHEAP)
        claims = world.claim()
        written = written_over_while(
            world, before, before_it, lambda _: record(world.worker, *claims, value=0.25)
        )
        (span,) = world.score_spans()
        assert (span["id"], span["scores"]) == (before["id"], {"Levenshtein": 0.25})
        assert world.version(str(span["id"])) > written   # a reader of versions meets it again

    @pytest.mark.parametrize("before_it", HOLDS)
    def test_a_score_span_that_a_client_writes_over_while_it_is_withdrawn_is_gone(
        self, world: StoredWorld, before_it: str
    ) -> None:
        world.rule()
        world.defer("a")
        record(world.worker, *world.claim(), value=0.5)
        (span,) = world.score_spans()
        written_over_while(
            world, span, before_it,
            lambda other: other.write({"id": "a", "_object_delete": True}),
        )
        assert world.shown() == {}


def written_over_while(
    world: StoredWorld, span: JsonObject, before_it: str,
    change: Callable[[StoredWorld], object],
) -> Xact:
    """A person's feedback on the score span is held up by the locks of the statement
    `before_it`, and `change` comes meanwhile. Returns the version of the feedback."""
    other = StoredWorld(world.url, project="other")
    other.where, other.org_id = world.where, world.org_id
    with ThreadPoolExecutor(2) as beside, psycopg.connect(
        world.url.replace("+psycopg", "")
    ) as held:
        held.execute(before_it)
        written = beside.submit(
            world.feedback, str(span["id"]), {"scores": {"Levenshtein": 0.5, "Other": 0.75}}
        )
        other.await_locks(1)
        changed = beside.submit(change, other)
        other.await_locks(2)
        held.commit()
        changed.result()
        version = written.result()
    other.close()
    return version


class TestStoredGenerations(OnPostgres, GenerationBehaviours):
    pass
