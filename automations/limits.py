"""How much is sent to one receiver and for one project at a time. Pure.

An endpoint is a URL without its query. What an endpoint has no place for is put off, so that it
does not stand before what goes elsewhere; that counts no attempt.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

ENDPOINT_IN_FLIGHT = 2
ENDPOINT_PER_MINUTE = 60
PROJECT_IN_FLIGHT = 8
"""Attempts of one project at a time: a quarter of what one worker makes at once, so that slow
receivers of one project leave places for the others."""

PROJECT_PER_MINUTE = 600
MINUTE_S = 60.0
BUSY_S = 0.5
"""How long a delivery is put off while its endpoint answers two others, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """The attempts of the last minute: how many, how many of them are under way, and how long
    ago the first of them began, seconds."""

    in_minute: int = 0
    in_flight: int = 0
    oldest_s: float = 0.0


class DueDelivery(NamedTuple):
    """A delivery that is due; `endpoint` is as `endpoint_of` gives it."""

    id: UUID
    project_id: UUID
    endpoint: bytes


@dataclass(slots=True)
class Turns:
    """The deliveries that are sent now, and those that are put off, with for how long in
    seconds. What is in neither stays due."""

    now: list[DueDelivery] = field(default_factory=list)
    put_off: list[tuple[DueDelivery, float]] = field(default_factory=list)


def endpoint_of(url: str) -> bytes:
    """What the limits count a URL by: a hash, since the URL may hold a secret."""
    return hashlib.sha256(url.partition("#")[0].partition("?")[0].encode()).digest()[:16]


def take_turns(
    due: Iterable[DueDelivery], *, endpoints: Mapping[bytes, Use], projects: Mapping[UUID, Use],
    room: int,
) -> Turns:
    """Who of those that are due, in their order, is sent now; at most `room`."""
    turns = Turns()
    to_endpoint: Counter[bytes] = Counter()
    of_project: Counter[UUID] = Counter()
    behind: Counter[bytes | UUID] = Counter()
    for one in due:
        endpoint = endpoints.get(one.endpoint, Use())
        project = projects.get(one.project_id, Use())
        taken, of_its = to_endpoint[one.endpoint], of_project[one.project_id]
        if endpoint.in_minute + taken >= ENDPOINT_PER_MINUTE:
            # Each gets the second in which it should have its turn.
            wait_s = MINUTE_S - endpoint.oldest_s + behind[one.endpoint]
            behind[one.endpoint] += 1
            turns.put_off.append((one, wait_s))
        elif project.in_minute + of_its >= PROJECT_PER_MINUTE:
            each_s = MINUTE_S / PROJECT_PER_MINUTE
            wait_s = MINUTE_S - project.oldest_s + behind[one.project_id] * each_s
            behind[one.project_id] += 1
            turns.put_off.append((one, wait_s))
        elif endpoint.in_flight + taken >= ENDPOINT_IN_FLIGHT:
            turns.put_off.append((one, BUSY_S))
        elif project.in_flight + of_its < PROJECT_IN_FLIGHT and len(turns.now) < room:
            turns.now.append(one)
            to_endpoint[one.endpoint] += 1
            of_project[one.project_id] += 1
    return turns
