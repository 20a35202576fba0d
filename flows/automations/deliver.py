"""Sends the deliveries that are due: the loop of the queue of webhooks.

Each attempt is a row that is committed before its request, so that what a worker did before it
died is known. The result counts only under the claim's fence. A delivery whose worker died is
sent again with the same id and the same bytes: its receiver may see it twice.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from automations.outbound.request_end import RequestEnd
from automations.schedule import (
    ATTEMPTS_MAX,
    AfterAttempt,
    Failing,
    GivenUp,
    after_attempt,
)
from automations.secrets import SecretBox
from automations.signature import message_id, signed_headers
from automations.wire import HIDDEN
from flows.patience import patiently
from spans.clock import Clock
from spans.errors import SetupError, TransientError
from spans.ids import DeliveryId, ProjectId
from spans.outcome import BUG

logger = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Attempts that one worker makes at once."""

POLL_S = 0.25
"""How often a sender that waits for answers looks for what has become due, seconds."""

MOMENT_S = 1.0
"""A sender waits this long for what it has put off, seconds; for what takes longer, it is rung
for again."""

PATIENCE_S = 30.0
"""How long a result is kept while the store is away, before it is given up, seconds."""

FINISH_S = 3.0
"""How long a sender that stops waits for the answers to what it has sent, seconds: without its
result a delivery is sent again."""

WORKER_DIED = "worker_died"
NO_KEY = "no_key"

SECRET_MIN = 6
"""The shortest text that is looked for in answers as a secret, characters: a shorter one stands
in many texts by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryClaim:
    """An attempt to make now. It is counted, and has its row.

    `attempt` counts from 1 since the delivery was formed or sent again by hand, `attempt_no`
    all attempts ever. `secrets` sign it; they and `authorization`, the value of that header,
    are sealed. `headers` are the user's own.
    """

    id: DeliveryId
    project_id: ProjectId
    automation_no: int | None
    is_test: bool
    fence: int
    attempt: int
    attempt_no: int
    body: bytes
    url: str
    headers: Mapping[str, str]
    secrets: Sequence[bytes]
    authorization: bytes | None
    failing: Failing


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The attempts to make now. `wait_s`: what was put off is due after so many seconds; None:
    nothing was."""

    claims: Sequence[DeliveryClaim] = ()
    wait_s: float | None = None


class DeliveryQueue(Protocol):
    """Where a sender finds deliveries that are due, and records what became of them."""

    def claim(self, room: int) -> Claimed:
        """At most `room` attempts, fairly between projects and within the limits."""
        ...

    def record(self, claim: DeliveryClaim, end: RequestEnd, then: AfterAttempt) -> bool:
        """Writes how the attempt ended and what becomes of its delivery. False: another worker
        has the delivery by now, or it is gone; then only the attempt is written."""
        ...

    def pause(self, automation_no: int, reason: str, *, url: str) -> bool:
        """Pauses the automation for what the receiver at `url` did. False: it was not active,
        or has another receiver by now."""
        ...

    def renew(self) -> None:
        """Leases what this process holds anew."""
        ...

    def release(self) -> None:
        """Gives back what this process holds."""
        ...

    def is_waiting(self) -> bool:
        """Whether a delivery is due that nobody has claimed."""
        ...


class Posts(Protocol):
    """Makes requests, as `automations.outbound.client` does."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> RequestEnd:
        """How a POST of exactly these bytes ended."""
        ...


@dataclass(slots=True, kw_only=True)
class Sender:
    """Sends what is due. Requests are made on `loop`, which runs on another thread.

    Any thread may set `stopping`: the sender then waits `finish_s` for answers, and returns.
    Leases are renewed every `renew_s` seconds. `spread` gives random numbers, 0 to 1.
    """

    store: DeliveryQueue
    client: Posts
    box: SecretBox
    loop: asyncio.AbstractEventLoop
    clock: Clock
    renew_s: float
    spread: Callable[[], float]
    finish_s: float = FINISH_S
    stopping: threading.Event = field(default_factory=threading.Event)
    _ended: queue.SimpleQueue[tuple[DeliveryClaim, Future[RequestEnd]]] = field(
        default_factory=queue.SimpleQueue
    )
    _under_way: dict[tuple[DeliveryId, int], Future[RequestEnd]] = field(default_factory=dict)
    _renewed_at: float = 0.0
    _has_found_none: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether more is due that this sender had no time for.

        What it was not given although it asked, such as that of a project which a dead worker
        was sending for, waits for the next ring: asked at once, it would be refused again.
        """
        return not self._has_found_none and self.store.is_waiting()

    def run(self, stop_after_s: float) -> int:
        """Sends what is due until nothing is, or begins nothing more after that many seconds.

        Returns the number of attempts. Raises TransientError if the store stays away.
        """
        until = time.monotonic() + stop_after_s
        self._renewed_at = time.monotonic()
        self._has_found_none = False
        self.store.release()   # what an error interrupted
        made = 0
        due_by = 0.0   # what was put off for a moment is due again
        try:
            while not self.stopping.is_set():
                claimed = Claimed()
                room = IN_FLIGHT - len(self._under_way)
                asks = room > 0 and time.monotonic() < until
                if asks:
                    claimed = self.store.claim(room)
                for claim in claimed.claims:
                    self._begin(claim)
                made += len(claimed.claims)
                if claimed.wait_s is not None and claimed.wait_s <= MOMENT_S:
                    due_by = time.monotonic() + claimed.wait_s + POLL_S
                if self._under_way:
                    self._record_some(POLL_S)
                elif time.monotonic() < min(due_by, until):
                    self.stopping.wait(POLL_S)
                else:
                    self._has_found_none = asks
                    break
            self._finish()
        finally:
            self._give_up()
        return made

    def _begin(self, claim: DeliveryClaim) -> None:
        request = asyncio.run_coroutine_threadsafe(self._end_of(claim), self.loop)
        self._under_way[claim.id, claim.attempt_no] = request
        request.add_done_callback(lambda ended: self._ended.put((claim, ended)))

    async def _end_of(self, claim: DeliveryClaim) -> RequestEnd:
        """How the attempt ended; an attempt that cannot be made ends at once."""
        if claim.attempt > (1 if claim.is_test else ATTEMPTS_MAX):
            return RequestEnd(
                error_class=WORKER_DIED,
                error_message="the worker that made the last attempt ended before its answer",
            )
        try:
            headers = self._headers(claim)
        except SetupError as error:
            logger.warning("delivery %s: %s", message_id(claim.id), error)
            return RequestEnd(
                error_class=NO_KEY,
                error_message="the secrets of the automation cannot be read: its operator "
                "finds the reason in the log of the worker automations",
            )
        end = await self.client.post(claim.url, claim.body, headers)
        return _without(headers.get("Authorization"), end)

    def _headers(self, claim: DeliveryClaim) -> dict[str, str]:
        headers = dict(claim.headers)
        if claim.authorization is not None:
            headers["Authorization"] = self.box.open(claim.authorization)
        if claim.secrets:
            secrets = [self.box.open(each) for each in claim.secrets]
            headers |= signed_headers(
                claim.id, claim.body, secrets=secrets, now=self.clock()
            )
        return headers

    def _record_some(self, timeout_s: float) -> None:
        """Record what has ended, after a wait for the first of it, and renew the leases."""
        try:
            claim, request = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            pass
        else:
            self._record(claim, request)
            while not self._ended.empty():
                self._record(*self._ended.get())
        if time.monotonic() - self._renewed_at > self.renew_s:
            self._renewed_at = time.monotonic()
            self._patiently(self.store.renew)

    def _record(self, claim: DeliveryClaim, request: Future[RequestEnd]) -> None:
        if self._under_way.pop((claim.id, claim.attempt_no), None) is None:
            return   # it was given up
        if (error := request.exception()) is None:
            end = request.result()
        else:
            name = message_id(claim.id)
            logger.error("delivery %s: an unforeseen error", name, exc_info=error)
            end = RequestEnd(
                error_class=BUG,
                error_message=f"{type(error).__name__}; the log of the worker has its "
                f"traceback under {name}",
            )
        then = after_attempt(
            end, attempt=claim.attempt, is_test=claim.is_test, failing=claim.failing,
            spread=self.spread(),
        )
        if end.error_class is not None:
            logger.warning(
                "delivery %s of project %s: attempt %s failed: %s", message_id(claim.id),
                claim.project_id, claim.attempt_no, end.error_class if end.status is None
                else f"{end.error_class} {end.status}",
            )
        if isinstance(then, GivenUp) and then.pause_because and claim.automation_no is not None:
            # Before the delivery ends: its matches go back, and nothing is formed of them.
            self._pause(claim, claim.automation_no, then.pause_because)
        self._patiently(partial(self.store.record, claim, end, then))

    def _pause(self, claim: DeliveryClaim, automation_no: int, reason: str) -> None:
        if self._patiently(partial(self.store.pause, automation_no, reason, url=claim.url)):
            logger.warning(
                "an automation of project %s is paused, since %s (delivery %s)",
                claim.project_id, reason, message_id(claim.id),
            )

    def _finish(self) -> None:
        """Wait a moment for what is under way, when this stops."""
        until = time.monotonic() + self.finish_s
        while self._under_way and time.monotonic() < until:
            self._record_some(min(POLL_S, max(0.0, until - time.monotonic())))

    def _give_up(self) -> None:
        """Give back what is still under way: it is sent again."""
        if not self._under_way:
            return
        for request in self._under_way.values():
            request.cancel()
        self._under_way.clear()
        with suppress(TransientError):
            self.store.release()

    def _patiently(self, work: Callable[[], bool | None]) -> bool | None:
        return patiently(work, patience_s=PATIENCE_S, stopping=self.stopping)


def _without(secret: str | None, end: RequestEnd) -> RequestEnd:
    """The end without the secret, which some receivers repeat in their answers: whoever may
    read the log of attempts would see it."""
    if secret is None:
        return end
    # The credentials are also hidden where they stand without their scheme, such as "Bearer".
    hidden = [each for each in (secret, secret.rpartition(" ")[2]) if len(each) >= SECRET_MIN]

    def masked(text: str | None) -> str | None:
        for each in hidden:
            text = text and text.replace(each, HIDDEN)
        return text

    return replace(end, answer=masked(end.answer), error_message=masked(end.error_message))
