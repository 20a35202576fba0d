"""Deliveries in memory, and a receiver without a network."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from automations.outbound.request_end import RequestEnd
from automations.schedule import AfterAttempt, Failing, TryAgainIn
from flows.automations.deliver import Claimed, DeliveryClaim
from spans.ids import DeliveryId, ProjectId


class Recorded(NamedTuple):
    """What was recorded of an attempt."""

    claim: DeliveryClaim
    end: RequestEnd
    then: AfterAttempt


def a_delivery(**given: object) -> DeliveryClaim:
    """A delivery that no attempt has been made of."""
    claim = DeliveryClaim(
        id=DeliveryId(uuid.uuid4()), project_id=ProjectId(uuid.UUID(int=1)), automation_no=1,
        is_test=False, fence=0, attempt=0, attempt_no=0, body=b"{}",
        url="https://example.com/", headers={}, secrets=(), authorization=None,
        failing=Failing(),
    )
    return replace(claim, **given)


@dataclass
class MemoryDeliveryQueue:
    """Implements flows.automations.deliver.DeliveryQueue. Time does not pass: what is tried
    again is due once `pass_time` is called."""

    due: list[DeliveryClaim] = field(default_factory=list)
    held: dict[DeliveryId, DeliveryClaim] = field(default_factory=dict)
    later: list[DeliveryClaim] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    paused: dict[int, str] = field(default_factory=dict)
    renewals: int = 0
    errors: list[Exception] = field(default_factory=list)
    """Raised by the next calls of `record`."""

    def claim(self, room: int) -> Claimed:
        taken = [each for each in self.due if each.automation_no not in self.paused][:room]
        claims = [
            replace(
                each, fence=each.fence + 1, attempt=each.attempt + 1,
                attempt_no=each.attempt_no + 1,
            )
            for each in taken
        ]
        self.due = [each for each in self.due if each not in taken]
        self.held |= {each.id: each for each in claims}
        return Claimed(claims=claims)

    def record(self, claim: DeliveryClaim, end: RequestEnd, then: AfterAttempt) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        self.recorded.append(Recorded(claim, end, then))
        if self.held.get(claim.id) != claim:
            return False
        del self.held[claim.id]
        if isinstance(then, TryAgainIn):
            self.later.append(claim)
        return True

    def pause(
        self, automation_no: int, reason: str, *, url: str,
    ) -> bool:
        return self.paused.setdefault(automation_no, reason) is reason

    def renew(self) -> None:
        self.renewals += 1

    def release(self) -> None:
        self.due += self.held.values()
        self.held = {}

    def is_waiting(self) -> bool:
        return bool(self.due)

    def pass_time(self) -> None:
        self.due, self.later = [*self.due, *self.later], []


class Sent(NamedTuple):
    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass
class MemoryReceivers:
    """Implements flows.automations.deliver.Posts. Answers in turn, the last one for ever."""

    answers: Sequence[RequestEnd] = (RequestEnd(status=204),)
    sent: list[Sent] = field(default_factory=list)
    told: Callable[[], object] = lambda: None
    """Called before each answer."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> RequestEnd:
        self.sent.append(Sent(url, body, dict(headers)))
        self.told()
        return self.answers[min(len(self.sent), len(self.answers)) - 1]
