"""Limits on the size of requests that log, and of pages that are fetched."""

from __future__ import annotations

from dataclasses import dataclass

from spans.errors import BadInput
from spans.event import EventLimits


class TooLarge(BadInput):
    """A request exceeds a limit on size or number. The API answers with status 413."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """The limits that the operator has set.

    `span_bytes_max` is the size of a span's JSON. `event` limits its nesting and its values.
    """

    rows_per_request_max: int
    span_bytes_max: int
    event: EventLimits
    fetch_limit_max: int
