"""Scorers whose judges are up or down as a test says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from scorers.judge import call_costs
from spans.errors import MissingArgument, TallyardError
from spans.scoring import Score, ScoringResult
from spans.work import Assignment

RESULT = ScoringResult(scores=(Score(name="Factuality", value=1.0),), arguments={})


class Judges:
    """Judges by the names of their endpoints. `down` has the error that each gives now.

    They are asked about no row whose id begins with `cached` or `lacking`.
    """

    def __init__(self) -> None:
        self.down: dict[str, Callable[[], TallyardError]] = {}
        self.calls: Counter[str] = Counter()
        self.wasted: Counter[str] = Counter()
        self.in_flight = self.in_flight_max = 0

    def begin_call(self, endpoint: str) -> None:
        """Counts a call, also for the run that makes it."""
        self.calls[endpoint] += 1
        call_costs.current.get().calls += 1

    async def endpoint_of(self, assignment: Assignment) -> str:
        return "other" if assignment.subject.key.id.startswith("other") else "default"

    async def score(self, assignment: Assignment) -> ScoringResult:
        name = assignment.subject.key.id
        if name.startswith(("cached", "lacking")):
            await asyncio.sleep(0)   # they take as long as a call
            if name.startswith("cached"):
                return RESULT
            raise MissingArgument("the span has no expected")
        endpoint = await self.endpoint_of(assignment)
        self.begin_call(endpoint)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        if endpoint in self.down:
            self.wasted[endpoint] += 1
            raise self.down[endpoint]()
        return RESULT
