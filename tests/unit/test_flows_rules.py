"""Applying a plan touches only rules and functions that the caller reaches."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Project, Projects, ProjectStore
from flows.functions.lookup import FunctionReference
from flows.rules.rules import Rules
from flows.rules.rules_file import FilePlan
from rules.file import Change, ChangeKind
from rules.wire import ONLINE, ProjectScore, ProjectScoreBody, read_rule
from spans.errors import BadInput, NotFound
from spans.ids import OrgId, ProjectId, RuleId

ORG, MINE, OTHER = OrgId(uuid.uuid4()), ProjectId(uuid.uuid4()), ProjectId(uuid.uuid4())
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def rule_of(project_id: ProjectId, name: str) -> ProjectScore:
    return ProjectScore(
        id=RuleId(uuid.uuid4()), project_id=project_id, created=NOW, name=name,
        description=None, score_type=ONLINE, categories=None, config=None, position=None,
    )


class MyProject:
    """The part of a ProjectStore that finds MINE or makes it."""

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None:
        return self.project if (org_id, project_id) == (ORG, MINE) else None

    def get_or_create_project(self, *_: object) -> tuple[Project, bool]:
        return self.project, True

    project = Project(
        id=MINE, org_id=ORG, name="mine", description=None, settings=None, created=NOW
    )


class MemoryRules:
    """The part of a RuleStore that applying a plan uses."""

    def __init__(self, *rules: ProjectScore) -> None:
        self.rules = list(rules)
        self.made: list[str] = []

    def list_rules(
        self, org_id: OrgId, page: ListPage, project_id: ProjectId | None,
        score_type: str | None = None,
    ) -> list[ProjectScore]:
        return [rule for rule in self.rules if rule.project_id == project_id]

    def create_rule(
        self, project_id: ProjectId, new_id: RuleId, body: ProjectScoreBody, *, replace: bool
    ) -> tuple[ProjectScore, bool]:
        self.made.append(body.name)
        return rule_of(project_id, body.name), False

    def delete_rule(self, rule: ProjectScore) -> None:
        self.rules.remove(rule)


class NoFunctions:
    """A FunctionLookup that finds none."""

    def find(self, principal: Principal, which: FunctionReference) -> None:
        raise NotFound("no such function")


def rules_over(store: MemoryRules) -> Rules:
    unused: Any = None
    projects = Projects(cast("ProjectStore", MyProject()), ring=lambda _: None)
    return Rules(
        cast("Any", store), recent=unused, projects=projects, lookup=cast("Any", NoFunctions()),
        ring=unused, clock=unused,
    )


def plan_of(*changes: Change) -> FilePlan:
    return FilePlan(project_name="mine", is_new_project=False, changes=changes)


LIMITED = Principal(
    key_id="key", org_id=ORG, org_name="acme", project_id=MINE, role=KeyRole.ADMIN
)


def test_a_plan_deletes_only_rules_that_its_project_has_now() -> None:
    mine, kept, theirs = rule_of(MINE, "a"), rule_of(MINE, "b"), rule_of(OTHER, "c")
    store = MemoryRules(mine, kept, theirs)

    rules_over(store).apply(LIMITED, plan_of(*(
        Change(kind=ChangeKind.DELETE, name=name, body=None) for name in ("a", "c", "gone")
    )))

    assert store.rules == [kept, theirs]


def test_a_plan_that_names_a_function_beyond_reach_changes_nothing() -> None:
    store = MemoryRules(rule_of(MINE, "a"))
    foreign = {"type": "function", "id": str(uuid.uuid4())}
    body = read_rule({
        "name": "new", "score_type": ONLINE, "config": {"online": {
            "sampling_rate": 1, "scorers": [foreign],
        }},
    })

    with pytest.raises(BadInput, match="there is no function"):
        rules_over(store).apply(LIMITED, plan_of(
            Change(kind=ChangeKind.DELETE, name="a", body=None),
            Change(kind=ChangeKind.CREATE, name="new", body=body),
        ))

    assert store.made == []
    assert len(store.rules) == 1
