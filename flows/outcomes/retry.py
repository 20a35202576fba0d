"""Running errored outcomes again: what anyone needs after a wrong judge key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from scorers.sandbox.model import CodeEnd
from spans import errors
from spans.errors import BadInput
from spans.ids import ProjectId, RuleId
from spans.outcome import BUG, POISONED

SPAN_OF_TIME = re.compile(r"(\d{1,6})\s*([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRequest:
    """Which errored outcomes: of one class or all, that ended within `since`, of one rule."""

    error_class: str | None = None
    since: timedelta | None = None
    rule_id: RuleId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """How many outcomes of a project are errored, and the latest message of each kind."""

    rule_id: str
    rule_name: str | None     # None: it has been deleted
    scorer: str
    role: str                 # a shadow's errors are not its rule's trouble
    error_class: str
    count: int
    last_message: str
    last_at: str


class OutcomeStore(Protocol):
    """What this needs of stored data."""

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        """Have them pending again, with no attempt counted. Returns how many.

        Not those of a rule or function that is gone, of content that has changed, or of a
        version of their scorer that another has followed on that row.
        """
        ...

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]: ...


def read_retry(
    error_class: str | None, since: str | None, rule_id: RuleId | None
) -> RetryRequest:
    """The request, checked. `since` is like "90s", "30m", "1h", "2d". Raises BadInput."""
    if error_class is not None and error_class not in error_classes():
        raise BadInput(
            f"{error_class!r} is no error class; known are {', '.join(error_classes())}",
            path="class",
        )
    return RetryRequest(
        error_class=error_class, since=read_duration(since) if since else None, rule_id=rule_id
    )


def read_duration(text: str) -> timedelta:
    """A span of time, as "90s", "30m", "1h", "2d". Raises BadInput."""
    match = SPAN_OF_TIME.fullmatch(text.strip().lower())
    if match is None:
        raise BadInput(f"{text!r} is no span of time; write 90s, 30m, 1h or 2d", path="since")
    return timedelta(seconds=int(match[1]) * SECONDS[match[2]])


def error_classes() -> tuple[str, ...]:
    """Every class that an outcome can have, in order."""
    of_code = {ended.value for ended in CodeEnd if ended is not CodeEnd.OK}
    return tuple(sorted({*errors.error_classes(), *of_code, BUG, POISONED}))
