"""Matching: decides for each row of an outbox entry which rules select it, and makes outcomes.

Cheap scorers run right here, and their scores are stored in the same transaction as the match
record. Scorers that ask a judge, run users' code or cost too much get a pending outcome, which
waits in its queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rules.named_functions import NamedFunctions
from rules.planning import PlannedRule
from rules.rule_set import RuleSet
from scorers import catalog
from scorers.functions.queue import queue_of_spec
from scorers.functions.version import FUNCTION
from scorers.heuristics.in_process import cost
from scorers.run.heuristic import failed_verdict, run_scorer, scoring_fields
from spans.errors import UserError
from spans.ids import ProjectId, RowSeq
from spans.outcome import Verdict
from spans.queues import HEAVY, MATCH
from spans.row import ObjectRef, is_finished
from spans.scoring import REASON_BYTES, Reason, ScorerRef
from spans.work import Assignment, Deferred, Execution, OutboxEntry, OutcomeRequest, Subject

ROWS_PER_CLAIM = 500
"""Rows that are claimed at once: enough to spread the fixed cost, few enough to repeat."""

DEATHS_WHILE_MATCHING = 1
"""How many workers may die of an entry before its cheap scorers move to the heavy queue."""

ENTRY_DEATHS_MAX = 5
"""How many workers may die of an entry before it is given up: deciding alone kills them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Claimed outbox entries of one object, and the revision of the rules to match them by."""

    where: ObjectRef
    revision: int
    entries: tuple[OutboxEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchDecision:
    """What matching decided for one batch, to be written in one transaction.

    `reasons` has one item for each entry, with a byte for each row and rule, row by row.
    `rescored` are rows that may hold scores of old content.
    """

    batch: Batch
    reasons: tuple[bytes, ...]
    executions: tuple[Execution, ...]
    deferred: tuple[Deferred, ...]
    rescored: tuple[Subject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCount:
    """How many rows were matched, and which queues got something to do."""

    rows: int
    queues: frozenset[str]


class MatchStore(Protocol):
    """Where matching gets entries, rules and rows, and records what it decided."""

    def claim_entries(self, rows_max: int) -> list[Batch]:
        """Claims entries that no process holds, oldest first.

        An entry that has killed a worker comes alone.
        """
        ...

    def rule_set(self, project_id: ProjectId, revision: int) -> RuleSet:
        """The project's rules at that revision."""
        ...

    def subjects(
        self, where: ObjectRef, row_seqs: Sequence[RowSeq], columns: frozenset[str]
    ) -> Mapping[RowSeq, Subject]:
        """The rows that exist and are not deleted."""
        ...

    def record_match(self, matched: MatchDecision) -> None:
        """Writes all of it, or nothing. Raises Contended if others hold part of it by now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """Matches outbox entries, and runs the scorers whose cost is at most `cost_limit`.

    The unit is that of `scorers.heuristics.in_process.cost`.
    """

    store: MatchStore
    cost_limit: float

    def match_some(self) -> MatchCount:
        """Matches waiting entries of up to about ROWS_PER_CLAIM rows.

        Safe to repeat: there is one outcome for each key, and the fence of the entries refuses
        a second record of the same match.
        """
        rows = 0
        queues: set[str] = set()
        for batch in self.store.claim_entries(ROWS_PER_CLAIM):
            matched = self.decide(batch)
            self.store.record_match(matched)
            rows += sum(len(entry.row_seqs) for entry in batch.entries)
            queues.update(later.queue for later in matched.deferred)
        return MatchCount(rows=rows, queues=frozenset(queues))

    def decide(self, batch: Batch) -> MatchDecision:
        """Decides on every row of the batch, and runs the cheap scorers. Writes nothing."""
        rule_set = self.store.rule_set(batch.where.project_id, batch.revision)
        if any(entry.deaths >= ENTRY_DEATHS_MAX for entry in batch.entries):
            return _given_up(batch, rule_set)
        seqs = [seq for entry in batch.entries for seq in entry.row_seqs]
        subjects = self.store.subjects(batch.where, seqs, rule_set.columns)
        reasons: list[bytes] = []
        requests: dict[RowSeq, tuple[OutcomeRequest, ...]] = {}
        for entry in batch.entries:
            codes = bytearray()
            for seq in entry.row_seqs:
                subject = subjects.get(seq)
                for planned in rule_set.rules:
                    reason = _reason(planned, subject, entry)
                    codes += REASON_BYTES[reason]
                    if reason is Reason.SELECTED and subject is not None:
                        asked = rule_set.requests[planned.rule.id].on_trace(
                            subject.root_span_id
                        )
                        requests[seq] = requests.get(seq, ()) + asked
            reasons.append(bytes(codes))
        executions, deferred = self._run(batch, subjects, requests, rule_set.functions)
        return MatchDecision(
            batch=batch, reasons=tuple(reasons), executions=executions, deferred=deferred,
            rescored=_rescored(batch, subjects),
        )

    def _run(
        self,
        batch: Batch,
        subjects: Mapping[RowSeq, Subject],
        requests: Mapping[RowSeq, tuple[OutcomeRequest, ...]],
        functions: NamedFunctions,
    ) -> tuple[tuple[Execution, ...], tuple[Deferred, ...]]:
        executions: list[Execution] = []
        deferred: list[Deferred] = []
        # An entry that has killed a worker comes alone. If it kills another, its rows go to the
        # heavy queue, which runs them in smaller batches until the one that kills is found.
        is_suspect = {
            seq
            for entry in batch.entries if entry.deaths > DEATHS_WHILE_MATCHING
            for seq in entry.row_seqs
        }
        for seq, scorer, asked in _by_scorer(requests):
            assignment = Assignment(
                subject=subjects[seq], scorer=scorer, asked=asked,
                label=functions.label(scorer),
            )
            done, queue = self._now_or_later(
                assignment, functions, suspect=seq in is_suspect
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
        except UserError as error:
            return failed_verdict(error), MATCH
        return now_or_later(assignment, cost_limit=self.cost_limit, suspect=suspect)


def now_or_later(
    assignment: Assignment, *, cost_limit: float, suspect: bool
) -> tuple[Verdict | None, str]:
    """Runs an autoevals scorer if it is cheap: its verdict, or None and the queue that runs it.

    `suspect`: the row may kill its worker, so that nothing runs here. The unit of `cost_limit`
    is that of `scorers.heuristics.in_process.cost`.
    """
    try:
        spec = catalog.at_version(assignment.scorer)
    except UserError as error:
        return failed_verdict(error), MATCH
    queue = queue_of_spec(spec)
    if queue != HEAVY:
        return None, queue
    fields = scoring_fields(assignment.subject)
    if suspect or cost(spec, fields) > cost_limit:
        return None, HEAVY
    return run_scorer(spec, fields), MATCH


def _given_up(batch: Batch, rule_set: RuleSet) -> MatchDecision:
    """The decision POISONED for every row and rule of an entry that has killed its workers.

    Such an entry comes alone (see MatchStore.claim_entries), so no other is given up with it.
    """
    code = REASON_BYTES[Reason.POISONED]
    return MatchDecision(
        batch=batch,
        reasons=tuple(code * (len(e.row_seqs) * len(rule_set.rules)) for e in batch.entries),
        executions=(), deferred=(), rescored=(),
    )


def _by_scorer(
    requests: Mapping[RowSeq, tuple[OutcomeRequest, ...]],
) -> Iterator[tuple[RowSeq, ScorerRef, tuple[OutcomeRequest, ...]]]:
    """The requests on each row, those of one scorer together, since it runs once for them all.

    Each request comes once: a batch may name a row twice.
    """
    for seq, asked in requests.items():
        if len(asked) == 1:
            yield seq, asked[0].use.scorer, asked
            continue
        together: dict[ScorerRef, dict[OutcomeRequest, None]] = {}
        for one in asked:
            together.setdefault(one.use.scorer, {})[one] = None
        for scorer, ones in together.items():
            yield seq, scorer, tuple(ones)


def _reason(planned: PlannedRule, subject: Subject | None, entry: OutboxEntry) -> Reason:
    if subject is None:
        return Reason.DELETED
    if subject.trigger_xact is not None and subject.trigger_xact > entry.xact:
        return Reason.SUPERSEDED   # the row is matched by the entry of that later write
    row = subject.at_end or subject.view
    if not is_finished(row):
        return Reason.NOT_FINISHED
    return planned.decide(row)


def _rescored(batch: Batch, subjects: Mapping[RowSeq, Subject]) -> tuple[Subject, ...]:
    """Rows that may hold scores, or pending outcomes, of content that they no longer have."""
    return tuple(
        subjects[seq]
        for entry in batch.entries if entry.rescored
        for seq in entry.row_seqs
        if seq in subjects and subjects[seq].trigger_xact == entry.xact
    )
