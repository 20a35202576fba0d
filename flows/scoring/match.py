"""Matching: outbox entries -> which rules select which rows -> outcomes.

Cheap scorers run right here, and their scores are in the same transaction as the match
record. What is judged by an LLM, or costs too much, becomes a pending outcome for its queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rules.named_functions import NamedFunctions
from rules.outcome_requests import outcome_requests
from rules.planning import PlannedRule
from rules.rule_set import RuleSet
from scorers import catalog
from scorers.functions.queue import queue_of_spec
from scorers.functions.version import FUNCTION
from scorers.heuristics.in_process import cost
from scorers.running.in_process import failed_verdict, run_scorer, scoring_fields
from spans.errors import UserError
from spans.ids import OutcomeId, ProjectId
from spans.outcome import Verdict
from spans.queues import HEAVY, MATCH
from spans.row import ObjectRef, is_finished
from spans.scoring import REASON_BYTES, Reason, ScorerRef
from spans.work import Assignment, Deferred, Execution, OutboxEntry, OutcomeRequest, Subject

ROWS_PER_CLAIM = 500
"""Rows that one transaction matches: enough to spread its fixed cost, few enough to repeat."""

DEATHS_WHILE_MATCHING = 1
"""Workers that an entry may cost while its cheap scorers are run right here."""

DEATHS_MAX = 5
"""Workers that an entry may cost at all: one whose rows kill whoever decides ends here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Claimed entries of one object."""

    where: ObjectRef
    revision: int
    entries: tuple[OutboxEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchDecision:
    """What matching decided for one batch, ready to be written in one transaction.

    `reasons` holds, by entry, one byte for each row and rule, row by row.
    """

    batch: Batch
    reasons: tuple[bytes, ...]
    executions: tuple[Execution, ...]
    deferred: tuple[Deferred, ...]
    rescored: tuple[Subject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCount:
    """How many rows were matched, and the queues that something was left for."""

    rows: int
    queues: frozenset[str]


class MatchStore(Protocol):
    """What matching needs of stored data."""

    def claim_entries(self, rows_max: int) -> list[Batch]:
        """Entries that nobody holds, oldest first, now held by this process.

        One that has cost a worker comes alone.
        """
        ...

    def rule_set(self, project_id: ProjectId, revision: int) -> RuleSet: ...

    def subjects(
        self, where: ObjectRef, row_ids: Sequence[str], columns: frozenset[str]
    ) -> Mapping[str, Subject]:
        """The rows that are there and not deleted, by id."""
        ...

    def record_match(self, matched: MatchDecision) -> None:
        """Write it all, or nothing. Raises Contended if others hold some of it by now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """Decides and runs; `cost_limit` is in the unit of `scorers.heuristics.in_process.cost`."""

    store: MatchStore
    cost_limit: float

    def match_some(self) -> MatchCount:
        """Match what waits, up to about ROWS_PER_CLAIM rows.

        Safe to repeat: outcomes are unique by their key, and the entries' fence refuses a
        second record of the same match.
        """
        rows = 0
        queues: set[str] = set()
        for batch in self.store.claim_entries(ROWS_PER_CLAIM):
            matched = self.decide(batch)
            self.store.record_match(matched)
            rows += sum(len(entry.row_ids) for entry in batch.entries)
            queues.update(later.queue for later in matched.deferred)
        return MatchCount(rows=rows, queues=frozenset(queues))

    def decide(self, batch: Batch) -> MatchDecision:
        """Decide on every row of the batch, and run the cheap scorers."""
        rule_set = self.store.rule_set(batch.where.project_id, batch.revision)
        if any(entry.deaths >= DEATHS_MAX for entry in batch.entries):
            return _given_up(batch, rule_set)
        ids = [row_id for entry in batch.entries for row_id in entry.row_ids]
        subjects = self.store.subjects(batch.where, ids, rule_set.columns)
        reasons: list[bytes] = []
        assignments: dict[tuple[str, ScorerRef], list[OutcomeRequest]] = {}
        for entry in batch.entries:
            codes = bytearray()
            for row_id in entry.row_ids:
                subject = subjects.get(row_id)
                for planned in rule_set.rules:
                    reason = _reason(planned, subject, entry)
                    codes += REASON_BYTES[reason]
                    if reason is Reason.SELECTED and subject is not None:
                        for asked in outcome_requests(
                            planned, subject, rule_set.functions, rule_set.revision
                        ):
                            assignments.setdefault(
                                (row_id, asked.key.scorer), []
                            ).append(asked)
            reasons.append(bytes(codes))
        executions, deferred = self._run(batch, subjects, assignments, rule_set.functions)
        return MatchDecision(
            batch=batch, reasons=tuple(reasons), executions=executions, deferred=deferred,
            rescored=_rescored(batch, subjects),
        )

    def _run(
        self,
        batch: Batch,
        subjects: Mapping[str, Subject],
        assignments: Mapping[tuple[str, ScorerRef], Sequence[OutcomeRequest]],
        functions: NamedFunctions,
    ) -> tuple[tuple[Execution, ...], tuple[Deferred, ...]]:
        executions: list[Execution] = []
        deferred: list[Deferred] = []
        # An entry that has cost a worker comes alone; should it cost another, its rows go to
        # the heavy queue, which takes a suspicious batch apart, row by row.
        is_suspect = {
            row_id
            for entry in batch.entries if entry.deaths > DEATHS_WHILE_MATCHING
            for row_id in entry.row_ids
        }
        for (row_id, scorer), asked in assignments.items():
            subject = subjects[row_id]
            assignment = Assignment(
                subject=subject, scorer=scorer, asked=_once_each(asked),
                label=functions.label(scorer),
            )
            done, queue = self._now_or_later(
                assignment, functions, suspect=row_id in is_suspect
            )
            if done is not None:
                executions.append(
                    Execution(assignment=assignment, verdict=done, queue=MATCH, attempts=1)
                )
            else:
                deferred.append(Deferred(assignment=assignment, queue=queue))
        return tuple(executions), tuple(deferred)

    def _now_or_later(
        self, assignment: Assignment, functions: NamedFunctions, *, suspect: bool
    ) -> tuple[Verdict | None, str]:
        try:
            if assignment.scorer.kind == FUNCTION:
                return None, functions.queue(assignment.scorer)
            spec = catalog.at_version(assignment.scorer)
        except UserError as error:
            return failed_verdict(error), MATCH
        queue = queue_of_spec(spec)
        if queue != HEAVY:
            return None, queue
        fields = scoring_fields(assignment.subject)
        if suspect or cost(spec, fields) > self.cost_limit:
            return None, HEAVY
        return run_scorer(spec, fields), MATCH


def _given_up(batch: Batch, rule_set: RuleSet) -> MatchDecision:
    """A record that says of every row and rule that matching it kills. Such an entry comes
    alone (see MatchStore.claim_entries)."""
    code = REASON_BYTES[Reason.POISONED]
    return MatchDecision(
        batch=batch,
        reasons=tuple(code * (len(e.row_ids) * len(rule_set.rules)) for e in batch.entries),
        executions=(), deferred=(), rescored=(),
    )


def _once_each(asked: Sequence[OutcomeRequest]) -> tuple[OutcomeRequest, ...]:
    """A rule may name a scorer twice, and a row come up twice: one outcome all the same."""
    if len(asked) == 1:
        return tuple(asked)
    by_id: dict[OutcomeId, OutcomeRequest] = {one.key.id: one for one in asked}
    return tuple(by_id.values())


def _reason(planned: PlannedRule, subject: Subject | None, entry: OutboxEntry) -> Reason:
    if subject is None:
        return Reason.DELETED
    if subject.trigger_xact is not None and subject.trigger_xact > entry.xact:
        return Reason.SUPERSEDED   # the entry of that later write decides
    row = subject.at_end or subject.view
    if not is_finished(row):
        return Reason.NOT_FINISHED
    return planned.decide(row)


def _rescored(batch: Batch, subjects: Mapping[str, Subject]) -> tuple[Subject, ...]:
    """Rows that may hold scores, or wait for some, of other content than they have now."""
    return tuple(
        subjects[row_id]
        for entry in batch.entries if entry.rescored
        for row_id in entry.row_ids
        if row_id in subjects and subjects[row_id].trigger_xact == entry.xact
    )
