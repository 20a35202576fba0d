"""Rules in memory, and the rule sets that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from fakes.memory.access import MemoryProjects
from fakes.memory.functions import MemoryFunctions
from fakes.memory.pages import page_of
from fakes.memory.scoring import MemoryScoring

from flows.access.projects import ListPage
from rules.model import NamedFunction, Rule, ShadowVersion
from rules.rule_set import rule_of
from rules.wire import ONLINE, ProjectScore, ProjectScoreBody, stored_config
from scorers.functions.version import FUNCTION
from spans.clock import Clock
from spans.errors import BadInput, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, RuleId, Xact


class MemoryRules:
    """Implements flows.rules.rules.RuleStore. `deleted` are called with each deleted rule."""

    def __init__(
        self, projects: MemoryProjects, functions: MemoryFunctions, clock: Clock
    ) -> None:
        self._projects = projects
        self._functions = functions
        self._clock = clock
        self._rules: dict[RuleId, ProjectScore] = {}
        self._in_force: dict[ProjectId, tuple[list[Rule], list[NamedFunction]]] = {}
        self.deleted: list[Callable[[ProjectScore], None]] = []

    def create_rule(
        self, project_id: ProjectId, new_id: RuleId, body: ProjectScoreBody, *, replace: bool
    ) -> tuple[ProjectScore, bool]:
        known = self._named(project_id, body.name)
        if known is None:
            self._rules[new_id] = ProjectScore(
                id=new_id, project_id=project_id, created=self._clock(), **_fields(body)
            )
            return self._rules[new_id], False
        return (self._replace(known, body) if replace else known), True

    def find_rule(self, org_id: OrgId, rule_id: RuleId) -> ProjectScore | None:
        return next((rule for rule in self._of_org(org_id) if rule.id == rule_id), None)

    def list_rules(
        self,
        org_id: OrgId,
        page: ListPage,
        project_id: ProjectId | None,
        score_type: str | None = None,
    ) -> list[ProjectScore]:
        found = [
            rule for rule in self._of_org(org_id)
            if project_id in {None, rule.project_id} and score_type in {None, rule.score_type}
        ]
        return page_of(
            found, page, marks=self._rules.values(), name_of=lambda rule: rule.name
        )

    def change_rule(
        self, rule: ProjectScore, patch: Callable[[ProjectScore], ProjectScoreBody]
    ) -> ProjectScore:
        present = self._rules.get(rule.id)
        if present is None:
            raise NotFound("no such project score")
        body = patch(present)
        if body.name != present.name and self._named(rule.project_id, body.name) is not None:
            raise BadInput(f"another rule is named {body.name!r}", path="name")
        return self._replace(present, body)

    def delete_rule(self, rule: ProjectScore) -> None:
        self._rules.pop(rule.id, None)
        for told in self.deleted:
            told(rule)

    # --- rule sets

    def put_in_force(self, scoring: MemoryScoring, project_id: ProjectId) -> int:
        """The revision of the rules as they are now, a new one if they have changed."""
        rules = [
            rule_of(rule) for rule in self._rules.values()
            if rule.project_id == project_id and rule.score_type == ONLINE
        ]
        present = rules, self._functions_of(rules)
        if self._in_force.get(project_id, ([], [])) != present:
            self._in_force[project_id] = present
            scoring.set_rules(project_id, *present)
        return scoring.revision(project_id)

    def _functions_of(self, rules: list[Rule]) -> list[NamedFunction]:
        chosen = {
            (choice.name, choice.version)
            for rule in rules for choice in rule.scorers if choice.kind == FUNCTION
        }
        found = [self._function(name, pin) for name, pin in sorted(chosen, key=str)]
        return [function for function in found if function is not None]

    def _function(self, name: str, pin: str | None) -> NamedFunction | None:
        function_id = FunctionId(UUID(name))
        known = self._functions.whether_deleted(function_id, Xact(int(pin)) if pin else None)
        if known is None:
            return None
        found, is_deleted = known
        shadow = None
        if found.shadow is not None and pin is None:
            beside = self._functions.whether_deleted(function_id, found.shadow.version)
            shadow = ShadowVersion(
                version=found.shadow.version, rate=found.shadow.rate,
                queue=None if beside is None else beside[0].body.queue,
            )
        return NamedFunction(
            id=found.id, version=found.version, is_pinned=pin is not None,
            name=found.body.name, queue=found.body.queue, is_deleted=is_deleted, shadow=shadow,
        )

    def _replace(self, rule: ProjectScore, body: ProjectScoreBody) -> ProjectScore:
        self._rules[rule.id] = replace(rule, **_fields(body))
        return self._rules[rule.id]

    def _named(self, project_id: ProjectId, name: str) -> ProjectScore | None:
        return next(
            (
                rule for rule in self._rules.values()
                if rule.project_id == project_id and rule.name == name
            ),
            None,
        )

    def _of_org(self, org_id: OrgId) -> list[ProjectScore]:
        return [
            rule for rule in self._rules.values()
            if self._projects.find_project(org_id, rule.project_id) is not None
        ]


def _fields(body: ProjectScoreBody) -> dict[str, object]:
    return {
        "name": body.name, "description": body.description, "score_type": body.score_type,
        "categories": body.categories, "config": stored_config(body),
        "position": body.position,
    }
