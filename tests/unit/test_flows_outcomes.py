"""Running errored outcomes again: whose key may, and which queues are rung."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from flows.access.principal import KeyRole, Principal
from flows.access.projects import Project, Projects
from flows.outcomes.outcomes import Outcomes
from flows.outcomes.retry import RetryRequest
from flows.rules.rules import Rules
from spans.errors import Contended, Forbidden, NotFound
from spans.ids import OrgId, ProjectId, RuleId
from spans.queues import queues_of_outcomes

ORG, MINE, OTHER = OrgId(uuid.uuid4()), ProjectId(uuid.uuid4()), ProjectId(uuid.uuid4())


class OneProject:
    """A ProjectStore that has MINE alone."""

    def find_project(self, org_id: OrgId, project_id: ProjectId) -> Project | None:
        if (org_id, project_id) != (ORG, MINE):
            return None
        created = datetime(2026, 1, 1, tzinfo=UTC)
        return Project(id=MINE, org_id=ORG, name="mine", description=None, settings=None,
                       created=created)


class NoRules:
    """A RuleStore without rules."""

    def find_rule(self, org_id: OrgId, rule_id: RuleId) -> None:
        return None


class ErroredOutcomes:
    """An OutcomeStore that is undone `undone` times before it retries three outcomes."""

    def __init__(self, undone: int = 0) -> None:
        self.undone = undone

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        self.undone -= 1
        if self.undone >= 0:
            raise Contended("another transaction won")
        return 3


def outcomes(store: ErroredOutcomes, rung: list[str]) -> Outcomes:
    unused: Any = None
    projects = Projects(cast("Any", OneProject()), ring=rung.append)   # a part of the store
    rules = Rules(
        cast("Any", NoRules()), recent=unused, projects=projects, lookup=unused,
        ring=rung.append, clock=unused,
    )
    return Outcomes(
        cast("Any", store), explained=unused, projects=projects, rules=rules, ring=rung.append
    )


def key(role: KeyRole = KeyRole.ADMIN, project_id: ProjectId | None = None) -> Principal:
    return Principal(
        key_id="key", org_id=ORG, org_name="acme", project_id=project_id, role=role
    )


def test_the_queues_that_run_outcomes_are_rung_after_a_retry() -> None:
    rung: list[str] = []

    assert outcomes(ErroredOutcomes(), rung).retry(key(), MINE, RetryRequest()) == 3
    assert rung == [*queues_of_outcomes()]


def test_a_retry_that_another_transaction_undid_is_done_again() -> None:
    rung: list[str] = []

    assert outcomes(ErroredOutcomes(undone=2), rung).retry(key(), MINE, RetryRequest()) == 3
    with pytest.raises(Contended):
        outcomes(ErroredOutcomes(undone=3), rung).retry(key(), MINE, RetryRequest())
    assert rung == [*queues_of_outcomes()]


@pytest.mark.parametrize(
    ("caller", "project_id", "rule_id", "error"),
    [
        (key(KeyRole.READ), MINE, None, Forbidden),
        (key(), OTHER, None, NotFound),
        (key(project_id=OTHER), MINE, None, NotFound),
        (key(), MINE, RuleId(uuid.uuid4()), NotFound),
    ],
    ids=["role", "project", "another project's key", "rule"],
)
def test_a_retry_beyond_a_keys_reach_changes_and_rings_nothing(
    caller: Principal, project_id: ProjectId, rule_id: RuleId | None, error: type[Exception]
) -> None:
    rung: list[str] = []

    with pytest.raises(error):
        outcomes(ErroredOutcomes(), rung).retry(
            caller, project_id, RetryRequest(rule_id=rule_id)
        )
    assert rung == []
