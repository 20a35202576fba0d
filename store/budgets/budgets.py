"""Reads and writes budgets, and what is spent of them."""

from __future__ import annotations

from uuid import UUID

from flows.budgets.budgets import BudgetStatus, NewBudget
from flows.health.measurements import BudgetMeasure
from rules.budgets.model import Budget, BudgetUse, amount_of
from spans.ids import OrgId, ProjectId
from store.budgets.held import count_held, held_queues, held_reasons
from store.budgets.purses import BUDGET, TOTAL_DAY, placed_budget
from store.postgres.database import Cursor, Database

MEASURED_MAX = 1000
"""Budgets that /metrics shows: those that were made first."""

PUT = f"""
    insert into budget (id, project_id, subject_kind, subject_id, period, money, calls,
                        created_by)
    values (%s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (subject_id, period) do update
       set money = excluded.money, calls = excluded.calls
    returning {BUDGET}
"""
FIND = f"""
    select {BUDGET} from budget
     where id = %s and project_id in (
       select project.id from project where org_id = %s and deleted_at is null)
"""
_WITH_USE = f"""
    select {BUDGET}, used.money_spent, used.calls_spent, used.money_reserved,
           used.calls_reserved, used.wanted
      from (select * from budget {{which}} order by budget_no {{limit}}) budget
      left join lateral (
        select money_spent, calls_spent, money_reserved, calls_reserved, wanted from budget_use
         where budget_use.budget_no = budget.budget_no
           and budget_use.day = case period when 'day' then (now() at time zone 'utc')::date
                                            else {TOTAL_DAY} end offset 0) used
        on true
     order by budget_no
"""
OF_PROJECT = _WITH_USE.format(which="where project_id = %s", limit="")
MEASURED = _WITH_USE.format(which="", limit="limit %s")


class StoredBudgets:
    """Implements flows.budgets.budgets.BudgetStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, new: NewBudget) -> tuple[Budget, bool]:
        with self._database.cursor() as cursor:
            cursor.execute(PUT, (
                new.new_id, new.project_id, new.subject_kind, new.subject_id, new.period,
                new.caps.money, new.caps.calls, new.created_by,
            ))
            (row,) = cursor.fetchall()
        _, budget = placed_budget(row)
        return budget, budget.id != new.new_id

    def find(self, org_id: OrgId, budget_id: UUID) -> Budget | None:
        with self._database.cursor() as cursor:
            cursor.execute(FIND, (budget_id, org_id))
            row = cursor.fetchone()
        return placed_budget(row)[1] if row else None

    def statuses(self, project_id: ProjectId) -> list[BudgetStatus]:
        with self._database.cursor() as cursor:
            cursor.execute(OF_PROJECT, (project_id,))
            return list(_statuses(cursor).values())

    def delete(self, budget_id: UUID) -> None:
        with self._database.cursor() as cursor:
            cursor.execute("delete from budget where id = %s", (budget_id,))


def read_budget_measures(database: Database) -> tuple[BudgetMeasure, ...]:
    """The caps of the first MEASURED_MAX budgets, and what is spent of them."""
    with database.cursor() as cursor:
        cursor.execute(MEASURED, (MEASURED_MAX,))
        statuses = _statuses(cursor).values()
    return tuple(
        BudgetMeasure(
            budget=str(one.budget.id), subject=str(one.budget.subject_kind),
            subject_id=str(one.budget.subject_id), period=str(one.budget.period),
            money=None if one.budget.caps.money is None else amount_of(one.budget.caps.money),
            calls=one.budget.caps.calls, money_spent=amount_of(one.use.money_spent),
            money_reserved=amount_of(one.use.money_reserved), calls_spent=one.use.calls_spent,
            calls_reserved=one.use.calls_reserved, held=one.held, reason=one.reason,
        )
        for one in statuses
    )


def _statuses(cursor: Cursor) -> dict[int, BudgetStatus]:
    """The budgets of the rows that the cursor has, by their numbers."""
    found: dict[int, tuple[Budget, BudgetUse]] = {}
    for row in cursor.fetchall():
        (no, day), budget = placed_budget(row[:-5])
        spent, calls, money_reserved, calls_reserved, wanted = row[-5:]
        found[no] = budget, BudgetUse(
            day=day, money_spent=spent or 0, calls_spent=calls or 0,
            money_reserved=money_reserved or 0, calls_reserved=calls_reserved or 0,
            wanted=wanted,
        )
    queues = [one for one in held_queues(cursor) if one.budget_no in found]
    held, reasons = count_held(cursor, queues), held_reasons(cursor, queues)
    return {
        no: BudgetStatus(
            budget=budget, use=use, held=held.get(no, 0), reason=reasons.get(no)
        )
        for no, (budget, use) in found.items()
    }
