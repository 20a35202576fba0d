"""Re-score jobs: asked for, listed, and told what to do by those who reach them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.functions import body_of
from store_behaviours.rules import rule_body, slider

from flows.access.principal import KeyRole, Principal
from flows.rescore.rescores import status_json
from rules.budgets.model import Caps, Period
from rules.rescore.model import Action, RescoreJob
from rules.rescore.wire import read_rescore
from scorers.functions.function import Definition, Function, FunctionWrite, IfExists
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import FunctionId, ProjectId
from spans.queues import HEAVY, JUDGE, RESCORE


class World(MemoryTallyard):
    """Two projects of one organisation."""

    def __init__(self) -> None:
        super().__init__()
        self.app, self.other = self.project("app"), self.project("other")

    def function(self, slug: str, project: ProjectId | None = None) -> Function:
        definition = Definition(
            project_id=project or self.app, body=body_of(slug), if_exists=IfExists.REPLACE
        )
        (written,) = self.stored_functions.write(self.admin.org_id, [FunctionWrite(
            definition=definition, new_id=FunctionId(uuid.uuid4()), program=None
        )])
        return written.function

    def rescore(self, caller: Principal | None = None, **request: Any) -> RescoreJob:
        body = read_rescore({"filter": "", "scorers": ["Levenshtein"], **request})
        made, _ = self.rescores.make(caller or self.admin, self.app, body)
        return made


@pytest.fixture
def world() -> World:
    return World()


def test_a_job_begins_at_once(world: World) -> None:
    job = world.rescore(filter="error is null")
    assert RESCORE in world.rung
    assert job.project_id == world.app
    assert job.selection.btql_filter == "error is null"
    told = status_json(world.rescores.get(world.admin, job.id))
    assert told["state"] == "planned"
    assert told["request"] == {
        "filter": "error is null", "sampling_rate": 1.0, "scorers": ["Levenshtein"],
    }


def test_scorers_are_named_by_name_slug_or_id(world: World) -> None:
    mine = world.function("mine")
    job = world.rescore(scorers=[
        "Factuality", "mine", {"type": "global", "name": "Levenshtein"},
    ])
    assert [(one.shown_as, one.queue) for one in job.scorers] == [
        ("Factuality", JUDGE), (mine.body.name, HEAVY), ("Levenshtein", HEAVY),
    ]
    by_id = world.rescore(scorers=[str(mine.id)])
    assert by_id.scorers == (job.scorers[1],)
    assert by_id.scorers[0].scorer.version == str(mine.version)


@pytest.mark.parametrize(("scorers", "sentence"), [
    (["Levenstein"], "no scorer of autoevals and no slug"),
    ([str(uuid.uuid4())], "there is no function"),
    ([{"type": "function", "id": str(uuid.uuid4()), "version": "1"}], "of version 1"),
    (["Levenshtein", {"type": "global", "name": "Levenshtein"}], "name each scorer once"),
])
def test_a_scorer_that_is_not_there_is_named(
    world: World, scorers: list[Any], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        world.rescore(scorers=scorers)


def test_a_rule_gives_its_scorers_at_the_versions_that_it_runs(world: World) -> None:
    mine = world.function("mine")
    pinned = {"type": "function", "id": str(mine.id), "version": str(mine.version)}
    exact = {"type": "global", "name": "ExactMatch"}
    rule, _ = world.rules.make(
        world.admin, world.app, rule_body("r", pinned, exact), replace=False
    )
    job = world.rescore(filter=None, scorers=None, rule_id=str(rule.id))
    assert [one.scorer.name for one in job.scorers] == [str(mine.id), "ExactMatch"]
    assert job.selection.rule_id == rule.id
    recent, _ = world.rescores.score_recent(world.admin, rule.id, 7)
    assert recent.selection.records_max == 7
    assert recent.request["only"] == "missing"


def test_a_rule_of_another_project_or_kind_is_refused(world: World) -> None:
    hand, _ = world.rules.make(world.admin, world.app, slider("hand"), replace=False)
    with pytest.raises(BadInput, match="not a rule"):
        world.rescore(rule_id=str(hand.id))
    elsewhere, _ = world.rules.make(world.admin, world.other, rule_body(), replace=False)
    with pytest.raises(NotFound):
        world.rescore(rule_id=str(elsewhere.id))


def test_only_who_reaches_a_job_sees_and_moves_it(world: World) -> None:
    job = world.rescore()
    for caller in (world.stranger(), world.caller(project_id=world.other)):
        for call in (
            lambda c=caller: world.rescores.get(c, job.id),
            lambda c=caller: world.rescores.report(c, job.id),
            lambda c=caller: world.rescores.act(c, job.id, Action.CANCEL),
            lambda c=caller: world.rescores.set_rate(c, job.id, 1),
            lambda c=caller: world.rescores.list(c, world.app, limit=9),
            lambda c=caller: world.rescore(c),
        ):
            with pytest.raises(NotFound):
                call()
    reader = world.caller(KeyRole.READ)
    assert world.rescores.get(reader, job.id).job == job
    assert world.rescores.report(reader, job.id).total.outcomes == 0
    assert [each.job for each in world.rescores.list(reader, world.app, limit=9)] == [job]
    for call in (
        lambda: world.rescore(reader),
        lambda: world.rescores.act(reader, job.id, Action.PAUSE),
        lambda: world.rescores.set_rate(reader, job.id, 1),
    ):
        with pytest.raises(Forbidden):
            call()


def test_a_budget_is_made_with_its_job_and_once(world: World) -> None:
    body = read_rescore({
        "filter": "", "scorers": ["Factuality"], "budget": {"money": 2.5, "calls": 10},
    })
    job, _ = world.rescores.make(world.admin, world.app, body, idempotency_key="k")
    again, _ = world.rescores.make(world.admin, world.app, body, idempotency_key="k")
    with pytest.raises(BadInput):
        world.rescores.make(
            world.admin, world.app, read_rescore({
                "filter": "", "scorers": ["Factuality"], "budget": {"calls": 1},
            }),
            idempotency_key="k",
        )
    (made,) = world.budgets.list(world.admin, world.app)
    assert again == job
    assert (made.budget.subject_id, made.budget.period) == (job.id, Period.TOTAL)
    assert made.budget.caps == Caps(money=2_500_000_000, calls=10)
    assert job.request["budget"] == {"money": 2.5, "calls": 10}


def test_resuming_rings_the_queues_that_have_the_jobs_outcomes(world: World) -> None:
    job = world.rescore()
    world.rescores.act(world.admin, job.id, Action.PAUSE)
    world.rung.clear()
    world.rescores.act(world.admin, job.id, Action.RESUME)
    assert {RESCORE, HEAVY, JUDGE} <= set(world.rung)


@pytest.mark.parametrize(("changed", "sentence"), [
    ({"filter": None}, "say which records"),
    ({"filter": "a b c"}, "filter"),
    ({"ids": ["a"], "filter": "error is null"}, "leave filter and rule_id out"),
    ({"ids": []}, "ids"),
    ({"scorers": None}, "say which scorers"),
    ({"error_class": "timeout"}, "error_class needs only"),
    ({"rule_id": "x"}, "no rule's id"),
    ({"sampling_rate": 0}, "sampling_rate"),
    ({"max_per_second": float("inf")}, "max_per_second"),
    ({"max_per_second": 1e-300}, "must be a number from 0.001"),
    ({"scorers": [1]}, "must be a list of 1 to 30 scorers"),
    ({"created_from": "2026-11-01"}, "a time with its zone"),
    ({"only": "errored", "error_class": "x"}, "is not an error class; use one of"),
    ({"created_from": "2026-01-01T00:00:00Z", "created_before": "2026-01-01T00:00:00Z"},
     "created_from must be earlier"),
    ({"max_records": 10**13}, "max_records: must be a whole number"),
    ({"budget": {}}, "must have money, calls or both"),
    ({"limit": 5}, "unknown: limit"),
])
def test_a_wrong_request_says_what_is_wrong(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_rescore({"filter": "", "scorers": ["Levenshtein"], **changed})
