"""What every store does that scorers use: token budgets, and the cache of judges' answers."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable

from scorers.judge.ask import AnswerCache, Choice
from scorers.sandbox.lending.broker import TokenBudget


class TokenBudgetBehaviours:
    """A subclass has a fixture `budget` that gives a budget of 100 tokens a day."""

    def test_a_scorer_takes_no_more_than_its_day_has(self, budget: TokenBudget) -> None:
        one, another, new = (uuid.uuid4().hex for _ in range(3))

        assert budget.reserve(one, 60)
        assert not budget.reserve(one, 60)
        assert budget.reserve(another, 60)
        budget.give_back(one, 50)
        assert budget.reserve(one, 90)
        assert not budget.reserve(one, 1)
        assert not budget.reserve(new, 101)

    def test_no_more_is_given_back_than_was_taken(self, budget: TokenBudget) -> None:
        one = uuid.uuid4().hex
        assert budget.reserve(one, 60)

        budget.give_back(one, 61)

        assert not budget.reserve(one, 41)
        assert budget.reserve(one, 40)

    def test_many_who_ask_at_once_never_take_more_than_there_is(
        self, budget: TokenBudget
    ) -> None:
        one, taken = uuid.uuid4().hex, []
        threads = [
            threading.Thread(target=lambda: taken.append(budget.reserve(one, 30)))
            for _ in range(8)
        ]

        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert (taken.count(True), len(taken)) == (3, 8)


class AnswerCacheBehaviours:
    """A subclass has a fixture `caches` that makes a cache whose answers last so many days."""

    def test_an_answer_is_found_under_its_own_key_until_another_replaces_it(
        self, caches: Callable[[float], AnswerCache]
    ) -> None:
        cache, key = caches(1), uuid.uuid4().bytes * 2
        first = Choice(choice="a", rationale="why \u2028")
        assert asyncio.run(cache.find(key)) is None

        asyncio.run(cache.keep(key, first))
        assert asyncio.run(cache.find(key)) == first
        assert asyncio.run(cache.find(uuid.uuid4().bytes * 2)) is None
        asyncio.run(cache.keep(key, Choice(choice="b")))
        assert asyncio.run(cache.find(key)) == Choice(choice="b")

    def test_an_answer_that_is_too_old_is_not_found(
        self, caches: Callable[[float], AnswerCache]
    ) -> None:
        cache, key = caches(0), uuid.uuid4().bytes * 2
        asyncio.run(cache.keep(key, Choice(choice="a")))
        assert asyncio.run(cache.find(key)) is None
