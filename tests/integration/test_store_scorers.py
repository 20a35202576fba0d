"""The stored budgets and the stored answers of judges, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from store_behaviours.scorers import AnswerCacheBehaviours, TokenBudgetBehaviours

from store.postgres.database import Database
from store.scoring.judge_cache import JudgeAnswers
from store.scoring.token_budget import TokenBudgets

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


class TestTokenBudgets(TokenBudgetBehaviours):
    @pytest.fixture
    def budget(self, database: Database) -> TokenBudgets:
        return TokenBudgets(database, per_day=100)

    def test_workers_share_a_days_ceiling(
        self, budget: TokenBudgets, database: Database
    ) -> None:
        other = TokenBudgets(database, per_day=100)
        assert budget.reserve("shared", 60)
        assert not other.reserve("shared", 60)
        budget.give_back("shared", 50)
        assert other.reserve("shared", 90)


class TestJudgeAnswers(AnswerCacheBehaviours):
    @pytest.fixture
    def caches(self, database: Database) -> Callable[[float], JudgeAnswers]:
        return lambda days: JudgeAnswers(database, days=days)
