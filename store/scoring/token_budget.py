"""What a scorer's code may still spend today, counted where every worker sees it."""

from __future__ import annotations

from store.postgres.database import Database


class TokenBudgets:
    """Implements `scorers.sandbox.lending.broker.TokenBudget`: `per_day` tokens a scorer."""

    def __init__(self, database: Database, *, per_day: int) -> None:
        self._database = database
        self._per_day = per_day

    def reserve(self, scorer_id: str, tokens: int) -> bool:
        """See TokenBudget. Those who ask at once wait for each other."""
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
        """See TokenBudget. What was taken before midnight is not given back after it."""
        with self._database.cursor() as cursor:
            cursor.execute(
                """update scorer_tokens set tokens = tokens - %s
                    where scorer_id = %s and day = (now() at time zone 'utc')::date
                      and tokens >= %s""",
                (tokens, scorer_id, tokens),
            )
