"""The store of matching and scoring in memory does what the stored one does."""

from __future__ import annotations

import pytest
from memory_scoring import MemoryWorld
from store_behaviours.budgets import BudgetBehaviours
from store_behaviours.circuits import CircuitBehaviours
from store_behaviours.score_spans import GenerationBehaviours, ScoreSpanBehaviours
from store_behaviours.scoring import ClaimBehaviours, MatchingBehaviours, VersionBehaviours


class InMemory:
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


class TestMemoryMatching(InMemory, MatchingBehaviours):
    pass


class TestMemoryClaims(InMemory, ClaimBehaviours):
    pass


class TestMemoryCircuits(InMemory, CircuitBehaviours):
    pass


class TestMemoryBudgets(InMemory, BudgetBehaviours):
    pass


class TestMemoryVersions(InMemory, VersionBehaviours):
    pass


class TestMemoryScoreSpans(InMemory, ScoreSpanBehaviours):
    pass


class TestMemoryGenerations(InMemory, GenerationBehaviours):
    pass
