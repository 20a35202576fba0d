"""Durations as people write them: 90s, 30m, 1h, 2d."""

from __future__ import annotations

import re
from datetime import timedelta

from spans.errors import BadInput

DURATION = re.compile(r"(\d{1,7})\s*([smhd])")
LONGEST = timedelta(days=36_500)
"""More than anything is kept for: a hundred years. A time that long ago still has a date."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_duration(text: str, *, path: str = "since") -> timedelta:
    """The duration that a text such as "90s", "30m", "1h" or "2d" gives. Raises BadInput.

    `path` is the name of the field that has it.
    """
    match = DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise BadInput(f"{text!r} is not a duration; write 90s, 30m, 1h or 2d", path=path)
    duration = timedelta(seconds=int(match[1]) * SECONDS[match[2]])
    if duration > LONGEST:
        raise BadInput(f"{text!r} is more than {LONGEST.days} days", path=path)
    return duration


def write_duration(seconds: int) -> str:
    """The duration in the largest unit that gives a whole number."""
    unit = max(
        (unit for unit in SECONDS if seconds % SECONDS[unit] == 0), key=SECONDS.__getitem__
    )
    return f"{seconds // SECONDS[unit]}{unit}"
