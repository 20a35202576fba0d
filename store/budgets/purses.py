"""Reserves what judge calls may cost, and settles what they have cost.

A transaction locks the budgets' rows in order of their numbers, so that all processes together
cannot pass a cap. A call that is never settled, since its process died, stays reserved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from rules.budgets.model import Budget, BudgetUse, Caps, Period, SubjectKind
from rules.budgets.reserve import (
    Balance,
    CallAsk,
    Refusal,
    Reservation,
    Settlement,
    reserve,
    settled,
)
from spans.ids import ProjectId
from store.postgres.database import Cursor, Database

Place = tuple[int, date | None]
"""The key of a budget's use: its number, and the period's day."""

TOTAL_DAY = "'-infinity'::date"
"""Stands in the table where a period has no day."""

PLACES_KEPT = 10_000
"""Places of which a process knows that they have a row."""

BUDGET = """budget_no, id, project_id, subject_kind, subject_id, period, money, calls, created,
            created_by, case period when 'day' then (now() at time zone 'utc')::date end"""
# The share of the lock keeps caps as they are, and budgets where they are, until the commit.
FIND = f"""
    select budget.* from unnest(%s::uuid[]) as subject(id)
     cross join lateral (
       select {BUDGET} from budget where budget.subject_id = subject.id
        order by period for share) budget
"""
_USE = "money_spent, calls_spent, money_reserved, calls_reserved, wanted"
LOCK = f"""
    select place.budget_no, place.day, used.*
      from unnest(%s::integer[], %s::date[]) as place(budget_no, day)
     cross join lateral (
       select {_USE} from budget_use
        where budget_use.budget_no = place.budget_no
          and budget_use.day = coalesce(place.day, {TOTAL_DAY}) for update) used
"""
WRITE = f"""
    update budget_use
       set money_spent = new.money_spent, calls_spent = new.calls_spent,
           money_reserved = new.money_reserved, calls_reserved = new.calls_reserved,
           wanted = new.wanted
      from unnest(%s::integer[], %s::date[], %s::bigint[], %s::bigint[], %s::bigint[],
                  %s::bigint[], %s::bigint[])
           as new(budget_no, day, {_USE})
     where budget_use.budget_no = new.budget_no
       and budget_use.day = coalesce(new.day, {TOTAL_DAY})
"""
# A budget that is deleted meanwhile is not found any more.
OPEN = f"""
    insert into budget_use (budget_no, day)
    select budget.budget_no, coalesce(place.day, {TOTAL_DAY})
      from unnest(%s::integer[], %s::date[]) as place(budget_no, day)
     cross join lateral (
       select budget_no from budget where budget.budget_no = place.budget_no
          for key share) budget
     order by 1, 2
    on conflict do nothing
"""


class StoredPurses:
    """Implements flows.budgets.purse.PurseStore."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: set[Place] = set()

    def transact(
        self, settlements: Sequence[Settlement], asks: Sequence[CallAsk]
    ) -> list[Reservation | Refusal | None]:
        """What became of each ask, after the settlements.

        A repetition counts everything once more. If it raises StoreUnavailable, it may have
        been stored; what was reserved then stays reserved.
        """
        while True:
            with self._database.cursor() as cursor:
                budgets = find_budgets(cursor, {one for ask in asks for one in ask.subjects})
                missing = budgets.keys() - self._open
                if not missing:
                    return _transact(cursor, settlements, asks, budgets)
            # In a transaction of its own: it locks new rows before those that exist.
            with self._database.cursor() as cursor:
                open_uses(cursor, missing)
            if len(self._open) > PLACES_KEPT:
                self._open.clear()
            self._open |= missing

    def capped(self) -> Mapping[UUID, bool]:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select subject_id, bool_or(money is not null) from budget
                    group by subject_id"""
            )
            return dict(cursor.fetchall())


def find_budgets(cursor: Cursor, subjects: Collection[UUID]) -> dict[Place, Budget]:
    """The budgets of the subjects, each under the place of its present use. They stay as they
    are until the commit."""
    if not subjects:
        return {}
    cursor.execute(FIND, (sorted(subjects),))
    return dict(map(placed_budget, cursor.fetchall()))


def open_uses(cursor: Cursor, places: Collection[Place]) -> None:
    """Make the rows of these places that are missing, unless their budgets are gone."""
    cursor.execute(OPEN, _arrays(sorted(places, key=_order)))


def lock_uses(cursor: Cursor, places: Collection[Place]) -> dict[Place, BudgetUse]:
    """The uses at these places, locked in the order of all writers. Those of budgets that are
    gone are missing."""
    cursor.execute(LOCK, _arrays(sorted(places, key=_order)))
    return {
        (no, day): BudgetUse(
            day=day, money_spent=money_spent, calls_spent=calls_spent,
            money_reserved=money_reserved, calls_reserved=calls_reserved, wanted=wanted,
        )
        for no, day, money_spent, calls_spent, money_reserved, calls_reserved, wanted in cursor
    }


def write_uses(cursor: Cursor, uses: Mapping[Place, BudgetUse]) -> None:
    """Replace the uses at these places, which are locked."""
    if uses:
        values = list(uses.values())
        cursor.execute(WRITE, (
            *_arrays(uses), [one.money_spent for one in values],
            [one.calls_spent for one in values], [one.money_reserved for one in values],
            [one.calls_reserved for one in values], [one.wanted for one in values],
        ))


def placed_budget(row: tuple[Any, ...]) -> tuple[Place, Budget]:
    """The budget in a row of the columns BUDGET, and the place of its present use."""
    no, budget_id, project_id, kind, subject_id, period, money, calls, created, by, day = row
    return (no, day), Budget(
        id=budget_id, project_id=ProjectId(project_id), subject_kind=SubjectKind(kind),
        subject_id=subject_id, period=Period(period), caps=Caps(money=money, calls=calls),
        created=created, created_by=by,
    )


def _transact(
    cursor: Cursor, settlements: Sequence[Settlement], asks: Sequence[CallAsk],
    budgets: Mapping[Place, Budget],
) -> list[Reservation | Refusal | None]:
    places = {place for one in settlements for place in one.reservation.of} | budgets.keys()
    if not places:
        return [None for _ in asks]
    before = lock_uses(cursor, places)
    after = dict(before)
    for settlement in settlements:
        for place in settlement.reservation.of:
            if place in after:
                after[place] = settled(after[place], settlement)
    balances = [
        Balance(no=place[0], budget=budget, use=after[place])
        for place, budget in budgets.items() if place in after
    ]
    found = reserve(asks, balances)
    after |= {(one.no, one.use.day): one.use for one in balances}
    write_uses(cursor, {
        place: use for place, use in after.items() if use != before[place]
    })
    return found


def _order(place: Place) -> tuple[int, date]:
    return place[0], place[1] or date.min


def _arrays(places: Collection[Place]) -> tuple[list[int], list[date | None]]:
    return [no for no, _ in places], [day for _, day in places]
