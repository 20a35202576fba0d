"""Scorers whose judges are up or down as a test says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from spans.errors import TallyardError
from spans.scoring import Score, ScoringResult
from spans.work import Assignment

RESULT = ScoringResult(scores=(Score(name="Factuality", value=1.0),), arguments={})


class Judges:
    """Judges by the names of their endpoints. `down` has the error that each gives now."""

    def __init__(self) -> None:
        self.down: dict[str, Callable[[], TallyardError]] = {}
        self.calls: Counter[str] = Counter()
        self.wasted: Counter[str] = Counter()
        self.in_flight = self.in_flight_max = 0

    async def endpoint_of(self, assignment: Assignment) -> str:
        return "other" if assignment.subject.key.id.startswith("other") else "default"

    async def score(self, assignment: Assignment) -> ScoringResult:
        endpoint = await self.endpoint_of(assignment)
        self.calls[endpoint] += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        if endpoint in self.down:
            self.wasted[endpoint] += 1
            raise self.down[endpoint]()
        return RESULT
