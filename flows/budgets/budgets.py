"""The use cases of budgets: set, list and delete them."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.access.use_case import use_case
from flows.rules.rules import Rules
from rules.budgets.model import Budget, BudgetUse, Caps, Period, SubjectKind
from rules.budgets.wire import BudgetBody, budget_json, use_json
from spans.errors import NotFound
from spans.ids import OrgId, ProjectId, RuleId
from spans.json import JsonObject
from spans.queues import AUTOMATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBudget:
    """A budget as it is to be stored. `new_id` is its id if there is none yet."""

    new_id: UUID
    project_id: ProjectId
    subject_kind: SubjectKind
    subject_id: UUID
    period: Period
    caps: Caps
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """A budget, what is spent of it in the present period, and what it holds back.

    `held` outcomes wait, at least; `reason` is that of one of them.
    """

    budget: Budget
    use: BudgetUse
    held: int
    reason: str | None = None


class BudgetStore(Protocol):
    """Where budgets are kept."""

    def put(self, new: NewBudget) -> tuple[Budget, bool]:
        """The budget of the subject and period with these caps, and whether it existed before.

        What is spent of it stays. Safe to repeat.
        """
        ...

    def find(self, org_id: OrgId, budget_id: UUID) -> Budget | None: ...

    def statuses(self, project_id: ProjectId) -> list[BudgetStatus]:
        """The project's budgets, in the order in which they were made."""
        ...

    def delete(self, budget_id: UUID) -> None:
        """Deletes the budget. What it holds back is released soon."""
        ...


class Budgets:
    """The budgets of an organisation's projects. Thread-safe.

    `project_of_job` gives the project of a re-score job of the organisation. A ring for
    `automations` has what is held back looked at.
    """

    def __init__(
        self, store: BudgetStore, *, projects: Projects, rules: Rules,
        project_of_job: Callable[[OrgId, UUID], ProjectId | None],
        ring: Callable[[str], None], new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._projects = projects
        self._rules = rules
        self._project_of_job = project_of_job
        self._ring = ring
        self._new_id = new_id

    @use_case()
    def put(
        self, principal: Principal, project_id: ProjectId, body: BudgetBody
    ) -> tuple[Budget, bool]:
        """The budget of the subject and period with these caps, and whether it existed before.

        Raises NotFound for a project, rule or job that the key does not reach.
        """
        project = self._projects.get(principal, project_id)
        kind, subject_id = SubjectKind.PROJECT, UUID(str(project.id))
        if body.rule_id is not None:
            rule = self._rules.get(principal, RuleId(body.rule_id))
            if rule.project_id != project.id:
                raise NotFound("no such rule in the project")
            kind, subject_id = SubjectKind.RULE, body.rule_id
        elif body.job_id is not None:
            if self._project_of_job(principal.org_id, body.job_id) != project.id:
                raise NotFound("no such re-score job in the project")
            kind, subject_id = SubjectKind.JOB, body.job_id
        put = self._store.put(NewBudget(
            new_id=self._new_id(), project_id=project.id, subject_kind=kind,
            subject_id=subject_id, period=body.period, caps=body.caps,
            created_by=principal.key_name,
        ))
        self._ring(AUTOMATIONS)
        return put

    @use_case()
    def cap_job(
        self, principal: Principal, project_id: ProjectId, job_id: UUID, caps: Caps
    ) -> Budget:
        """The total budget of a re-score job that is about to be made.

        To be called before the job is, so that it holds for the first of its calls.
        """
        project = self._projects.get(principal, project_id)
        budget, _ = self._store.put(NewBudget(
            new_id=self._new_id(), project_id=project.id, subject_kind=SubjectKind.JOB,
            subject_id=job_id, period=Period.TOTAL, caps=caps, created_by=principal.key_name,
        ))
        return budget

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, project_id: ProjectId
    ) -> builtins.list[BudgetStatus]:
        """The project's budgets with what is spent of them, in the order of their making."""
        return self._store.statuses(self._projects.get(principal, project_id).id)

    @use_case()
    def delete(self, principal: Principal, budget_id: UUID) -> Budget:
        """Deletes a budget. What it holds back runs soon. Raises NotFound."""
        budget = self._store.find(principal.org_id, budget_id)
        if budget is None or not principal.reaches(budget.project_id):
            raise NotFound("no such budget")
        self._store.delete(budget.id)
        self._ring(AUTOMATIONS)
        return budget


def status_json(status: BudgetStatus) -> JsonObject:
    """A budget with what is spent of it and what it holds back, as JSON."""
    return {
        **budget_json(status.budget), **use_json(status.use), "held": status.held,
        "reason": status.reason,
    }
