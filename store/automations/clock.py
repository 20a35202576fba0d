"""PostgreSQL's clock, as automations read it."""

from __future__ import annotations

from datetime import datetime

from store.postgres.database import Cursor

NOW = "date_trunc('milliseconds', clock_timestamp())"
"""The time now, in milliseconds, as notifications tell it."""


def time_now(cursor: Cursor) -> datetime:
    """The time now, in milliseconds."""
    cursor.execute(f"select {NOW}")
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 a select of a value has one row
    now: datetime = row[0]
    return now
