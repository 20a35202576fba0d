"""The budgets and the cache in memory do what the stored ones do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.memory.judge_cache import MemoryAnswers
from fakes.memory.ticks import Ticks
from fakes.memory.token_budget import MemoryTokenBudget
from store_behaviours.scorers import AnswerCacheBehaviours, TokenBudgetBehaviours


class TestMemoryTokenBudget(TokenBudgetBehaviours):
    @pytest.fixture
    def budget(self) -> MemoryTokenBudget:
        return MemoryTokenBudget(per_day=100)


class TestMemoryAnswers(AnswerCacheBehaviours):
    @pytest.fixture
    def caches(self) -> Callable[[float], MemoryAnswers]:
        return lambda days: MemoryAnswers(Ticks(), days=days)
