"""What becomes of a delivery after an attempt: it is done, tried again, or given up. Pure.

A delivery is tried at once, and then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h. After
the last of these attempts it is given up: a notification is abandoned, and its matches are
reported by the next one. A test is tried once.

An automation whose receiver has taken nothing for five days is paused, and so is one whose
receiver says that it is gone (410).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from automations.outbound.request_end import RequestEnd

WAITS_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
"""The waits between attempts, seconds, as receivers of webhooks know them: a short failure
costs seconds, and a receiver has a day and a night to be mended."""

ATTEMPTS_MAX = len(WAITS_S) + 1
SPREAD = 0.2
"""Each wait is longer or shorter by up to this share, so that what failed together does not
come back together."""

DISABLE_AFTER_S = 5 * 86_400.0
DISABLE_AFTER_ATTEMPTS = 12
"""After so long without a success, and so many failed attempts, an automation is paused. The
number keeps one that rarely notifies from being paused for two notifications that failed."""

GONE = 410
BUSY = frozenset({429, 503})
"""Statuses with which a receiver may say when to come again."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has taken it."""


@dataclass(frozen=True, slots=True)
class TryAgainIn:
    """It is tried again after `wait_s` seconds."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It is not tried again. `pause_because` says why its automation is paused; None: it goes
    on."""

    pause_because: str | None = None


AfterAttempt: TypeAlias = Delivered | TryAgainIn | GivenUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """How long an automation's deliveries have failed, this attempt not counted: for `seconds`
    since the first failure after a success, in `attempts` attempts."""

    seconds: float = 0.0
    attempts: int = 0


def after_attempt(
    end: RequestEnd, *, attempt: int, is_test: bool, failing: Failing, spread: float
) -> AfterAttempt:
    """What to do after the attempt number `attempt`, from 1. `spread` is random, 0 to 1."""
    if end.is_ok:
        return Delivered()
    if is_test:
        return GivenUp()
    if end.status == GONE:
        return GivenUp(pause_because="the receiver answered 410: it is gone for good")
    if failing.seconds >= DISABLE_AFTER_S and failing.attempts + 1 >= DISABLE_AFTER_ATTEMPTS:
        days = int(failing.seconds // 86_400)
        return GivenUp(
            pause_because=f"the receiver took nothing for {days} days, in "
            f"{failing.attempts + 1} attempts; the last one: {end.error_message}"
        )
    if attempt >= ATTEMPTS_MAX:
        return GivenUp()
    wait_s = WAITS_S[attempt - 1] * (1 - SPREAD + 2 * SPREAD * spread)
    if end.status in BUSY and end.retry_after_s is not None:
        wait_s = max(wait_s, end.retry_after_s)
    return TryAgainIn(wait_s)
