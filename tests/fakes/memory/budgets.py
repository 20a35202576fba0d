"""Budgets in memory: caps, what is spent of them, and the outcomes that they hold back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from threading import RLock
from uuid import UUID

from fakes.memory.access import MemoryProjects
from fakes.memory.scoring import MemoryScoring, Outcome

from flows.budgets.budgets import BudgetStatus, NewBudget
from rules.budgets.model import Budget, BudgetUse
from rules.budgets.reserve import (
    Balance,
    CallAsk,
    Refusal,
    Reservation,
    Settlement,
    day_of,
    releasable,
    reserve,
    settled,
)
from spans.clock import Clock
from spans.ids import OrgId, ProjectId
from spans.queues import budget_queues


@dataclass(slots=True)
class MemoryBudgets:
    """Implements flows.budgets.budgets.BudgetStore and flows.budgets.purse.PurseStore.

    `watch` is called in each transaction, with the uses as they are at its end.
    """

    projects: MemoryProjects
    clock: Clock
    scoring: MemoryScoring | None = None
    watch: Callable[[Mapping[int, Balance]], None] = lambda _: None
    budgets: dict[int, Budget] = field(default_factory=dict)
    uses: dict[tuple[int, date | None], BudgetUse] = field(default_factory=dict)
    made: int = 0
    lock: RLock = field(default_factory=RLock)

    def put(self, new: NewBudget) -> tuple[Budget, bool]:
        with self.lock:
            for no, budget in self.budgets.items():
                if (budget.subject_id, budget.period) == (new.subject_id, new.period):
                    self.budgets[no] = replace(budget, caps=new.caps)
                    return self.budgets[no], True
            self.made += 1
            budget = self.budgets[self.made] = Budget(
                id=new.new_id, project_id=new.project_id, subject_kind=new.subject_kind,
                subject_id=new.subject_id, period=new.period, caps=new.caps,
                created=self.clock(), created_by=new.created_by,
            )
            return budget, False

    def find(self, org_id: OrgId, budget_id: UUID) -> Budget | None:
        for budget in self.budgets.values():
            if budget.id == budget_id and self.projects.find_project(org_id, budget.project_id):
                return budget
        return None

    def statuses(self, project_id: ProjectId) -> list[BudgetStatus]:
        with self.lock:
            return [
                BudgetStatus(
                    budget=one.budget, use=one.use, held=len(held),
                    reason=held[0].failure.message if held and held[0].failure else None,
                )
                for one in self._balances().values() if one.budget.project_id == project_id
                for held in [self._held(one.no)]
            ]

    def delete(self, budget_id: UUID) -> None:
        with self.lock:
            self.budgets = {
                no: one for no, one in self.budgets.items() if one.id != budget_id
            }

    def transact(
        self, settlements: Sequence[Settlement], asks: Sequence[CallAsk]
    ) -> list[Reservation | Refusal | None]:
        with self.lock:
            for settlement in settlements:
                for place in settlement.reservation.of:
                    if place[0] in self.budgets:
                        self.uses[place] = settled(self.uses[place], settlement)
            balances = self._balances()
            found = reserve(asks, balances.values())
            self.uses |= {(one.no, one.use.day): one.use for one in balances.values()}
            self.watch(balances)
            return found

    def capped(self) -> Mapping[UUID, bool]:
        capped: dict[UUID, bool] = {}
        with self.lock:
            for budget in self.budgets.values():
                is_of_money = budget.caps.money is not None
                capped[budget.subject_id] = is_of_money or capped.get(budget.subject_id, False)
        return capped

    def release_some(self, most: int) -> Collection[str]:
        """Implements flows.budgets.held.HeldStore."""
        assert self.scoring is not None
        queues: set[str] = set()
        with self.lock:
            numbers = {
                int(one.queue.split(":")[2]) for one in self.scoring.outcomes.values()
                if one.queue.startswith("held:budget:") and one.is_waiting
            }
            balances = self._balances()
            for no in numbers:
                room = most
                if (balance := balances.get(no)) is not None:
                    room = releasable(balance, most)
                    if room:
                        place = no, balance.use.day
                        self.uses[place] = replace(balance.use, wanted=None)
                for outcome in self._held(no)[:room]:
                    outcome.queue = outcome.queue.split(":")[4]
                    outcome.failure, outcome.next_attempt_at = None, self.clock()
                    queues.add(outcome.queue)
        return queues

    def _balances(self) -> dict[int, Balance]:
        balances: dict[int, Balance] = {}
        for no, budget in self.budgets.items():
            day = day_of(budget.period, self.clock())
            balances[no] = Balance(
                no=no, budget=budget, use=self.uses.get((no, day), BudgetUse(day=day))
            )
        return balances

    def _held(self, no: int) -> list[Outcome]:
        """What the budget holds back: live outcomes first, the oldest first."""
        if self.scoring is None:
            return []
        held = [
            one for one in self.scoring.outcomes.values()
            if one.queue.startswith(budget_queues(no)) and one.is_waiting and one.is_lead
        ]
        return sorted(held, key=lambda one: (one.priority, one.created))
