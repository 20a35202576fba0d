"""Matched rows as they are written again, deleted, or left without their rule or project."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from flows.logs.ingest import IngestRequest
from flows.outcomes.retry import RetryRequest
from flows.scoring.match import Matcher
from rules.wire import ProjectScore, read_rule
from spans.clock import system_clock
from spans.event import EventLimits, read_event
from spans.ids import ObjectId, OrgId, ProjectId, RuleId
from spans.json import JsonObject
from spans.repair.values import BodyText
from spans.resends import IngestAnswer
from spans.row import ObjectRef, ObjectType
from store.access.projects import StoredProjects
from store.logs.ingest import SpanWriter
from store.outcomes.outcomes import StoredOutcomes
from store.postgres.database import Database
from store.rules.rules import StoredRules
from store.scoring.match_records import MatchRecords

pytestmark = pytest.mark.every_postgres

LIMITS = EventLimits(depth_max=64, nodes_max=10_000)


@dataclass
class World:
    """One project on a database of its own, and what works on it."""

    database: Database
    where: ObjectRef

    def __post_init__(self) -> None:
        self.rules = StoredRules(self.database)
        records = MatchRecords(self.database, system_clock, lease_s=60)
        self.matcher = Matcher(store=records, cost_limit=1e7)

    def rule(self, name: str, scorer: str = "Levenshtein", **online: object) -> ProjectScore:
        body = read_rule({
            "name": name, "score_type": "online",
            "config": {"online": {
                "sampling_rate": 1, "scorers": [{"type": "global", "name": scorer}], **online,
            }},
        })
        return self.rules.create_rule(
            self.where.project_id, RuleId(uuid.uuid4()), body, replace=True
        )[0]

    def write(self, *events: JsonObject) -> IngestAnswer:
        writer = SpanWriter(self.database, system_clock, resend_minutes=60)
        body = BodyText(b"")
        (answer,) = writer.write([
            IngestRequest(
                org_id=OrgId(uuid.uuid4()), sent_by="key", writes=tuple(
                    read_event(event, self.where, LIMITS, new_id=str, body=body)
                    for event in events
                ),
            )
        ])
        assert isinstance(answer, IngestAnswer), answer
        return answer

    def ended(self, output: str, **more: object) -> JsonObject:
        return {
            "id": "a", "output": output, "expected": "kitten", "metrics": {"end": time.time()},
            **more,
        }

    def match(self) -> None:
        while self.matcher.match_some().rows:
            pass

    def one(self, query: str) -> object:
        with self.database.cursor() as cursor:
            cursor.execute(query.encode())
            row = cursor.fetchone()
        return row[0] if row else None

    def scores(self) -> object:
        return self.one("select scores from shown_span where id = 'a'")

    def states(self) -> object:
        return self.one(
            "select array_agg(state order by subject_version, state) from outcome"
        )

    def score_spans(self) -> object:
        return self.one(
            "select count(*) from shown_span where span_attributes ->> 'purpose' = 'scorer'"
        )


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    database = Database(fresh_database_url)
    projects = StoredProjects(database)
    org = projects.ensure_organization(OrgId(uuid.uuid4()), "acme")
    project, _ = projects.get_or_create_project(org, ProjectId(uuid.uuid4()), "app", None)
    yield World(database, ObjectRef(project.id, ObjectType.PROJECT_LOGS, ObjectId(project.id)))
    database.close()


def test_a_row_deleted_and_made_anew_in_one_request_keeps_no_score(world: World) -> None:
    world.rule("close")
    world.write(world.ended("sitting"))
    world.match()
    assert world.scores() is not None

    world.write({"id": "a", "_object_delete": True}, {"id": "a", "output": "not ended"})

    assert world.scores() is None
    assert world.states() is None
    assert world.score_spans() == 0


def test_content_changed_by_a_write_that_asks_not_to_be_scored_keeps_no_score(
    world: World,
) -> None:
    world.rule("close")
    world.write(world.ended("sitting"))
    world.match()

    world.write(world.ended("something else", _skip_async_scoring=True))
    world.match()

    assert world.scores() is None
    assert world.score_spans() == 0
    assert world.states() == ["completed"]   # as history


def test_a_null_that_a_merge_set_outlives_the_base_that_comes_late(world: World) -> None:
    world.write({"id": "a", "_is_merge": True, "expected": None, "tags": ["late"]})
    world.write({"id": "a", "expected": "x", "output": "y"})

    assert world.one("select expected::text from span where id = 'a'") in {None, "null"}
    assert world.one("select output #>> '{}' from span where id = 'a'") == "y"


def test_feedback_folded_into_the_end_of_its_span_has_it_scored(world: World) -> None:
    world.rule("close")
    world.write({"id": "a", "input": "q"})
    world.write(
        world.ended("sitting", scores={"human": 1}, _is_merge=True, _audit_source="external")
    )

    world.match()

    scores = world.scores()
    assert isinstance(scores, dict)
    assert scores.keys() == {"human", "Levenshtein"}


def test_errors_of_a_deleted_rule_are_not_run_again(world: World) -> None:
    rule = world.rule("needs context", "ContextRelevancy")
    world.rule("close")
    world.write(world.ended("sitting", expected=None))
    world.match()
    assert world.states() == ["errored", "pending"]
    world.rules.delete_rule(rule)
    outcomes = StoredOutcomes(world.database)

    retried = outcomes.retry(world.where.project_id, RetryRequest())

    assert retried == 1   # of the rule that is there


def test_what_was_logged_to_a_project_as_it_was_deleted_holds_up_no_other(world: World) -> None:
    projects = StoredProjects(world.database)
    org = projects.ensure_organization(OrgId(uuid.uuid4()), "acme")
    gone, _ = projects.get_or_create_project(org, ProjectId(uuid.uuid4()), "gone", None)
    projects.delete_project(gone.id)
    late = World(
        world.database, ObjectRef(gone.id, ObjectType.PROJECT_LOGS, ObjectId(gone.id))
    )
    for number in range(300):
        late.write({"id": str(number), "output": "o", "metrics": {"end": 1.0}})
    world.rule("close")
    world.write(world.ended("sitting"))

    world.match()

    assert world.scores() is not None
