"""What every store does from which spans are matched, and outcomes claimed and recorded."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import pytest

from btql.tree import TRUE
from flows.budgets.budgets import BudgetStore
from flows.budgets.held import HeldStore
from flows.budgets.purse import PurseStore
from flows.logs.fetch import FetchRequest, RowReader
from flows.logs.ingest import IngestRequest, IngestStore
from flows.scoring.circuit import CircuitStore
from flows.scoring.claims import ClaimStore, execution_of
from flows.scoring.match import Batch, Matcher, MatchStore
from spans.errors import Contended, StaleFence
from spans.event import EventLimits, read_event
from spans.ids import FunctionId, ObjectId, OrgId, RowSeq, RuleId, Xact
from spans.json import JsonObject
from spans.outcome import POISONED, Errored, Failure, RuleOrigin, Verdict, verdict_of
from spans.queues import HEAVY, JUDGE, MATCH
from spans.repair.values import BodyText
from spans.resends import IngestAnswer
from spans.row import ObjectRef, ObjectType, RowKey, RowWrite
from spans.scoring import Role, Score, ScoringResult
from spans.work import (
    BULK_TURN,
    Claim,
    Priority,
    PutOff,
    Retry,
    RunnableClaim,
    StaleClaim,
)

LIMITS = EventLimits(depth_max=64, nodes_max=10_000)
LEASE_S = 60.0
BUDGET_S = 86_400.0
"""For how long an outcome is tried again."""

WAIT_MAX_S = 600.0
"""The longest wait between two of its attempts."""

SHOWN = 1000
"""The most rows that a test looks at."""

CHEAP, NOTHING_IS_CHEAP = 1e7, 0.0
"""What may run while matching: Levenshtein of short texts, or nothing."""

LATE = Failure(error_class="timeout", message="late")
RESELECT: JsonObject = {
    "_is_merge": True, "_async_scoring_control": {"kind": "state_force_reselect"},
}


class Leases(Protocol):
    """Ends leases: of processes that are gone, and of this one."""

    def release_abandoned(self) -> int: ...
    def release_own(self, queue: str) -> None: ...
    def blame_own(self, queue: str) -> None: ...


class Worker(Protocol):
    """A process, with what it holds."""

    @property
    def records(self) -> MatchStore: ...
    @property
    def ledger(self) -> ClaimStore: ...
    @property
    def leases(self) -> Leases: ...


class Seen(NamedTuple):
    """An outcome as it is stored. `version` is its scorer's."""

    row: str
    rule: RuleId
    version: str
    role: str
    state: str
    queue: str
    attempts: int
    deaths: int
    error_class: str | None


class ScoringWorld(ABC):
    """A project in a store of its own, and the processes that score it."""

    org_id: OrgId
    where: ObjectRef
    writer: IngestStore
    reader: RowReader
    circuits: CircuitStore
    budgets: BudgetStore
    purses: PurseStore
    held: HeldStore

    def __init__(self) -> None:
        self.worker = self.process()

    # --- what each store does in its own way

    @abstractmethod
    def process(self) -> Worker:
        """A new process."""

    @abstractmethod
    def die(self, worker: Worker) -> None:
        """Ends the process at once, as a kill does."""

    @abstractmethod
    def let_pass(self, seconds: float) -> None:
        """Moves the time of leases and waits on."""

    @abstractmethod
    def rule_of(self, name: str, scorers: list[JsonObject], **online: object) -> RuleId:
        """The rule of this name as it is told now: made, or changed."""

    @abstractmethod
    def push(self, slug: str, shadow: float | None = None) -> tuple[FunctionId, Xact]:
        """A new version of a function that stands for Levenshtein: in force, or as a shadow."""

    @abstractmethod
    def delete_project(self) -> None: ...

    @abstractmethod
    def created_by(self, row_id: str) -> str | None:
        """Who wrote the row first."""

    @abstractmethod
    def outcomes(self) -> list[Seen]: ...

    @abstractmethod
    def replaced(self) -> list[tuple[str, int, str, float]]:
        """The scores that jobs replaced: of which row, by which job, and their names."""

    @abstractmethod
    def hold_back(self, row_id: str) -> None:
        """Has the row's pending outcomes wait as if they were of a job that is paused."""

    # --- what is the same for all

    def rule(
        self, name: str = "close", scorer: str = "Levenshtein", **online: object
    ) -> RuleId:
        return self.rule_of(name, [{"type": "global", "name": scorer}], **online)

    def follow(self, name: str, function_id: FunctionId) -> RuleId:
        return self.rule_of(name, [{"type": "function", "id": str(function_id)}])

    def write(self, *events: JsonObject, where: ObjectRef | None = None) -> Xact:
        return self.send(*(
            read_event(event, where or self.where, LIMITS, new_id=str, body=BodyText(b""))
            for event in events
        ))

    def send(self, *writes: RowWrite) -> Xact:
        (answer,) = self.writer.write([IngestRequest(
            org_id=self.org_id, sent_by="of the key", writes=writes,
        )])
        assert isinstance(answer, IngestAnswer), answer
        return answer.xact

    def feedback(self, row_id: str, fields: JsonObject) -> Xact:
        """A person's feedback on the row."""
        return self.send(RowWrite(
            key=RowKey(self.where, row_id), fields=fields, is_merge=True, is_feedback=True,
            audit_source="a person",
        ))

    def shown(self, where: ObjectRef | None = None) -> dict[str, JsonObject]:
        """The rows of the object as the API shows them, by id."""
        page = self.reader.page(
            where or self.where, self.org_id,
            FetchRequest(limit=SHOWN, filter=TRUE, cursor=None, after=None), limit=SHOWN,
        )
        return {str(row["id"]): row for row in page.rows}

    def score_spans(self) -> list[JsonObject]:
        """The rows that show an outcome."""
        return [
            row for row in self.shown().values()
            if isinstance(context := row["context"], dict) and "outcome_id" in context
        ]

    def scores(self, row_id: str = "a") -> object:
        """The row's scores as they are shown."""
        return self.shown()[row_id]["scores"]

    def version(self, row_id: str) -> Xact:
        return Xact(int(str(self.shown()[row_id]["_xact_id"])))

    def place(self, row_id: str) -> RowSeq:
        """Where the row comes in the order of arrival."""
        return place_of(self.shown()[row_id])

    def row_ids(self, batches: Sequence[Batch]) -> list[tuple[str, ...]]:
        """The ids of the rows of each entry."""
        ids = {
            place_of(row): row_id
            for batch in batches for row_id, row in self.shown(batch.where).items()
        }
        return [
            tuple(ids[seq] for seq in entry.row_seqs)
            for batch in batches for entry in batch.entries
        ]

    def match(self, cost_limit: float = CHEAP) -> None:
        matcher = Matcher(store=self.worker.records, cost_limit=cost_limit)
        while matcher.match_some().rows:
            pass

    def defer(self, *row_ids: str) -> None:
        """Writes rows that have ended, whose scorers wait in the queue `heavy`."""
        self.write(*map(ended, row_ids))
        self.match(NOTHING_IS_CHEAP)

    def defer_bulk(self, *row_ids: str) -> None:
        """Writes rows as `defer` does, whose outcomes are bulk."""
        self.write(*map(ended, row_ids))
        matcher = Matcher(store=self.worker.records, cost_limit=NOTHING_IS_CHEAP)
        for batch in self.worker.records.claim_entries(len(row_ids)):
            decided = matcher.decide(batch)
            self.worker.records.record_match(replace(decided, deferred=tuple(
                replace(later, priority=Priority.BULK) for later in decided.deferred
            )))

    def experiment(self) -> ObjectRef:
        """Another object of the project, in which nothing is yet."""
        return ObjectRef(
            self.where.project_id, ObjectType.EXPERIMENT, ObjectId(uuid.uuid4())
        )

    def claim(self, limit: int = 16, worker: Worker | None = None) -> list[RunnableClaim]:
        claims = (worker or self.worker).ledger.claim(HEAVY, limit)
        assert all(isinstance(claim, RunnableClaim) for claim in claims), claims
        return claims

    def states(self, row_id: str = "a") -> list[str]:
        return sorted(one.state for one in self.outcomes() if one.row == row_id)

    def by_version(self, role: Role = Role.LIVE) -> dict[str, str]:
        """The states of the outcomes of a role, by the version of the scorer."""
        return {one.version: one.state for one in self.outcomes() if one.role == role}


def ended(row_id: str = "a", output: str = "sitting", **more: object) -> JsonObject:
    return {
        "id": row_id, "output": output, "expected": "kitten", "metrics": {"end": 1.5}, **more,
    }


def pinned(function_id: FunctionId, version: Xact) -> JsonObject:
    """The function at this version, as a rule names it."""
    return {"type": "function", "id": str(function_id), "version": str(version)}


def place_of(row: JsonObject) -> RowSeq:
    return RowSeq(int(str(row["_pagination_key"]).removeprefix("p")))


def rows_of(claims: Sequence[Claim]) -> set[str]:
    return {claim.lead.subject_id for claim in claims}


def verdict(value: float | None) -> Verdict:
    """That a run gave this score, or failed."""
    if value is None:
        return Errored(failure=LATE, started_at=1.5, run_ms=1.0)
    result = ScoringResult(scores=(Score(name="Levenshtein", value=value),), arguments={})
    return verdict_of(result, started_at=1.5, run_ms=1.0)


def record(worker: Worker, *claims: RunnableClaim, value: float | None = 1.0) -> None:
    worker.ledger.record([
        (claim, execution_of(claim, verdict(value), HEAVY)) for claim in claims
    ])


def retry(claim: RunnableClaim, wait_s: float) -> Retry:
    return Retry(
        claim=claim, error_class=LATE.error_class, message=LATE.message, wait_s=wait_s
    )


class MatchingBehaviours:
    """A subclass has a fixture `world` that gives a ScoringWorld."""

    def test_entries_are_claimed_oldest_first_and_once(self, world: ScoringWorld) -> None:
        first = world.write(ended("a"), ended("b"))
        second = world.write(ended("c"))

        (batch,) = world.worker.records.claim_entries(500)

        assert batch.where == world.where
        assert [entry.xact for entry in batch.entries] == [first, second]
        assert world.row_ids([batch]) == [("a", "b"), ("c",)]
        assert {(entry.fence, entry.deaths) for entry in batch.entries} == {(1, 0)}
        assert world.worker.records.claim_entries(500) == []
        assert world.process().records.claim_entries(500) == []

    def test_entries_of_each_object_come_in_a_batch_of_their_own(
        self, world: ScoringWorld
    ) -> None:
        elsewhere = world.experiment()
        world.write(ended("a"))
        world.write(ended("a"), where=elsewhere)
        world.write(ended("b"))

        batches = world.worker.records.claim_entries(500)

        assert {batch.where: world.row_ids([batch]) for batch in batches} == {
            world.where: [("a",), ("b",)], elsewhere: [("a",)]
        }

    def test_entries_are_taken_until_they_have_as_many_rows_as_were_asked_for(
        self, world: ScoringWorld
    ) -> None:
        world.write(ended("a"), ended("b"))
        world.write(ended("c"), ended("d"))
        world.write(ended("e"))

        assert world.row_ids(world.worker.records.claim_entries(3)) == [("a", "b"), ("c", "d")]
        assert world.row_ids(world.worker.records.claim_entries(3)) == [("e",)]

    def test_an_object_with_many_entries_delays_another_by_no_more_than_one_claim(
        self, world: ScoringWorld
    ) -> None:
        for number in range(12):
            world.write(ended(str(number)))
        elsewhere = world.experiment()
        world.write(ended("a"), where=elsewhere)

        batches = world.worker.records.claim_entries(4)

        assert {batch.where: len(batch.entries) for batch in batches} == {
            world.where: 3, elsewhere: 1
        }

    def test_an_object_that_got_many_rows_at_once_waits_until_others_have_as_many(
        self, world: ScoringWorld
    ) -> None:
        elsewhere = world.experiment()
        for number in range(3):
            world.write(*(ended(f"{number}.{place}") for place in range(12)))
        for number in range(36):
            world.write(ended(str(number)), where=elsewhere)

        matched: Counter[ObjectRef] = Counter()
        while matched[elsewhere] < 24:
            for batch in world.worker.records.claim_entries(4):
                matched[batch.where] += sum(len(entry.row_seqs) for entry in batch.entries)
            assert abs(matched[world.where] - matched[elsewhere]) <= 12 + 4

    def test_entries_whose_process_died_come_first_and_each_alone(
        self, world: ScoringWorld
    ) -> None:
        world.write(ended("a"))
        world.write(ended("b"))
        doomed = world.process()
        assert world.row_ids(doomed.records.claim_entries(500)) == [("a",), ("b",)]
        world.write(ended("c"))
        world.die(doomed)

        assert world.worker.leases.release_abandoned() == 2

        claimed = [world.worker.records.claim_entries(500) for _ in range(3)]
        assert list(map(world.row_ids, claimed)) == [[("a",)], [("b",)], [("c",)]]
        assert [
            (entry.deaths, entry.fence)
            for (batch,) in claimed for entry in batch.entries
        ] == [(1, 2), (1, 2), (0, 1)]

    def test_what_a_living_process_holds_is_not_abandoned(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a")
        world.write(ended("b"))
        world.worker.records.claim_entries(500)
        world.claim()

        assert world.process().leases.release_abandoned() == 0

        assert world.process().records.claim_entries(500) == []
        assert world.claim() == []

    def test_an_entry_whose_lease_ran_out_goes_to_whoever_claims_next_without_a_death(
        self, world: ScoringWorld
    ) -> None:
        world.write(ended())
        world.worker.records.claim_entries(500)

        world.let_pass(LEASE_S - 10)
        assert world.process().records.claim_entries(500) == []

        world.let_pass(20)
        (batch,) = world.process().records.claim_entries(500)
        assert [(entry.fence, entry.deaths) for entry in batch.entries] == [(2, 0)]

    @pytest.mark.parametrize("deaths", [0, 1])
    def test_a_process_gives_up_its_entries_as_released_or_as_deaths(
        self, world: ScoringWorld, deaths: int
    ) -> None:
        world.write(ended())
        world.worker.records.claim_entries(500)
        world.process().leases.release_own(MATCH)   # another's are not touched
        assert world.process().records.claim_entries(500) == []

        (world.worker.leases.blame_own if deaths else world.worker.leases.release_own)(MATCH)

        (batch,) = world.process().records.claim_entries(500)
        assert [(entry.fence, entry.deaths) for entry in batch.entries] == [(2, deaths)]

    def test_a_match_under_a_lost_claim_is_refused_as_a_whole(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended("a"))
        world.write(ended("b"))
        matcher = Matcher(store=world.worker.records, cost_limit=CHEAP)
        (late,) = world.worker.records.claim_entries(500)
        decided = matcher.decide(late)
        world.let_pass(LEASE_S + 10)
        (one, *_) = world.process().records.claim_entries(1)   # takes over one of two entries
        assert len(one.entries) == 1

        with pytest.raises(StaleFence):
            world.worker.records.record_match(decided)

        assert world.outcomes() == []
        assert (world.scores("a"), world.scores("b")) == (None, None)
        assert world.score_spans() == []

    def test_a_match_is_recorded_once(self, world: ScoringWorld) -> None:
        world.rule()
        world.write(ended())
        (batch,) = world.worker.records.claim_entries(500)
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(batch)
        world.worker.records.record_match(decided)
        version = world.version("a")

        with pytest.raises(StaleFence):
            world.worker.records.record_match(decided)

        assert world.states() == ["completed"]
        assert world.version("a") == version

    def test_rules_that_change_while_a_match_is_decided_have_it_decided_anew(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended())
        (batch,) = world.worker.records.claim_entries(500)
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(batch)
        world.rule("another")

        with pytest.raises(Contended):
            world.worker.records.record_match(decided)

        assert world.scores() is None
        assert world.outcomes() == []
        world.worker.leases.release_own(MATCH)
        (again,) = world.worker.records.claim_entries(500)
        assert again.revision == batch.revision + 1

    def test_a_rule_set_stays_as_it_was_at_its_revision(self, world: ScoringWorld) -> None:
        project_id = world.where.project_id
        world.write(ended())
        rule = world.rule(sampling_rate=0.5)
        (batch,) = world.worker.records.claim_entries(500)
        world.rule(sampling_rate=1)
        other = world.rule("another")

        before = world.worker.records.rule_set(project_id, batch.revision)
        after = world.worker.records.rule_set(project_id, batch.revision + 2)

        assert {one.rule.id: one.rule.sampling_rate for one in before.rules} == {rule: 0.5}
        assert {one.rule.id: one.rule.sampling_rate for one in after.rules} == {
            rule: 1.0, other: 1.0
        }
        assert (before.revision, after.revision) == (batch.revision, batch.revision + 2)

    def test_a_project_without_rules_has_an_empty_rule_set(self, world: ScoringWorld) -> None:
        world.write(ended())
        (batch,) = world.worker.records.claim_entries(500)

        rule_set = world.worker.records.rule_set(world.where.project_id, batch.revision)

        assert (rule_set.rules, rule_set.revision) == ((), 0)

    def test_nothing_of_a_deleted_project_is_claimed_or_recorded(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended("a"))
        (batch,) = world.worker.records.claim_entries(500)
        world.write(ended("b"))
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(batch)

        world.delete_project()

        with pytest.raises(Contended):
            world.worker.records.record_match(decided)
        world.worker.leases.release_own(MATCH)
        assert world.worker.records.claim_entries(500) == []

    def test_rows_are_read_with_the_columns_that_were_asked_for(
        self, world: ScoringWorld
    ) -> None:
        xact = world.write(ended("a", metadata={"m": 1}, span_id="s", root_span_id="t"),
                           ended("gone"))
        own, gone = world.place("a"), world.place("gone")
        world.write({"id": "gone", "_object_delete": True})

        found = world.worker.records.subjects(
            world.where, [own, gone, RowSeq(10**9)], frozenset({"output", "metadata"})
        )

        assert found.keys() == {own}
        subject = found[own]
        assert (subject.span_id, subject.root_span_id, subject.ended_at) == ("s", "t", 1.5)
        assert (subject.key, subject.seq) == (RowKey(world.where, "a"), own)
        assert (subject.xact, subject.content_xact, subject.trigger_xact) == (xact,) * 3
        assert subject.at_end is None
        assert subject.view == {
            "id": "a", "span_id": "s", "root_span_id": "t", "is_root": True,
            "metrics": {"end": 1.5}, "span_attributes": None, "_async_scoring_state": None,
            "output": "sitting", "metadata": {"m": 1},
        }

    def test_a_row_that_changed_after_its_end_shows_how_it_was_then(
        self, world: ScoringWorld
    ) -> None:
        world.write(ended(metadata={"m": 1}))
        world.write({"id": "a", "_is_merge": True, "metadata": {"m": 2}})
        world.write({"id": "a", "_is_merge": True, "metadata": {"m": 3}})
        place, columns = world.place("a"), frozenset({"metadata"})

        subject = world.worker.records.subjects(world.where, [place], columns)[place]

        assert subject.view["metadata"] == {"m": 3}
        assert subject.at_end is not None
        assert subject.at_end["metadata"] == {"m": 1}
        world.match()
        subject = world.worker.records.subjects(world.where, [place], columns)[place]
        assert subject.at_end is None

    def test_a_cheap_score_is_shown_with_a_score_span_as_soon_as_its_match_is_recorded(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended(output="kitten"))

        world.match()

        assert world.scores() == {"Levenshtein": 1.0}
        assert world.states() == ["completed"]
        assert len(world.score_spans()) == 1

    def test_a_rule_that_skips_logging_leaves_no_score_span(self, world: ScoringWorld) -> None:
        world.rule(skip_logging=True)
        world.write(ended(output="kitten"))

        world.match()

        assert world.scores() == {"Levenshtein": 1.0}
        assert world.score_spans() == []

    def test_a_scorer_that_declines_or_fails_leaves_no_score(self, world: ScoringWorld) -> None:
        world.rule()
        world.write(ended(expected=None))

        world.match()

        assert world.scores() is None
        assert [(one.state, one.error_class) for one in world.outcomes()] == [
            ("errored", "missing_argument")
        ]
        assert len(world.score_spans()) == 1

    def test_a_row_that_goes_while_its_match_is_decided_gets_nothing(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.rule("judged", "ContextRelevancy")
        world.write(ended())
        (batch,) = world.worker.records.claim_entries(500)
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(batch)
        world.write({"id": "a", "_object_delete": True})

        world.worker.records.record_match(decided)

        assert world.outcomes() == []
        assert world.score_spans() == []

    def test_a_score_of_content_that_changed_while_it_ran_is_not_shown(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended())
        (batch,) = world.worker.records.claim_entries(500)
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(batch)
        world.write(ended(output="kitten"))

        world.worker.records.record_match(decided)

        assert world.scores() is None
        assert world.states() == ["superseded"]
        world.match()
        assert world.scores() == {"Levenshtein": 1.0}

    def test_a_late_match_of_an_older_write_leaves_the_newer_score_alone(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended(output="kitten"))
        world.match()
        world.write(ended(output="mitten"))
        (late,) = world.worker.records.claim_entries(500)
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(late)
        world.write(ended(output="bitten"))
        world.match()
        newest = world.scores()

        world.worker.records.record_match(decided)

        assert newest is not None
        assert world.scores() == newest
        assert len(world.score_spans()) == 1

    def test_a_late_match_that_selects_nothing_takes_no_newer_score_away(
        self, world: ScoringWorld
    ) -> None:
        world.rule(btql_filter="output != 'mitten'")
        world.write(ended(output="kitten"))
        world.match()
        world.write(ended(output="mitten"))
        (late,) = world.worker.records.claim_entries(500)
        decided = Matcher(store=world.worker.records, cost_limit=CHEAP).decide(late)
        world.write(ended(output="bitten"))
        world.match()
        newest = world.scores()

        world.worker.records.record_match(decided)

        assert newest is not None
        assert world.scores() == newest
        assert len(world.score_spans()) == 1

    def test_a_late_match_of_older_content_supersedes_nothing_of_the_newer(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended())
        (late,) = world.worker.records.claim_entries(500)
        matcher = Matcher(store=world.worker.records, cost_limit=NOTHING_IS_CHEAP)
        decided = matcher.decide(late)
        world.write(ended(output="kitten"))
        world.match(NOTHING_IS_CHEAP)

        world.worker.records.record_match(decided)

        claims = world.worker.ledger.claim(HEAVY, 16)
        (runnable,) = (claim for claim in claims if isinstance(claim, RunnableClaim))
        assert runnable.assignment.subject.view["output"] == "kitten"

    def test_a_row_that_a_rule_no_longer_selects_loses_its_score_but_not_its_outcome(
        self, world: ScoringWorld
    ) -> None:
        world.rule(btql_filter="output = 'sitting'")
        world.write(ended())
        world.match()
        assert world.scores() is not None

        world.write(ended(output="kitten"))
        world.match()

        assert world.scores() is None
        assert world.score_spans() == []
        assert world.states() == ["completed"]

    def test_what_waits_for_content_that_changed_is_superseded_when_that_is_matched(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")

        world.write(ended(output="kitten"))
        world.match(NOTHING_IS_CHEAP)

        assert world.states() == ["pending", "superseded"]
        (claim,) = world.claim()
        assert claim.assignment.subject.view["output"] == "kitten"

    def test_what_waits_for_a_row_that_no_rule_selects_any_more_is_superseded(
        self, world: ScoringWorld
    ) -> None:
        world.rule(btql_filter="output = 'sitting'")
        world.defer("a")

        world.write(ended(output="kitten"))
        world.match(NOTHING_IS_CHEAP)

        assert world.states() == ["superseded"]
        assert world.claim() == []

    def test_an_outcome_keeps_the_verdict_that_it_got_first(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a")
        record(world.worker, *world.claim(), value=0.125)

        world.write({"id": "a", **RESELECT})
        world.match()   # the scorer runs again, and gives another score

        assert world.scores() == {"Levenshtein": 0.125}

    def test_a_row_that_is_matched_again_unchanged_keeps_its_outcome(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended())
        world.match()
        version = world.version("a")

        world.write({"id": "a", **RESELECT})
        world.match()

        assert world.states() == ["completed"]
        assert world.scores() is not None
        assert len(world.score_spans()) == 1
        assert world.version("a") > version

    def test_rows_of_one_match_get_one_version(self, world: ScoringWorld) -> None:
        world.rule()
        world.write(ended("a"), ended("b"))
        world.match()

        assert world.version("a") == world.version("b")


class ClaimBehaviours:
    """A subclass has a fixture `world` that gives a ScoringWorld."""

    def test_a_claim_counts_its_attempt_raises_the_fence_and_is_made_once(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")

        (claim,) = world.claim()

        assert (claim.attempts, claim.fence, claim.deaths) == (1, 1, 0)
        assert [(one.attempts, one.state) for one in world.outcomes()] == [(1, "pending")]
        assert world.claim() == []
        assert world.claim(worker=world.process()) == []

    def test_a_claim_is_of_one_queue_and_of_no_more_than_was_asked_for(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.rule("judged", "ContextRelevancy")
        world.defer("a", "b", "c")

        assert [one.queue for one in world.outcomes()].count(JUDGE) == 3
        assert len(world.claim(2)) == 2
        assert len(world.claim(2)) == 1
        assert rows_of(world.worker.ledger.claim(JUDGE, 16)) == {"a", "b", "c"}

    def test_what_has_waited_longest_is_claimed_first(self, world: ScoringWorld) -> None:
        world.rule()
        for row_id in ("b", "c", "a"):
            world.defer(row_id)

        assert [rows_of(world.claim(1)) for _ in range(3)] == [{"b"}, {"c"}, {"a"}]

    def test_live_outcomes_are_claimed_before_bulk_that_has_waited_longer(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer_bulk("bulk", "more")
        world.defer("live")

        assert rows_of(world.claim(1)) == {"live"}
        assert rows_of(world.claim(3)) == {"bulk", "more"}

    def test_live_outcomes_that_keep_coming_leave_bulk_one_claim_in_sixteen(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer_bulk("bulk")
        world.defer(*map(str, range(2 * BULK_TURN)))

        claimed = [rows_of(world.claim(1)) for _ in range(BULK_TURN)]

        assert claimed.count({"bulk"}) == 1

    def test_a_long_line_of_one_object_delays_another_by_no_more_than_one_claim(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer(*map(str, range(20)))
        world.write(*map(ended, "ab"), where=world.experiment())
        world.match(NOTHING_IS_CHEAP)

        first, second = world.claim(8), world.claim(8)

        assert rows_of(first) >= {"a", "b"}
        assert (len(first), len(second)) == (8, 8)

    def test_all_objects_that_wait_get_alike_many_claims(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer(*map(str, range(12)))
        for _ in range(2):
            world.write(*(ended(str(number)) for number in range(30)), where=world.experiment())
        world.match(NOTHING_IS_CHEAP)

        got = Counter(claim.lead.object for _ in range(6) for claim in world.claim(4))

        assert len(got) == 3
        assert set(got.values()) == {8}

    @pytest.mark.parametrize(
        ("columns", "names"),
        [
            (None, {"input", "output", "expected", "metadata", "tags"}),
            (frozenset({"output"}), {"output"}),
            (frozenset(), set()),
        ],
    )
    def test_a_claim_has_the_columns_that_its_scorer_reads(
        self, world: ScoringWorld, columns: frozenset[str] | None, names: set[str]
    ) -> None:
        world.rule()
        world.defer("a")

        (claim,) = world.worker.ledger.claim(
            HEAVY, 16, None if columns is None else lambda _: columns
        )

        assert isinstance(claim, RunnableClaim)
        view = claim.assignment.subject.view
        assert view.keys() - {
            "id", "span_id", "root_span_id", "is_root", "metrics", "span_attributes",
            "_async_scoring_state",
        } == names
        assert view.get("output", "sitting") == "sitting"

    def test_what_was_not_begun_is_given_back_for_others_to_claim_at_once(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a", "b")
        claims = world.claim()

        world.worker.ledger.give_back(claims[:1])

        (again,) = world.claim(worker=world.process())
        assert again.lead == claims[0].lead
        assert (again.attempts, again.fence, again.deaths) == (2, 2, 0)

    def test_a_claim_that_is_put_off_comes_back_later_and_counts_no_attempt(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        world.worker.ledger.put_off([
            PutOff(claim=claim, wait_s=60.0) for claim in world.claim()
        ])
        assert world.claim() == []

        world.let_pass(61.0)

        (claim,) = world.claim()
        assert (claim.attempts, claim.failing_s) == (1, 0.0)

    def test_a_claim_that_others_hold_by_now_cannot_be_given_back_or_postponed(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        (old,) = world.claim()
        world.worker.ledger.give_back([old])
        world.claim(worker=world.process())

        world.worker.ledger.give_back([old])
        world.worker.ledger.postpone([retry(old, wait_s=0)])

        assert world.claim() == []
        assert [one.error_class for one in world.outcomes()] == [None]

    def test_a_claim_is_tried_again_after_its_wait_and_not_before(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()

        world.worker.ledger.postpone([retry(claim, wait_s=100)])

        assert [(one.state, one.error_class) for one in world.outcomes()] == [
            ("pending", "timeout")
        ]
        world.let_pass(90)
        assert world.claim() == []
        world.let_pass(20)
        (again,) = world.claim()
        assert (again.attempts, again.fence, again.deaths) == (2, 2, 0)

    def test_an_error_with_any_text_is_recorded(self, world: ScoringWorld) -> None:
        odd = "half a smile \ud83d, a NUL \0, a tab\t, a line\n, a \\"
        world.rule()
        world.defer("a")
        (claim,) = world.claim()
        world.worker.ledger.postpone([replace(retry(claim, wait_s=0), message=odd)])
        (claim,) = world.claim()
        failure = Failure(error_class="scorer_failed", message=odd)
        verdict = Errored(failure=failure, started_at=1.5, run_ms=2.0)
        world.worker.ledger.record([(claim, execution_of(claim, verdict, HEAVY))])
        assert [(one.state, one.error_class) for one in world.outcomes()] == [
            ("errored", "scorer_failed")
        ]

    def test_a_verdict_is_recorded_once_and_shown(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()

        record(world.worker, claim, value=0.5)
        version = world.version("a")
        record(world.worker, claim, value=1.0)

        assert world.scores() == {"Levenshtein": 0.5}
        assert world.version("a") == version
        assert len(world.score_spans()) == 1
        assert [(one.state, one.attempts) for one in world.outcomes()] == [("completed", 1)]
        assert world.claim() == []

    def test_a_run_that_failed_in_the_end_is_recorded_with_its_error(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()

        record(world.worker, claim, value=None)

        assert world.scores() is None
        assert [(one.state, one.error_class) for one in world.outcomes()] == [
            ("errored", "timeout")
        ]

    def test_verdicts_under_a_lost_fence_are_dropped_and_the_others_are_kept(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a", "b")
        claims = {claim.lead.subject_id: claim for claim in world.claim()}
        world.worker.ledger.give_back([claims["a"]])
        other = world.process()
        (newer,) = world.claim(worker=other)

        record(world.worker, *claims.values(), value=0.0)

        assert (world.scores("a"), world.scores("b")) == (None, {"Levenshtein": 0.0})
        record(other, newer, value=1.0)
        assert world.scores("a") == {"Levenshtein": 1.0}

    def test_rows_that_are_recorded_together_get_one_version(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a", "b", "c")
        one, *others = world.claim()

        record(world.worker, one)
        record(world.worker, *others)

        together = {world.version(claim.lead.subject_id) for claim in others}
        assert len(together) == 1
        assert world.version(one.lead.subject_id) not in together

    def test_a_verdict_on_content_that_changed_meanwhile_is_not_shown(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()
        world.write(ended(output="kitten", _skip_async_scoring=True))

        record(world.worker, claim)

        assert world.scores() is None
        assert world.score_spans() == []
        assert world.states() == ["superseded"]

    def test_a_verdict_on_a_row_that_went_leaves_nothing(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()
        world.write({"id": "a", "_object_delete": True})

        record(world.worker, claim)

        assert world.outcomes() == []
        assert world.score_spans() == []

    @pytest.mark.parametrize(
        "change",
        [
            ended(output="kitten", _skip_async_scoring=True),
            {"id": "a", "_is_merge": True, "span_attributes": {"purpose": "scorer"}},
        ],
        ids=["content", "maker"],
    )
    def test_a_claim_with_nothing_to_run_is_stale_and_can_be_closed(
        self, world: ScoringWorld, change: JsonObject
    ) -> None:
        world.rule()
        world.rule("another")
        world.defer("a", "b")
        world.write(change)

        claims = world.worker.ledger.claim(HEAVY, 16)

        stale = [claim for claim in claims if isinstance(claim, StaleClaim)]
        assert [claim.lead.subject_id for claim in stale] == ["a"]
        assert len(claims) == 2
        world.worker.ledger.supersede(stale)
        assert world.states("a") == ["superseded", "superseded"]
        assert world.states("b") == ["pending", "pending"]
        world.worker.leases.release_own(HEAVY)
        assert rows_of(world.claim()) == {"b"}

    def test_rules_with_the_same_scorer_share_one_run_on_the_same_content(
        self, world: ScoringWorld
    ) -> None:
        world.rule("one")
        world.rule("two")
        world.defer("a")
        assert world.states() == ["pending", "pending"]

        (claim,) = world.claim()
        record(world.worker, claim)

        assert world.states() == ["completed", "completed"]
        assert len(world.score_spans()) == 2
        assert world.claim() == []

    def test_a_rule_that_joins_a_run_under_way_gets_its_result(
        self, world: ScoringWorld
    ) -> None:
        world.rule("first")
        world.defer("a")
        (claim,) = world.claim()
        world.rule("second")
        world.write({"id": "a", **RESELECT})
        world.match(NOTHING_IS_CHEAP)

        record(world.worker, claim)

        assert world.states() == ["completed", "completed"]
        assert world.claim() == []

    def test_a_live_outcome_that_joins_bulk_work_does_not_wait_for_it(
        self, world: ScoringWorld
    ) -> None:
        world.rule("one")
        world.defer_bulk("a", "b")
        world.rule("two")
        for row_id in "ab":
            world.write({"id": row_id, **RESELECT})
            if row_id == "b":
                world.hold_back("a")
                world.match(NOTHING_IS_CHEAP)

        live = world.claim(2)

        assert rows_of(live) == {"a", "b"}
        record(world.worker, *live)
        assert Counter(one.state for one in world.outcomes()) == {"completed": 4}
        assert world.claim() == []

    def test_a_live_outcome_that_joins_a_run_of_bulk_work_under_way_gets_its_result(
        self, world: ScoringWorld
    ) -> None:
        world.rule("one")
        world.defer_bulk("a")
        under_way = world.claim()
        world.rule("two")
        world.write({"id": "a", **RESELECT})
        world.match(NOTHING_IS_CHEAP)

        assert world.claim() == []
        record(world.worker, *under_way)

        assert world.states() == ["completed", "completed"]

    def test_what_waits_for_a_scorer_that_was_answered_already_is_claimed_by_itself(
        self, world: ScoringWorld
    ) -> None:
        world.rule("first")
        world.defer("a")
        record(world.worker, *world.claim())
        second = world.rule("second")
        world.write({"id": "a", **RESELECT})
        world.match(NOTHING_IS_CHEAP)
        assert world.states() == ["completed", "pending"]

        (claim,) = world.claim()
        assert claim.lead.origin == RuleOrigin(second)
        record(world.worker, claim)

        assert world.states() == ["completed", "completed"]

    def test_claims_of_dead_processes_come_back_in_smaller_batches_until_one_is_poisoned(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer(*(f"row {number}" for number in range(16)))
        sizes = []
        for deaths in range(3):
            doomed = world.process()
            claims = world.claim(16, doomed)
            assert {claim.deaths for claim in claims} == {deaths}
            sizes.append(len(claims))
            world.die(doomed)
            assert world.worker.leases.release_abandoned() == len(claims)
        assert sizes == [16, 4, 1]

        assert world.claim() == []   # the fourth claim of it poisons it

        poisoned = [one for one in world.outcomes() if one.state == "errored"]
        assert [(one.error_class, one.deaths) for one in poisoned] == [(POISONED, 3)]
        while claims := world.claim():
            record(world.worker, *claims)
        states = [one.state for one in world.outcomes()]
        assert (states.count("completed"), states.count("errored")) == (15, 1)

    def test_what_a_process_died_of_is_claimed_before_all_else_and_not_with_it(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("early")
        world.defer("late")
        doomed = world.process()
        first = world.claim(1, doomed)
        world.worker.ledger.postpone([retry(*world.claim(1), wait_s=0)])
        world.die(doomed)
        world.worker.leases.release_abandoned()

        assert rows_of(world.claim()) == rows_of(first)
        assert rows_of(world.claim()) == {"early", "late"} - rows_of(first)

    @pytest.mark.parametrize("deaths", [0, 1])
    def test_a_process_gives_up_what_it_holds_of_a_queue_as_released_or_as_deaths(
        self, world: ScoringWorld, deaths: int
    ) -> None:
        world.rule()
        world.defer("a")
        world.claim()
        world.process().leases.release_own(HEAVY)   # another's is not touched
        world.worker.leases.release_own(JUDGE)      # nor is another queue's
        assert world.claim() == []

        (world.worker.leases.blame_own if deaths else world.worker.leases.release_own)(HEAVY)

        (again,) = world.claim()
        assert (again.deaths, again.fence) == (deaths, 2)

    def test_a_lease_that_ran_out_ends_without_a_death_and_the_late_verdict_is_dropped(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        slow = world.process()
        (late,) = world.claim(worker=slow)
        world.let_pass(LEASE_S + 10)
        assert world.worker.leases.release_abandoned() == 1

        (claim,) = world.claim()
        record(slow, late, value=0.0)

        assert (claim.deaths, claim.fence) == (0, 2)
        assert world.states() == ["pending"]
        record(world.worker, claim, value=1.0)
        assert world.scores() == {"Levenshtein": 1.0}

    def test_a_renewed_lease_lasts_from_then_on(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()
        world.let_pass(LEASE_S - 10)

        world.worker.ledger.renew(HEAVY)

        world.let_pass(LEASE_S - 10)
        assert world.worker.leases.release_abandoned() == 0
        record(world.worker, claim)
        assert world.states() == ["completed"]

    def test_renewing_extends_no_lease_of_another_process_or_queue(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        world.claim()
        world.let_pass(LEASE_S - 10)

        world.worker.ledger.renew(JUDGE)
        world.process().ledger.renew(HEAVY)

        world.let_pass(20)
        assert world.worker.leases.release_abandoned() == 1

    def test_calls_without_claims_change_nothing(self, world: ScoringWorld) -> None:
        world.rule()
        world.defer("a")

        ledger = world.worker.ledger
        ledger.record([])
        ledger.postpone([])
        ledger.give_back([])
        ledger.supersede([])
        ledger.renew(HEAVY)

        assert world.states() == ["pending"]
        assert len(world.claim()) == 1


class VersionBehaviours:
    """Two versions of a scorer on one row. A subclass has a fixture `world`."""

    @pytest.fixture
    def mine(self, world: ScoringWorld) -> tuple[FunctionId, Xact]:
        """A function that a rule follows, with one row that waits for it."""
        function_id, version = world.push("mine")
        world.follow("rule", function_id)
        world.defer("a")
        return function_id, version

    def match_again(self, world: ScoringWorld) -> None:
        world.write({"id": "a", **RESELECT})
        world.match(NOTHING_IS_CHEAP)

    def test_a_row_that_is_matched_again_waits_for_the_version_in_force_alone(
        self, world: ScoringWorld, mine: tuple[FunctionId, Xact]
    ) -> None:
        _, newest = world.push("mine")

        self.match_again(world)

        assert world.by_version() == {str(mine[1]): "superseded", str(newest): "pending"}
        (claim,) = world.claim()
        assert claim.lead.scorer.version == str(newest)

    def test_a_version_that_runs_while_a_newer_one_scores_is_not_shown_over_it(
        self, world: ScoringWorld, mine: tuple[FunctionId, Xact]
    ) -> None:
        (older,) = world.claim()
        _, newest = world.push("mine")
        self.match_again(world)
        record(world.worker, *world.claim(), value=1.0)

        record(world.worker, older, value=0.0)

        assert world.scores() == {"Levenshtein": 1.0}
        assert world.by_version() == {str(mine[1]): "superseded", str(newest): "completed"}

    def test_a_newer_version_replaces_the_score_of_the_one_before(
        self, world: ScoringWorld, mine: tuple[FunctionId, Xact]
    ) -> None:
        record(world.worker, *world.claim(), value=0.0)
        world.push("mine")
        self.match_again(world)
        assert world.scores() == {"Levenshtein": 0.0}

        record(world.worker, *world.claim(), value=1.0)

        assert world.scores() == {"Levenshtein": 1.0}
        assert len(world.score_spans()) == 1
        assert set(world.by_version().values()) == {"completed"}

    def test_a_version_that_failed_takes_the_score_of_the_one_before_away(
        self, world: ScoringWorld, mine: tuple[FunctionId, Xact]
    ) -> None:
        record(world.worker, *world.claim(), value=0.0)
        world.push("mine")
        self.match_again(world)

        record(world.worker, *world.claim(), value=None)

        assert world.scores() is None

    @pytest.mark.parametrize("is_running", [False, True])
    def test_a_version_that_is_back_in_force_is_run_once_after_all(
        self, world: ScoringWorld, is_running: bool
    ) -> None:
        function_id, first = world.push("mine")
        world.rule_of("rule", [pinned(function_id, first)])
        world.defer("a")
        running = world.claim() if is_running else []
        _, second = world.push("mine")
        world.rule_of("rule", [pinned(function_id, second)])
        self.match_again(world)

        world.rule_of("rule", [pinned(function_id, first)])
        self.match_again(world)

        assert world.by_version() == {str(first): "pending", str(second): "superseded"}
        # Nobody has claimed it since, so a run under way is as good as a new one.
        record(world.worker, *(running or world.claim()), value=0.5)
        assert world.scores() == {"Levenshtein": 0.5}
        assert world.claim() == []

    def test_a_superseded_outcome_that_is_asked_for_again_starts_without_deaths(
        self, world: ScoringWorld
    ) -> None:
        function_id, first = world.push("mine")
        world.rule_of("rule", [pinned(function_id, first)])
        world.defer("a")
        doomed = world.process()
        world.claim(worker=doomed)
        world.die(doomed)
        assert world.worker.leases.release_abandoned() == 1
        _, second = world.push("mine")
        world.rule_of("rule", [pinned(function_id, second)])
        self.match_again(world)

        world.rule_of("rule", [pinned(function_id, first)])
        self.match_again(world)

        (one,) = (one for one in world.outcomes() if one.state == "pending")
        assert (one.version, one.deaths, one.attempts) == (str(first), 0, 0)
        (claim,) = world.claim()
        assert (claim.deaths, claim.attempts, claim.fence) == (0, 1, 2)

    def test_a_shadow_is_scored_but_not_shown_and_supersedes_nothing(
        self, world: ScoringWorld, mine: tuple[FunctionId, Xact]
    ) -> None:
        _, beside = world.push("mine", shadow=1.0)
        self.match_again(world)
        assert world.by_version() == {str(mine[1]): "pending"}
        assert world.by_version(Role.SHADOW) == {str(beside): "pending"}
        live, shadow = sorted(world.claim(), key=lambda claim: claim.lead.role)

        record(world.worker, shadow, value=0.25)
        assert world.scores() is None
        record(world.worker, live, value=0.75)

        assert world.scores() == {"Levenshtein": 0.75}
        assert len(world.score_spans()) == 1
        assert world.by_version(Role.SHADOW) == {str(beside): "completed"}

    def test_a_label_is_the_name_under_which_a_function_is_shown(
        self, world: ScoringWorld, mine: tuple[FunctionId, Xact]
    ) -> None:
        (claim,) = world.claim()

        assert claim.assignment.label == claim.assignment.shown_as == "mine"
        assert claim.lead.scorer.name == str(mine[0])


