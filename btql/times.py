"""Reads, truncates and shifts instants, by rules that PostgreSQL can follow exactly.

Every instant is an aware UTC datetime with microseconds, in the years 1 to 9999. A result
outside of those years is null.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from btql.tree import Interval, Unit
from btql.values import Value

ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MICROS_OF: dict[Unit, int] = {
    Unit.WEEK: 7 * 86_400_000_000,
    Unit.DAY: 86_400_000_000,
    Unit.HOUR: 3_600_000_000,
    Unit.MINUTE: 60_000_000,
    Unit.SECOND: 1_000_000,
    Unit.MILLISECOND: 1_000,
    Unit.MICROSECOND: 1,
}
MONTHS_OF: dict[Unit, int] = {Unit.YEAR: 12, Unit.MONTH: 1}
TEN_THOUSAND_YEARS = timedelta(days=3_652_500) // _MICROSECOND
SECONDS_OF_A_MONTH = 30 * 86_400
_MONDAY = datetime(1969, 12, 29, tzinfo=UTC)  # of the week that holds the epoch


@lru_cache(maxsize=1024)
def read_instant(text: str) -> datetime | None:
    """The instant that an ISO 8601 string names, or None if it names none.

    `2026-06-14`, `2026-06-14T18:30`, `2026-06-14 18:30:00.123456Z`, `...+02:00`. Without a
    zone it is UTC; digits after the microsecond are cut off.
    """
    found = ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        local = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0").ljust(6, "0")[:6]),
            tzinfo=UTC,
        )
        return local - _offset(zone)
    except (ValueError, OverflowError):  # 30 February, hour 24; the year 0 after an offset
        return None


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone == "Z":
        return timedelta()
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(zone)
    size = timedelta(hours=hours, minutes=minutes)
    return size if zone[0] == "+" else -size


def unix_instant(seconds: float) -> datetime | None:
    """The instant `seconds` after 1970 began, cut to microseconds, or None if out of range."""
    if abs(seconds) > 1e12:  # the year 33658
        return None
    return _plus_micros(EPOCH, int(seconds * 1e6 // 1))


def as_instant(value: Value) -> datetime | None:
    """The time that a time or a string means; None for any other value."""
    if isinstance(value, str):
        return read_instant(value)
    return value if isinstance(value, datetime) else None


def as_seconds(interval: Interval) -> float:
    """An interval in seconds, to compare with a difference of times; a month counts 30 days."""
    return interval.months * SECONDS_OF_A_MONTH + interval.micros / 1_000_000


def seconds_between(later: datetime, earlier: datetime) -> float:
    return ((later - earlier) // _MICROSECOND) / 1_000_000


def shift(instant: datetime, *, months: int, micros: int) -> datetime | None:
    """`instant` moved by so many months, then by so many microseconds.

    Months follow the calendar of UTC: 31 January and 1 month is the last of February.
    """
    if months:
        year, month = divmod(instant.year * 12 + instant.month - 1 + months, 12)
        if not 1 <= year <= 9999:
            return None
        day = min(instant.day, monthrange(year, month + 1)[1])
        instant = instant.replace(year=year, month=month + 1, day=day)
    return _plus_micros(instant, micros)


def truncate(
    instant: datetime, unit: Unit, count: int = 1, *, tz_offset: int = 0
) -> datetime | None:
    """The start of the period that holds `instant`, on a clock `tz_offset` minutes behind UTC.

    Weeks start on Monday. Periods of several units ("15 minutes") are counted from 1970.
    """
    behind = tz_offset * MICROS_OF[Unit.MINUTE]
    local = _plus_micros(instant, -behind)
    if local is None:
        return None
    if unit in MONTHS_OF:
        month = 1 if unit is Unit.YEAR else local.month
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return _plus_micros(midnight.replace(month=month, day=1), behind)
    origin = _MONDAY if unit is Unit.WEEK else EPOCH
    past = (local - origin) // _MICROSECOND % (MICROS_OF[unit] * count)
    started = _plus_micros(local, -past)
    return None if started is None else _plus_micros(started, behind)


def _plus_micros(instant: datetime, micros: int) -> datetime | None:
    try:
        return instant + timedelta(microseconds=micros)
    except OverflowError:
        return None
