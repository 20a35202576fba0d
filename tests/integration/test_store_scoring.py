"""Matching and scoring over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_behaviours.score_spans import GenerationBehaviours, ScoreSpanBehaviours
from store_behaviours.scoring import ClaimBehaviours, MatchingBehaviours, VersionBehaviours
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
    pass


class TestStoredGenerations(OnPostgres, GenerationBehaviours):
    pass
