"""Matching and scoring over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
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
from stored_world import StoredWorld

from flows.scoring.match import Matcher
from spans.outcome import POISONED
from spans.work import DEATHS_MAX

pytestmark = pytest.mark.every_postgres

REFUSE_SPANS = """
create function refuse() returns trigger language plpgsql as
  'begin raise unique_violation; end';
create trigger refuse before insert on span for each row execute function refuse();
"""


class OnPostgres:
    @pytest.fixture
    def world(self, fresh_database_url: str) -> Iterator[StoredWorld]:
        world = StoredWorld(fresh_database_url)
        yield world
        assert world.wrong_entries() == []   # whatever the test did
        world.close()


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


class TestStoredVersions(OnPostgres, VersionBehaviours):
    pass


class TestStoredScoreSpans(OnPostgres, ScoreSpanBehaviours):
    def test_a_score_span_follows_its_row_into_the_trace_that_its_base_brings(
        self, world: StoredWorld
    ) -> None:
        world.rule()
        world.write(ended("a", _is_merge=True))
        world.match()
        world.write({"id": "a", "span_id": "s", "root_span_id": "t"})
        (span,) = world.score_spans()
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])

    def test_a_score_span_is_in_the_trace_to_which_its_row_moved_while_the_scorer_ran(
        self, world: StoredWorld
    ) -> None:
        world.rule()
        world.write(ended("a", _is_merge=True))
        world.match(NOTHING_IS_CHEAP)
        (claim,) = world.claim()
        world.write({"id": "a", "span_id": "s", "root_span_id": "t"})
        record(world.worker, claim)
        (span,) = world.score_spans()
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])

    def test_a_score_span_is_in_the_trace_to_which_its_row_moved_while_it_was_matched(
        self, world: StoredWorld
    ) -> None:
        world.rule()
        world.write(ended("a", _is_merge=True))
        matcher = Matcher(store=world.worker.records, cost_limit=CHEAP)
        (batch,) = world.worker.records.claim_entries(1)
        decided = matcher.decide(batch)
        world.write({"id": "a", "span_id": "s", "root_span_id": "t"})
        world.worker.records.record_match(decided)
        (span,) = world.score_spans()
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])


class TestStoredGenerations(OnPostgres, GenerationBehaviours):
    pass
