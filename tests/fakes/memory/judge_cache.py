"""Answers of judges, kept in memory."""

from __future__ import annotations

from datetime import datetime, timedelta

from scorers.judge.ask import Choice
from spans.clock import Clock


class MemoryAnswers:
    """Implements scorers.judge.ask.AnswerCache. An answer is used for `days` days."""

    def __init__(self, clock: Clock, *, days: float) -> None:
        self._clock = clock
        self._life = timedelta(days=days)
        self._kept: dict[bytes, tuple[datetime, Choice]] = {}

    async def find(self, key: bytes) -> Choice | None:
        if key not in self._kept:
            return None
        kept_at, chosen = self._kept[key]
        return chosen if kept_at > self._clock() - self._life else None

    async def keep(self, key: bytes, chosen: Choice) -> None:
        self._kept[key] = self._clock(), chosen
