"""Matching and scoring over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.score_spans import GenerationBehaviours, ScoreSpanBehaviours
from store_behaviours.scoring import (
    ClaimBehaviours,
    MatchingBehaviours,
    VersionBehaviours,
    ended,
)
from stored_world import StoredWorld

pytestmark = pytest.mark.every_postgres


class OnPostgres:
    @pytest.fixture
    def world(self, fresh_database_url: str) -> Iterator[StoredWorld]:
        world = StoredWorld(fresh_database_url)
        yield world
        world.close()


class TestStoredMatching(OnPostgres, MatchingBehaviours):
    pass


class TestStoredClaims(OnPostgres, ClaimBehaviours):
    pass


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


class TestStoredGenerations(OnPostgres, GenerationBehaviours):
    pass
