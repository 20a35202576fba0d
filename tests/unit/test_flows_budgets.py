"""Budgets as callers set, see and delete them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.rules import slider

from flows.access.principal import KeyRole, Principal
from flows.budgets.budgets import status_json
from ops.commands.budgets import price_lines, status_lines
from rules.budgets.model import Budget, Caps, Period, SubjectKind, money_of
from rules.budgets.reserve import CallAsk
from rules.budgets.wire import read_budget
from scorers.judge.prices import LIST_PRICES
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import ProjectId
from spans.queues import AUTOMATIONS


class World(MemoryTallyard):
    """Two projects of one organisation."""

    def __init__(self) -> None:
        super().__init__()
        self.app, self.other = self.project("app"), self.project("other")

    def put(
        self, caller: Principal | None = None, project: ProjectId | None = None, **body: Any
    ) -> Budget:
        checked = read_budget({"period": "day", **body})
        budget, _ = self.budgets.put(caller or self.admin, project or self.app, checked)
        return budget

    def rule(self, project: ProjectId | None = None) -> str:
        made, _ = self.rules.make(
            self.admin, project or self.app, slider("quality"), replace=True
        )
        return str(made.id)


@pytest.fixture
def world() -> World:
    return World()


def test_a_budget_is_of_a_rule_or_else_of_the_project(world: World) -> None:
    rule = world.rule()

    of_project, of_rule = world.put(money=2.5), world.put(rule_id=rule, calls=7)

    assert (of_project.subject_kind, of_project.subject_id) == ("project", world.app)
    assert of_project.caps == Caps(money=money_of(2.5))
    assert (of_rule.subject_kind, str(of_rule.subject_id)) == ("rule", rule)
    assert world.rung.count(AUTOMATIONS) == 2
    assert [one.budget for one in world.budgets.list(world.admin, world.app)] == [
        of_project, of_rule
    ]


def test_to_set_a_budget_again_replaces_its_caps(world: World) -> None:
    first = world.put(money=2.5)

    second = world.put(calls=1)

    assert (second.id, second.caps) == (first.id, Caps(calls=1))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "money, calls or both"), ({"money": -1}, "money"), ({"calls": 1.5}, "calls"),
        ({"calls": 1, "period": "week"}, "period"), ({"calls": 1, "more": 1}, "more"),
        ({"calls": 1, "rule_id": str(uuid.uuid4()), "job_id": str(uuid.uuid4())}, "not both"),
    ],
)
def test_a_wrong_body_is_refused_with_its_field(
    world: World, body: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadInput, match=problem):
        world.put(**body)


def test_a_rule_or_a_job_of_another_project_is_not_found(world: World) -> None:
    rule = world.rule(world.other)

    with pytest.raises(NotFound):
        world.put(rule_id=rule, calls=1)
    with pytest.raises(NotFound):
        world.put(job_id=str(uuid.uuid4()), calls=1)


def test_strangers_and_readers_change_nothing(world: World) -> None:
    budget = world.put(calls=1)
    reader = world.caller(KeyRole.READ)
    neighbour = world.caller(project_id=world.other)

    with pytest.raises(NotFound):
        world.put(world.stranger(), calls=2)
    with pytest.raises(NotFound):
        world.budgets.delete(neighbour, budget.id)
    with pytest.raises(NotFound):
        world.budgets.list(neighbour, world.app)
    with pytest.raises(Forbidden):
        world.put(reader, calls=2)
    with pytest.raises(Forbidden):
        world.budgets.delete(reader, budget.id)
    assert [one.budget for one in world.budgets.list(reader, world.app)] == [budget]


def test_a_deleted_budget_is_gone(world: World) -> None:
    budget = world.put(calls=1)

    assert world.budgets.delete(world.admin, budget.id) == budget

    assert world.budgets.list(world.admin, world.app) == []
    with pytest.raises(NotFound):
        world.budgets.delete(world.admin, budget.id)


def test_a_job_gets_its_budget_before_it_is_made(world: World) -> None:
    job = uuid.uuid4()

    budget = world.budgets.cap_job(world.admin, world.app, job, Caps(calls=5))

    assert (budget.subject_kind, budget.subject_id, budget.period) == (
        SubjectKind.JOB, job, Period.TOTAL
    )


def test_a_budget_is_told_with_what_is_spent(world: World) -> None:
    world.put(money=2.5, calls=9)
    ask = CallAsk(subjects=frozenset({uuid.UUID(str(world.app))}), money=money_of(0.5))
    world.stored_budgets.transact([], [ask])

    (status,) = world.budgets.list(world.admin, world.app)

    told = status_json(status)
    assert (told["money"], told["calls"], told["period"]) == (2.5, 9, "day")
    assert (told["money_reserved"], told["money_spent"], told["calls_reserved"]) == (0.5, 0, 1)
    assert (told["held"], told["reason"]) == (0, None)
    assert str(told["renewed_at"]).endswith("T00:00:00+00:00")
    lines = list(status_lines(status))
    assert "  money: 0 spent and 0.5 reserved of 2.5" in lines
    assert "  calls: 0 made and 1 reserved of 9" in lines


def test_the_prices_in_force_are_told_with_their_day() -> None:
    first, *models = price_lines(LIST_PRICES)

    assert first == f"prices of a million tokens as of {LIST_PRICES.as_of}"
    assert any(line.split()[:3] == ["gpt-4o-mini", "prompt", "0.15,"] for line in models)
