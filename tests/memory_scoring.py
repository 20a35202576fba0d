"""A project whose spans are scored over stores in memory."""

from __future__ import annotations

import uuid
from dataclasses import replace

from fakes.memory.access import MemoryProjects
from fakes.memory.budgets import MemoryBudgets
from fakes.memory.circuits import MemoryCircuits
from fakes.memory.logs import MemoryRows
from fakes.memory.scoring import MemoryScoring, MemoryWorker
from fakes.memory.ticks import START, Ticks
from store_behaviours.scoring import BUDGET_S, LEASE_S, WAIT_MAX_S, ScoringWorld, Seen

from rules.model import NamedFunction, Rule, ShadowVersion
from rules.rule_set import rule_from_json
from spans.ids import FunctionId, ObjectId, OrgId, ProjectId, RuleId, Xact
from spans.json import JsonObject
from spans.queues import HEAVY, held_by_job
from spans.row import ObjectRef, ObjectType, RowKey


class MemoryWorld(ScoringWorld):
    """One project, the shared store `scoring`, and a `clock` that a test moves on."""

    def __init__(self) -> None:
        self.clock = Ticks()
        self.projects = MemoryProjects(self.clock)
        self.org_id = self.projects.ensure_organization(OrgId(uuid.uuid4()), "acme")
        project, _ = self.projects.get_or_create_project(
            self.org_id, ProjectId(uuid.uuid4()), "app", None
        )
        self.where = ObjectRef(project.id, ObjectType.PROJECT_LOGS, ObjectId(project.id))
        self.writer = self.reader = self.rows = MemoryRows(self.projects, self.clock)
        self.scoring = MemoryScoring(self.rows, self.projects, self.clock, lease_s=LEASE_S)
        self.circuits = MemoryCircuits(
            self.scoring, budget_s=BUDGET_S, wait_max_s=WAIT_MAX_S
        )
        self.budgets = self.purses = self.held = MemoryBudgets(
            self.projects, self.clock, self.scoring
        )
        self.rules: dict[str, Rule] = {}
        self.functions: dict[str, list[NamedFunction]] = {}
        super().__init__()
        self.worker: MemoryWorker

    def process(self) -> MemoryWorker:
        return self.scoring.process()

    def die(self, worker: MemoryWorker) -> None:
        self.scoring.die(worker)

    def let_pass(self, seconds: float) -> None:
        self.clock.pass_s(seconds)

    def rule_of(self, name: str, scorers: list[JsonObject], **online: object) -> RuleId:
        known = self.rules.get(name)
        rule = self.rules[name] = rule_from_json({
            "id": str(known.id if known else uuid.uuid4()),
            "project_id": str(self.where.project_id), "name": name,
            "created": START.isoformat(),
            "config": {"online": {"sampling_rate": 1, "scorers": scorers, **online}},
        })
        self._revise()
        return rule.id

    def push(self, slug: str, shadow: float | None = None) -> tuple[FunctionId, Xact]:
        version = self.rows.draw()
        versions = self.functions.setdefault(slug, [])
        if shadow is None:
            function_id = versions[-1].id if versions else FunctionId(uuid.uuid4())
            versions.append(NamedFunction(
                id=function_id, version=version, is_pinned=False, name=slug, queue=HEAVY
            ))
        else:
            beside = ShadowVersion(version=version, queue=HEAVY, rate=shadow)
            versions[-1] = replace(versions[-1], shadow=beside)
        self._revise()
        return versions[-1].id, version

    def _revise(self) -> None:
        """Has the rules and functions as they are now in force, with every version pinned."""
        present = [versions[-1] for versions in self.functions.values()]
        pinned = [
            replace(one, is_pinned=True, shadow=None)
            for versions in self.functions.values() for one in versions
        ]
        self.scoring.set_rules(
            self.where.project_id, self.rules.values(), [*present, *pinned]
        )

    def delete_project(self) -> None:
        self.projects.delete_project(self.where.project_id)

    def created_by(self, row_id: str) -> str | None:
        kept = self.rows.find(RowKey(self.where, row_id))
        assert kept is not None
        return kept.stored.created_by

    def outcomes(self) -> list[Seen]:
        return [
            Seen(
                row=outcome.key.subject_id, rule=RuleId(outcome.key.origin.id),
                version=outcome.key.scorer.version, role=outcome.key.role,
                state=outcome.state, queue=outcome.queue, attempts=outcome.attempts,
                deaths=outcome.deaths,
                error_class=outcome.failure.error_class if outcome.failure else None,
            )
            for outcome in self.scoring.outcomes.values()
        ]

    def replaced(self) -> list[tuple[str, int, str, float]]:
        return [
            (row.id, job_no, name, one.value)
            for (row, job_no, name), one in self.scoring.replaced.items()
        ]

    def hold_back(self, row_id: str) -> None:
        for outcome in self.scoring.outcomes_of(RowKey(self.where, row_id)):
            if outcome.is_waiting:
                outcome.queue = held_by_job(1)
