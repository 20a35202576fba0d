"""The tokens that scorers spend, in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class MemoryTokenBudget:
    """Implements scorers.sandbox.lending.broker.TokenBudget, for one day.

    `reserved` lists what was asked for, in order. Thread-safe.
    """

    per_day: int = 1_000_000
    reserved: list[int] = field(default_factory=list)
    _spent: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def reserve(self, scorer_id: str, tokens: int) -> bool:
        with self._lock:
            self.reserved.append(tokens)
            if self._spent[scorer_id] + tokens > self.per_day:
                return False
            self._spent[scorer_id] += tokens
            return True

    def give_back(self, scorer_id: str, tokens: int) -> None:
        with self._lock:
            if self._spent[scorer_id] >= tokens:
                self._spent[scorer_id] -= tokens

    def left(self, scorer_id: str) -> int:
        """How many tokens the scorer may still spend."""
        return self.per_day - self._spent[scorer_id]
