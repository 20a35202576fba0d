"""Two versions of a scorer on one row: which one waits, and whose score the row shows."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator

import pytest

from flows.logs.ingest import IngestRequest
from flows.outcomes.explain import explain
from flows.outcomes.retry import RetryRequest
from flows.scoring.claims import execution_of
from flows.scoring.match import Matcher
from rules.wire import ProjectScore, read_rule
from scorers.functions.body import read_function
from scorers.functions.function import Definition, Function, FunctionWrite, IfExists
from spans.clock import system_clock
from spans.event import EventLimits, read_event
from spans.ids import FunctionId, ObjectId, OrgId, ProjectId, RuleId
from spans.json import JsonObject
from spans.outcome import Errored, Failure, verdict_of
from spans.queues import HEAVY
from spans.repair.values import BodyText
from spans.row import ObjectRef, ObjectType
from spans.scoring import Score, ScoringResult
from spans.work import Retry, RunnableClaim
from store.access.projects import StoredProjects
from store.functions.functions import StoredFunctions
from store.logs.ingest import SpanWriter
from store.outcomes.explain import ExplainRecords
from store.outcomes.outcomes import StoredOutcomes
from store.postgres.counters import samples
from store.postgres.database import Database
from store.rules.rules import StoredRules
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords

pytestmark = pytest.mark.every_postgres

LIMITS = EventLimits(depth_max=64, nodes_max=10_000)
RESELECT: JsonObject = {
    "id": "a", "_is_merge": True, "_async_scoring_control": {"kind": "state_force_reselect"},
}


class World:
    """A project whose rule follows the function `mine`, and one finished row, `a`."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.projects = StoredProjects(self.database)
        self.functions = StoredFunctions(self.database)
        self.rules = StoredRules(self.database)
        self.records = MatchRecords(self.database, system_clock, lease_s=60)
        self.ledger = Ledger(self.database, system_clock, lease_s=60, time_limits_s={})
        self.outcomes = StoredOutcomes(self.database)
        self.org = self.projects.ensure_organization(OrgId(uuid.uuid4()), "acme")
        self.home, self.shared = self.project("app"), self.project("shared")
        self.where = ObjectRef(self.home, ObjectType.PROJECT_LOGS, ObjectId(self.home))
        self.numbers = itertools.count(1)
        self.function = self.push("mine")
        self.rule = self.follow("rule", self.function)

    def project(self, name: str) -> ProjectId:
        made, _ = self.projects.get_or_create_project(
            self.org, ProjectId(uuid.uuid4()), name, None
        )
        return made.id

    def push(self, slug: str, shadow: float | None = None) -> Function:
        """A new version of the function, in force or beside the one that is."""
        body = read_function({
            "name": slug, "slug": slug, "function_type": "scorer",
            "description": f"version {next(self.numbers)}",
            "function_data": {"type": "global", "name": "Levenshtein"},
        })
        definition = Definition(
            project_id=self.shared, body=body, if_exists=IfExists.REPLACE, shadow_rate=shadow
        )
        (written,) = self.functions.write(self.org, [
            FunctionWrite(definition=definition, new_id=FunctionId(uuid.uuid4()), program=None)
        ])
        return written.function

    def follow(self, name: str, *functions: Function) -> ProjectScore:
        scorers = [{"type": "function", "id": str(each.id)} for each in functions]
        body = read_rule({
            "name": name, "score_type": "online",
            "config": {"online": {"sampling_rate": 1, "scorers": scorers}},
        })
        return self.rules.create_rule(self.home, RuleId(uuid.uuid4()), body, replace=True)[0]

    def write(self, event: JsonObject) -> None:
        writer = SpanWriter(self.database, system_clock, resend_minutes=60)
        writer.write([
            IngestRequest(
                org_id=self.org, sent_by="key", writes=(
                    read_event(event, self.where, LIMITS, new_id=str, body=BodyText(b"")),
                ),
            )
        ])
        matcher = Matcher(store=self.records, cost_limit=1e7)
        while matcher.match_some().rows:
            pass

    def claim(self) -> RunnableClaim:
        (claim,) = self.ledger.claim(HEAVY, 16)
        return claim

    def record(self, claim: RunnableClaim, value: float | None) -> None:
        """That the claimed run gave this score, or failed."""
        now = time.time()
        if value is None:
            failure = Failure(error_class="timeout", message="late")
            verdict = Errored(failure=failure, started_at=now, run_ms=1.0)
        else:
            result = ScoringResult(scores=(Score(name="mine", value=value),), arguments={})
            verdict = verdict_of(result, started_at=now, run_ms=1.0)
        self.ledger.record([(claim, execution_of(claim, verdict, HEAVY))])

    def states(self) -> dict[str, str]:
        """Of the live outcomes, by version."""
        with self.database.cursor() as cursor:
            cursor.execute(
                "select scorer_version, state from shown_outcome where role = 'live'"
            )
            return dict(cursor)

    def shown(self) -> object:
        with self.database.cursor() as cursor:
            cursor.execute("select scores from shown_span where id = 'a'")
            (scores,) = cursor.fetchone() or (None,)
        return scores

    def explained(self) -> str:
        told = explain(
            ExplainRecords(self.database, self.records), self.org, self.home, "a"
        )
        (answer,) = told.rules
        return answer.status


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    here = World(fresh_database_url)
    here.write({"id": "a", "output": "o", "expected": "e", "metrics": {"end": time.time()}})
    yield here
    here.database.close()


def test_a_version_that_runs_while_a_newer_one_scores_is_not_shown_over_it(
    world: World,
) -> None:
    older = world.claim()
    newest = world.push("mine")
    world.write(RESELECT)
    world.record(world.claim(), 1.0)

    world.record(older, 0.0)

    assert world.shown() == {"mine": 1.0}
    assert world.states() == {
        str(world.function.version): "superseded", str(newest.version): "completed"
    }
    assert world.explained() == "completed"


def test_a_version_that_waits_for_its_next_attempt_gives_way_to_a_newer_one(
    world: World,
) -> None:
    world.ledger.postpone(
        [Retry(claim=world.claim(), error_class="timeout", message="late", wait_s=0)]
    )
    newest = world.push("mine")
    world.write(RESELECT)

    assert world.claim().lead.scorer.version == str(newest.version)


def test_a_version_that_is_back_in_force_is_asked_for_anew(world: World) -> None:
    newer = world.push("mine")
    world.write(RESELECT)
    world.functions.promote(newer, world.function.version)

    world.write(RESELECT)

    assert world.states() == {
        str(world.function.version): "pending", str(newer.version): "superseded"
    }
    world.record(world.claim(), 0.5)
    assert world.shown() == {"mine": 0.5}


def test_other_rules_and_shadows_keep_what_waits_for_them(world: World) -> None:
    pinned = world.follow("other", world.push("other"))
    world.write(RESELECT)
    beside = world.push("mine", shadow=1.0)
    world.write(RESELECT)
    assert beside.shadow is not None
    world.push("mine")

    world.write(RESELECT)

    with world.database.cursor() as cursor:
        cursor.execute(
            """select count(*) filter (where role = 'shadow'),
                      count(*) filter (where origin_id = %s) from shown_outcome
                where state = 'pending'""",
            (pinned.id,),
        )
        assert cursor.fetchone() == (1, 1)


def test_errors_of_a_version_that_another_has_followed_are_not_run_again(world: World) -> None:
    world.record(world.claim(), None)
    assert world.outcomes.retry(world.home, RetryRequest()) == 1
    world.record(world.claim(), None)
    world.push("mine")
    world.write(RESELECT)
    world.record(world.claim(), 1.0)

    assert world.outcomes.retry(world.home, RetryRequest()) == 0

    assert world.shown() == {"mine": 1.0}


def test_nothing_waits_for_a_deleted_function_any_more(world: World) -> None:
    other = world.push("other")
    world.follow("other", other)
    world.write(RESELECT)
    running = next(
        claim for claim in world.ledger.claim(HEAVY, 16)
        if claim.lead.scorer.name == str(world.function.id)
    )

    world.functions.delete(world.function)

    assert world.states() == {
        str(world.function.version): "superseded", str(other.version): "pending"
    }
    world.record(running, 1.0)
    assert world.shown() is None


def test_nothing_waits_for_the_functions_of_a_deleted_project(world: World) -> None:
    world.projects.delete_project(world.shared)

    assert world.states() == {str(world.function.version): "superseded"}


def test_what_a_shadow_runs_into_is_told_apart_from_its_rules_errors(world: World) -> None:
    world.record(world.claim(), 1.0)
    world.push("mine", shadow=1.0)
    world.write(RESELECT)
    world.record(world.claim(), None)

    (error,) = world.outcomes.errors(world.home)

    assert (error.scorer, error.role, error.count) == ("mine", "shadow", 1)
    counted = {
        (one.labels["role"], one.labels["state"])
        for one in samples(world.database) if one.name == "outcomes"
    }
    assert counted == {("live", "completed"), ("shadow", "errored")}


def test_a_promoted_shadow_shares_its_run_when_both_are_tried_again(world: World) -> None:
    world.record(world.claim(), 1.0)
    beside = world.push("mine", shadow=1.0)
    world.write(RESELECT)
    world.record(world.claim(), None)
    assert beside.shadow is not None
    world.functions.promote(beside, beside.shadow.version)
    world.write(RESELECT)
    world.record(world.claim(), None)

    assert world.outcomes.retry(world.home, RetryRequest()) == 2

    world.record(world.claim(), 0.25)   # one run, for both
    assert world.ledger.claim(HEAVY, 16) == []
    assert world.shown() == {"mine": 0.25}
