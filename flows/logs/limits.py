"""How much one request may log, and how much one page may show."""

from __future__ import annotations

from dataclasses import dataclass

from spans.errors import BadInput
from spans.event import EventLimits


class TooLarge(BadInput):
    """A request beyond a limit on size or number; the API answers with status 413."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """The limits that the operator has set.

    `span_bytes_max` counts a span's JSON; `event` bounds its nesting and its values.
    """

    rows_per_request_max: int
    span_bytes_max: int
    event: EventLimits
    fetch_limit_max: int
