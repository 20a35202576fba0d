"""Reads how long an HTTP server asks its client to wait before the next request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from spans.clock import Clock

RETRY_AFTER_MAX_S = 3600.0
"""Longest pause that a server may ask for. After a longer one its client would seem to have
forgotten what it was about to do."""


def retry_after_s(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds that the server asks the client to wait, at most an hour; None if it does not.

    They are read from `retry-after-ms`, else from `Retry-After`, which holds seconds or an HTTP
    date.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            wait_s = float(text) * unit_s
        except ValueError:
            wait_s = _seconds_until(text, clock)
        if not math.isnan(wait_s):
            return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)
    return None


def _seconds_until(http_date: str, clock: Clock) -> float:
    try:
        return (parsedate_to_datetime(http_date) - clock()).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return math.nan
