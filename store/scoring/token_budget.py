"""Counts the LLM tokens that each scorer's code spends per day (UTC), over all workers."""

from __future__ import annotations

from store.postgres.database import Database


class TokenBudgets:
    """Implements `scorers.sandbox.lending.broker.TokenBudget`: `per_day` tokens per scorer."""

    def __init__(self, database: Database, *, per_day: int) -> None:
        self._database = database
        self._per_day = per_day

    def reserve(self, scorer_id: str, tokens: int) -> bool:
        """Take tokens before a call. Returns False, and takes none, if too few are left.

        Concurrent calls wait for each other on the scorer's row, so that together they
        cannot exceed the budget.
        """
        if tokens > self._per_day:
            return False
        with self._database.cursor() as cursor:
            cursor.execute(
                """insert into scorer_tokens as spent (scorer_id, day, tokens)
                   values (%(scorer)s, (now() at time zone 'utc')::date, %(tokens)s)
                   on conflict (scorer_id, day) do update
                      set tokens = spent.tokens + excluded.tokens
                    where spent.tokens + excluded.tokens <= %(most)s
                   returning tokens""",
                {"scorer": scorer_id, "tokens": tokens, "most": self._per_day},
            )
            return cursor.fetchone() is not None

    def give_back(self, scorer_id: str, tokens: int) -> None:
        """Return tokens that a call did not need. Tokens of the day before are not returned."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """update scorer_tokens set tokens = tokens - %s
                    where scorer_id = %s and day = (now() at time zone 'utc')::date
                      and tokens >= %s""",
                (tokens, scorer_id, tokens),
            )
