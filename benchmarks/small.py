"""Requests of one row: how many a second, beside a route that does nothing with them; what the
server spends on each, and how long they take at a steady offer.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from benchmarks.constant import Constant, running_constant
from benchmarks.contestants import ONE_RULE
from benchmarks.latency import Delays, Offer, tallyard_delays
from benchmarks.load import Answered, Order, load
from benchmarks.processes import cpu_s_by_name, difference
from benchmarks.stack import Stack
from benchmarks.waiting import wait_until_matched

CONNECTIONS = 64
REQUESTS = 5_000
SECONDS = 10.0
TURN_S = 120.0
GOAL_SHARE = 0.5
"""Of the constant route's requests a second: what Tallyard is to reach."""

OFFERED_SHARE = GOAL_SHARE / 2
"""Of the constant route's requests a second: at what offer the delays are measured."""

FEW = Offer(requests_per_s=50, rows_each=10, seconds=SECONDS)
"""What the processor time a request is stated for (25 ms before the small requests' work)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallTurn:
    """Requests of one row as fast as they are answered, over 64 connections.

    `scored_s` is the time to the last score, where there are scores. `cpu_ms` is processor time
    a request, by process.
    """

    requests: int
    answered_s: float
    scored_s: float | None
    cpu_ms: dict[str, float]

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.answered_s

    @property
    def scored_per_s(self) -> float:
        """Requests a second, counted to the last score."""
        return self.requests / (self.scored_s or self.answered_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """What is told of small requests. `few` is the offer FEW, `steady` that of one row."""

    constant: list[SmallTurn]
    tallyard: list[SmallTurn]
    shares: list[float]
    scored_shares: list[float]
    steady_per_s: int
    steady: Delays
    few: Delays


def small_requests(stack: Stack, folder: Path, *, repeat: int, seconds: float) -> Small:
    """All of it; each round has the constant route and Tallyard one after the other."""
    constant: list[SmallTurn] = []
    ours: list[SmallTurn] = []
    for number in range(1, repeat + 1):
        with running_constant(folder) as route:
            constant.append(constant_turn(stack, route, seed=number))
        ours.append(tallyard_turn(stack, seed=number))
    pairs = list(zip(ours, constant, strict=True))
    per_s = round(min(turn.per_s for turn in constant) * OFFERED_SHARE)
    return Small(
        constant=constant, tallyard=ours,
        shares=[turn.per_s / theirs.per_s for turn, theirs in pairs],
        scored_shares=[turn.scored_per_s / theirs.per_s for turn, theirs in pairs],
        steady_per_s=per_s,
        steady=tallyard_delays(
            stack, Offer(requests_per_s=per_s, rows_each=1, seconds=seconds)
        ),
        few=tallyard_delays(stack, FEW),
    )


def constant_turn(stack: Stack, route: Constant, *, seed: int) -> SmallTurn:
    """Of the constant route."""
    order = _order(host="127.0.0.1", port=route.port, key="", project_id="", seed=seed)
    part = [("constant", route.process)]
    with load(order, log=stack.log) as generator:
        before = cpu_s_by_name(part)
        generator.go()
        answered = _all_taken(generator.answered())
        used = difference(before, cpu_s_by_name(part))
    return SmallTurn(
        requests=REQUESTS, answered_s=answered.end_s - answered.begin_s, scored_s=None,
        cpu_ms={name: seconds / REQUESTS * 1000 for name, seconds in used.items()},
    )


def tallyard_turn(stack: Stack, *, seed: int) -> SmallTurn:
    """Of Tallyard, whose workers score meanwhile."""
    project_id = stack.project(f"small {uuid.uuid4().hex[:8]}", rates=ONE_RULE)
    host, port = stack.host_and_port
    order = _order(host=host, port=port, key=stack.key, project_id=project_id, seed=seed)
    with stack.connect() as reader, load(order, log=stack.log) as generator:
        before = stack.cpu_s()
        generator.go()
        answered = _all_taken(generator.answered())
        last = wait_until_matched(reader, project_id, deadline_s=TURN_S)
        used = difference(before, stack.cpu_s())
    return SmallTurn(
        requests=REQUESTS, answered_s=answered.end_s - answered.begin_s,
        scored_s=last - answered.begin_s,
        cpu_ms={name: seconds / REQUESTS * 1000 for name, seconds in used.items()},
    )


def _order(*, host: str, port: int, key: str, project_id: str, seed: int) -> Order:
    return Order(
        host=host, port=port, path="/logs3", authorization=f"Bearer {key}",
        connections=CONNECTIONS, requests=REQUESTS, rows_each=1, seed=seed,
        project_id=project_id,
    )


def _all_taken(answered: Answered) -> Answered:
    if set(answered.statuses) != {"200"}:
        raise RuntimeError(f"requests were answered with {answered.statuses}")
    return answered
