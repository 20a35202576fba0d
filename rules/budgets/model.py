"""A budget as values: whose judge calls it caps, by how much, and what was spent of it.

Money is a whole number of billionths of the unit of the prices, so that sums are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from spans.ids import ProjectId

BILLION = 10**9
"""Parts of the unit of the prices in which money is counted."""

MONEY_MAX = 10**9 * BILLION
"""The largest cap, and the most that one call is counted with."""


class SubjectKind(StrEnum):
    """Whose calls a budget caps."""

    PROJECT = "project"   # all that are made for rows of the project
    RULE = "rule"
    JOB = "job"           # a re-score job


class Period(StrEnum):
    """For how long what was spent counts."""

    DAY = "day"           # from midnight UTC to midnight UTC
    TOTAL = "total"       # for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The most that calls may cost in money, and how many there may be; None: no cap."""

    money: int | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cap on the judge calls of one subject. `subject_id` is the project's, rule's or job's.

    There is at most one for each subject and period.
    """

    id: UUID
    project_id: ProjectId
    subject_kind: SubjectKind
    subject_id: UUID
    period: Period
    caps: Caps
    created: datetime
    created_by: str | None = None

    @property
    def named(self) -> str:
        """The budget in words, with its id."""
        of = "the project" if self.subject_kind is SubjectKind.PROJECT else (
            f"{self.subject_kind} {self.subject_id}"
        )
        period = "daily" if self.period is Period.DAY else "total"
        return f"the {period} budget of {of} ({self.id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """What is spent of a budget in a period, and what calls under way may cost.

    `day` is the period's day (UTC); None for a total. `wanted` is the least that a call asked
    for in vain since outcomes were last released.
    """

    day: date | None
    money_spent: int = 0
    calls_spent: int = 0
    money_reserved: int = 0
    calls_reserved: int = 0
    wanted: int | None = None

    @property
    def money(self) -> int:
        """What is spent and reserved together."""
        return self.money_spent + self.money_reserved

    @property
    def calls(self) -> int:
        """Calls that are made or under way."""
        return self.calls_spent + self.calls_reserved


def money_of(amount: float) -> int:
    """An amount in the unit of the prices, in billionths, rounded to the nearest."""
    return min(MONEY_MAX, round(amount * BILLION))


def amount_of(money: int) -> float:
    """Billionths in the unit of the prices."""
    return money / BILLION


def money_text(money: int) -> str:
    """Billionths in the unit of the prices, as people read it: 0.0125."""
    whole, rest = divmod(abs(money), BILLION)
    decimals = f"{rest:09d}".rstrip("0")
    sign = "-" if money < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def money_room(caps: Caps, use: BudgetUse) -> float:
    """Billionths that are left; infinity without a cap."""
    return math.inf if caps.money is None else caps.money - use.money


def calls_room(caps: Caps, use: BudgetUse) -> float:
    """Calls that are left; infinity without a cap."""
    return math.inf if caps.calls is None else caps.calls - use.calls
