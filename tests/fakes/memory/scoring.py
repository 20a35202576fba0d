"""Matching and scoring in memory: the outbox, the ledger, and what both write on rows.

    scoring = MemoryScoring(rows, projects, clock)     what the processes of a Tallyard share
    worker = scoring.process()                         one of them, with what it holds

Rows are written through `rows`, rules are set by `set_rules`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import RLock
from uuid import UUID, uuid4

from fakes.memory.access import MemoryProjects
from fakes.memory.leases import Lease
from fakes.memory.logs import MemoryRows
from fakes.memory.score_span import key_of, score_span, score_span_scores
from fakes.memory.turns import FairTurns

from flows.scoring.claims import execution_of
from flows.scoring.match import Batch, MatchDecision
from rules.model import NamedFunction, Rule
from rules.named_functions import NamedFunctions
from rules.planning import plan
from rules.rule_set import RuleSet
from spans.clock import Clock
from spans.columns import API_COLUMNS, SCORER_ARGUMENTS
from spans.drafts import Draft
from spans.errors import BudgetSpent, Contended, StaleFence
from spans.ids import OutcomeId, ProjectId, RowSeq, Xact
from spans.json import JsonObject
from spans.outcome import (
    POISONED,
    Errored,
    Failure,
    OriginKind,
    OutcomeKey,
    ScorerUse,
    Verdict,
    verdict_scores,
)
from spans.queues import (
    HELD_BY_BUDGET,
    HELD_BY_JOB,
    Holds,
    budget_queue,
    held_queue,
    queue_named,
)
from spans.row import ObjectRef, RowKey, RowView, is_made_by_scorer
from spans.scoring import OutcomeState, Role, ScorerRef
from spans.work import (
    DEATHS_MAX,
    Assignment,
    BudgetHold,
    Claim,
    ColumnsOf,
    Deferred,
    Execution,
    Hold,
    OutboxEntry,
    OutcomeRequest,
    Priority,
    PutOff,
    Retry,
    RunnableClaim,
    StaleClaim,
    Subject,
    batch_size,
    claim_order,
)

ALWAYS_READ = {name for name, column in API_COLUMNS.items() if column.is_always_read}
KEPT_AT_END = {name for name, column in API_COLUMNS.items() if column.is_kept_at_end}

Slot = tuple[str, str]
"""(origin id, scorer name): a row shows the scores of only one outcome for each slot."""


@dataclass(slots=True, kw_only=True)
class Entry(Lease):
    """An outbox entry, and, once it is matched, its match record."""

    seq: int
    where: ObjectRef
    xact: Xact
    row_seqs: tuple[RowSeq, ...]
    rescored: bool
    created: datetime
    reasons: bytes | None = None
    rules_revision: int | None = None
    matched_at: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        return self.reasons is None


@dataclass(slots=True, kw_only=True)
class Outcome(Lease):
    """An outcome of the ledger. `verdict` is that of its run, and `failure` its last error."""

    key: OutcomeKey
    asked: OutcomeRequest
    subject_seq: RowSeq
    queue: str
    priority: Priority
    label: str | None
    next_attempt_at: datetime
    created: datetime
    finished_at: datetime | None = None
    failing_since: datetime | None = None
    state: OutcomeState = OutcomeState.PENDING
    is_lead: bool = False
    verdict: Verdict | None = None
    failure: Failure | None = None

    @property
    def subject_key(self) -> RowKey:
        return RowKey(self.key.object, self.key.subject_id)

    @property
    def is_waiting(self) -> bool:
        return self.state is OutcomeState.PENDING

    @property
    def run(self) -> tuple[RowKey, Xact, ScorerRef]:
        """What it shares a run by."""
        return self.subject_key, self.key.subject_version, self.key.scorer

    def supersede(self) -> None:
        self.state = OutcomeState.SUPERSEDED
        self.release()


@dataclass(frozen=True, slots=True)
class Computed:
    """A score that a row shows, which use of a scorer computed it, and of which content."""

    use: ScorerUse
    value: float
    version: Xact

    @property
    def slot(self) -> Slot:
        return _slot(self.use)


@dataclass(frozen=True, slots=True)
class MemoryWorker:
    """One process: what it claims is its own until it dies."""

    owner: str
    records: MemoryRecords
    ledger: MemoryLedger
    leases: MemoryLeases


class MemoryScoring:
    """What all processes share. Each method of a process is one transaction."""

    def __init__(
        self, rows: MemoryRows, projects: MemoryProjects, clock: Clock, *, lease_s: float = 60.0
    ) -> None:
        self.rows = rows
        self.projects = projects
        self.clock = clock
        self.lease_s = lease_s
        self.living: set[str] = set()
        self.entries: list[Entry] = []
        self.outcomes: dict[OutcomeId, Outcome] = {}
        self._by_row: defaultdict[RowKey, set[OutcomeId]] = defaultdict(set)
        self.score_spans: dict[RowKey, Outcome] = {}
        self.at_end: dict[tuple[RowKey, Xact], RowView] = {}
        self._shown: dict[RowKey, dict[str, Computed]] = {}
        self.replaced: dict[tuple[RowKey, int, str], Computed] = {}
        self._rule_sets: dict[ProjectId, list[RuleSet]] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._lock = RLock()
        rows.watchers.append(self._rows_change)

    def process(self) -> MemoryWorker:
        """A process that lives until `die` is called with its owner's name."""
        owner = uuid4().hex
        self.living.add(owner)
        return MemoryWorker(
            owner=owner, records=MemoryRecords(self, owner), ledger=MemoryLedger(self, owner),
            leases=MemoryLeases(self, owner),
        )

    def die(self, worker: MemoryWorker) -> None:
        """Ends a process; what it held is free once some other releases it."""
        self.living.discard(worker.owner)

    def fail(self, method: str, *errors: Exception) -> None:
        """Has the next calls of a method raise these, one each, and do nothing."""
        self._failures.setdefault(method, []).extend(errors)

    @contextmanager
    def transaction(self, method: str) -> Iterator[None]:
        with self._lock:
            if self._failures.get(method):
                raise self._failures[method].pop(0)
            yield

    # --- rules

    def set_rules(
        self, project_id: ProjectId, rules: Iterable[Rule],
        functions: Iterable[NamedFunction] = (),
    ) -> int:
        """Makes a new revision of the project's rules, and returns its number."""
        with self._lock:
            sets = self._sets(project_id)
            sets.append(RuleSet(
                revision=len(sets), rules=plan(rules, clock=self.clock),
                functions=NamedFunctions(list(functions)),
            ))
            return len(sets) - 1

    def revision(self, project_id: ProjectId) -> int:
        return len(self._sets(project_id)) - 1

    def rule_set(self, project_id: ProjectId, revision: int) -> RuleSet:
        return self._sets(project_id)[revision]

    def _sets(self, project_id: ProjectId) -> list[RuleSet]:
        nothing = RuleSet(revision=0, rules=(), functions=NamedFunctions([]))
        return self._rule_sets.setdefault(project_id, [nothing])

    # --- rows

    def _rows_change(self, changed: Mapping[RowKey, Draft]) -> None:
        """What else a write of rows does, before the rows themselves change."""
        with self._lock:
            entries: dict[tuple[ObjectRef, Xact], list[Draft]] = {}
            for key, draft in changed.items():
                before = draft.stored.trigger_xact if draft.stored else None
                if draft.trigger_xact is not None and draft.trigger_xact != before:
                    entries.setdefault((key.object, draft.trigger_xact), []).append(draft)
                elif draft.trigger_xact is not None:
                    self._keep_at_end(key, draft.trigger_xact)
            for (where, xact), drafts in entries.items():
                self.entries.append(Entry(
                    seq=len(self.entries) + 1, where=where, xact=xact,
                    row_seqs=tuple(self.rows.place(draft.row.key) for draft in drafts),
                    rescored=any(self._was_scored(draft.row.key) for draft in drafts),
                    created=self.clock(),
                ))
            for key, draft in changed.items():
                if not (draft.was_deleted or draft.has_stale_scores):
                    continue
                self._shown.pop(key, None)
                self.remove_score_spans(key)
                if draft.was_deleted:
                    for outcome in self.outcomes_of(key):
                        del self.outcomes[outcome.key.id]
                    for one in [one for one in self.replaced if one[0] == key]:
                        del self.replaced[one]

    def _keep_at_end(self, key: RowKey, xact: Xact) -> None:
        kept = self.rows.find(key)
        if kept is not None and any(
            entry.xact == xact and entry.where == key.object and entry.is_waiting
            for entry in self.entries
        ):
            view = {name: value for name, value in kept.view.items() if name in KEPT_AT_END}
            self.at_end.setdefault((key, xact), view)

    def _was_scored(self, key: RowKey) -> bool:
        return bool(self._shown.get(key) or self.outcomes_of(key))

    def outcomes_of(self, key: RowKey) -> list[Outcome]:
        return [
            self.outcomes[one] for one in self._by_row.get(key, ()) if one in self.outcomes
        ]

    def score_spans_of(self, key: RowKey) -> dict[RowKey, Outcome]:
        """The score spans of the row's outcomes, also those that a client wrote over."""
        return {
            span: outcome for span, outcome in self.score_spans.items()
            if outcome.subject_key == key
        }

    def remove_score_spans(
        self, key: RowKey, of: Callable[[ScorerUse], bool] = lambda _: True
    ) -> None:
        """Forgets the score spans of a row, or those of the uses that `of` names."""
        for span, outcome in self.score_spans_of(key).items():
            if of(outcome.key.use):
                del self.score_spans[span]
                self.rows.remove(span)

    def subjects(
        self, where: ObjectRef, row_seqs: Iterable[RowSeq], columns: Iterable[str]
    ) -> dict[RowSeq, Subject]:
        """The rows that are there, with these columns and those that are always read."""
        names = ALWAYS_READ | (API_COLUMNS.keys() & set(columns))
        found = {seq: self.rows.find_at(where, seq) for seq in row_seqs}
        return {
            seq: replace(
                kept.subject, view={name: kept.view[name] for name in API_COLUMNS
                                    if name in names}
            )
            for seq, kept in found.items() if kept is not None
        }

    def is_current(self, subject: Subject) -> bool:
        kept = self.rows.find(subject.key)
        return kept is not None and kept.stored.content_xact == subject.content_xact

    # --- outcomes

    def record(self, executions: Sequence[Execution], deferred: Sequence[Deferred]) -> None:
        """Writes outcomes, and shows the scores of those that got their verdict by that."""
        fresh = {
            outcome_id for execution in executions for outcome_id in self._settle(execution)
        }
        for later in deferred:
            self._defer(later)
        self._supersede_other_versions(deferred)
        self.ensure_leads({later.assignment.subject.key for later in deferred})
        shown = [
            (execution, asked) for execution in executions
            for asked in sorted(
                execution.assignment.asked, key=lambda one: one.use.origin.generation
            )
            if self.is_current(execution.assignment.subject) and asked.use.role is Role.LIVE
            and key_of(execution.assignment, asked).id in fresh
        ]
        rows = [
            execution.assignment.subject.key for execution, asked in shown
            if self._show(execution, asked)
        ]
        spans = [one for one in shown if not one[1].skip_logging]
        if rows or spans:
            xact = self.rows.draw()
            for execution, asked in spans:
                self._put_score_span(execution, asked, xact)
            self.write_computed(rows, xact)

    def _settle(self, execution: Execution) -> Iterator[OutcomeId]:
        """The outcomes that had no verdict, and have this one now."""
        assignment, verdict = execution.assignment, execution.verdict
        if self.rows.find(assignment.subject.key) is None:
            return   # it was deleted meanwhile, with its outcomes
        is_current = self.is_current(assignment.subject)
        for asked in assignment.asked:
            outcome = self._outcome(assignment, asked)
            if outcome is None:
                outcome = self._new(assignment, asked, execution.queue)
            elif not outcome.is_waiting:
                continue
            outcome.state = verdict.state if is_current else OutcomeState.SUPERSEDED
            outcome.verdict = verdict
            outcome.failure = verdict.failure if isinstance(verdict, Errored) else None
            outcome.attempts = execution.attempts
            outcome.finished_at = self.clock()
            outcome.release()
            yield outcome.key.id

    def _put_score_span(self, execution: Execution, asked: OutcomeRequest, xact: Xact) -> None:
        row, origin = score_span(execution, asked), asked.use.origin
        outcome = self._outcome(execution.assignment, asked)
        assert outcome is not None
        self.score_spans[row.key] = outcome
        self.rows.put_score_span(
            row, score_span_scores(execution.verdict), of=outcome.subject_key,
            created_by=f"{origin.kind} {origin.id}", xact=xact,
        )

    def _defer(self, later: Deferred) -> None:
        if self.rows.find(later.assignment.subject.key) is None:
            return
        is_current = self.is_current(later.assignment.subject)
        for asked in later.assignment.asked:
            outcome = self._outcome(later.assignment, asked)
            if not is_current:
                outcome = outcome or self._new(
                    later.assignment, asked, later.queue, later.priority
                )
                if outcome.is_waiting:
                    outcome.supersede()
            elif outcome is None:
                self._new(later.assignment, asked, later.queue, later.priority)
            elif outcome.state is OutcomeState.SUPERSEDED:
                outcome.state, outcome.is_lead = OutcomeState.PENDING, False
                outcome.attempts, outcome.deaths, outcome.failing_since = 0, 0, None
                outcome.verdict, outcome.failure = None, None
                outcome.priority, outcome.next_attempt_at = later.priority, self.clock()

    def _outcome(self, assignment: Assignment, asked: OutcomeRequest) -> Outcome | None:
        return self.outcomes.get(key_of(assignment, asked).id)

    def _new(
        self, assignment: Assignment, asked: OutcomeRequest, queue: str,
        priority: Priority = Priority.LIVE,
    ) -> Outcome:
        now, key = self.clock(), key_of(assignment, asked)
        self._by_row[assignment.subject.key].add(key.id)
        outcome = self.outcomes[key.id] = Outcome(
            key=key, asked=asked, subject_seq=assignment.subject.seq, queue=queue,
            priority=priority, label=assignment.label, next_attempt_at=now, created=now,
        )
        self.rows.mark_scored(assignment.subject.key)
        return outcome

    def _supersede_other_versions(self, deferred: Iterable[Deferred]) -> None:
        wanted = [
            key_of(later.assignment, asked)
            for later in deferred for asked in later.assignment.asked
            if asked.use.role is Role.LIVE and self.is_current(later.assignment.subject)
        ]
        slots = {_versioned_slot(key) for key in wanted}
        ids = {key.id for key in wanted}
        rows = {RowKey(key.object, key.subject_id) for key in wanted}
        for outcome in (one for row in rows for one in self.outcomes_of(row)):
            if (
                outcome.is_waiting and outcome.key.role is Role.LIVE
                and outcome.key.id not in ids and _versioned_slot(outcome.key) in slots
            ):
                outcome.supersede()

    def ensure_leads(self, keys: Iterable[RowKey]) -> None:
        """Makes one outcome the lead of each run that waits: what a worker runs, else what
        nobody holds back and is live, else the present lead."""
        for key in keys:
            runs: defaultdict[tuple[RowKey, Xact, ScorerRef], list[Outcome]] = defaultdict(list)
            for outcome in self.outcomes_of(key):
                if outcome.is_waiting:
                    runs[outcome.run].append(outcome)
            for alike in runs.values():
                lead = min(alike, key=lambda one: (
                    one.owner is None, one.queue.startswith((HELD_BY_JOB, HELD_BY_BUDGET)),
                    one.priority, not one.is_lead, one.key.id,
                ))
                for outcome in alike:
                    outcome.is_lead = outcome is lead

    def _show(self, execution: Execution, asked: OutcomeRequest) -> bool:
        """Replaces earlier scores on a row by those of the verdict; whether that changed them.

        Those of a newer generation on the row's present content stay.
        """
        subject, use, verdict = execution.assignment.subject, asked.use, execution.verdict
        present = self._shown.setdefault(subject.key, {})
        before = dict(present)
        is_job = use.origin.kind is OriginKind.RESCORE
        if is_job and present and isinstance(verdict, Errored):
            return False

        def stays(name: str) -> bool:
            one = before.get(name)
            return (
                one is not None and one.use.origin.generation > use.origin.generation
                and one.version == subject.content_xact
            )

        alike = [
            name for name, one in before.items()
            if (one.use.scorer.kind, one.use.scorer.name) == (use.scorer.kind, use.scorer.name)
        ]
        if any(map(stays, alike)):
            return False
        for name in alike:
            if is_job or before[name].use.origin.id == use.origin.id:
                del present[name]
        for score in verdict_scores(verdict):
            if score.value is not None and not stays(score.name):
                present[score.name] = Computed(use, score.value, subject.content_xact)
        if is_job:
            self._keep_replaced(subject, use, before)
        return present != before

    def _keep_replaced(
        self, subject: Subject, use: ScorerUse, before: Mapping[str, Computed]
    ) -> None:
        present, job_no = self._shown[subject.key], use.origin.generation
        for name, one in before.items():
            if (
                present.get(name) != one and one.version == subject.content_xact
                and one.use.origin.id != use.origin.id
            ):
                self.replaced.setdefault((subject.key, job_no, name), one)

    def clear(self, row: RowKey, slot: Slot) -> None:
        """Forgets the scores of an origin and scorer on a row."""
        shown = self._shown.get(row, {})
        self._shown[row] = {name: one for name, one in shown.items() if one.slot != slot}

    def uses(self, row: RowKey) -> set[ScorerUse]:
        return {one.use for one in self._shown.get(row, {}).values()}

    def slots(self, row: RowKey) -> set[Slot]:
        return {_slot(use) for use in self.uses(row)}

    def write_computed(self, rows: Iterable[RowKey], xact: Xact) -> None:
        """Shows the scores of these rows, as version `xact`."""
        for row in rows:
            scores: JsonObject = {
                name: one.value for name, one in self._shown.get(row, {}).items()
            }
            self.rows.set_computed(row, scores or None, xact)


class MemoryRecords:
    """Implements flows.scoring.match.MatchStore for one process."""

    def __init__(self, shared: MemoryScoring, owner: str) -> None:
        self._shared = shared
        self._owner = owner
        self._turns = FairTurns()

    def claim_entries(self, rows_max: int) -> list[Batch]:
        shared = self._shared
        with shared.transaction("claim_entries"):
            now = shared.clock()
            free = [
                entry for entry in shared.entries
                if entry.is_waiting and (entry.owner is None or entry.has_run_out(now))
                and shared.projects.is_present(entry.where.project_id)
            ]
            suspects = [entry for entry in free if entry.deaths]
            taken = suspects[:1] or self._turns.take(
                free, rows_max,
                where=lambda entry: entry.where, size=lambda entry: len(entry.row_seqs),
            )
            for entry in taken:
                entry.claim(self._owner, now=now, lease_s=shared.lease_s)
            by_object: dict[ObjectRef, list[OutboxEntry]] = {}
            for entry in taken:
                by_object.setdefault(entry.where, []).append(_claimed(entry))
            return [
                Batch(where=where, revision=shared.revision(where.project_id),
                      entries=tuple(entries))
                for where, entries in by_object.items()
            ]

    def rule_set(self, project_id: ProjectId, revision: int) -> RuleSet:
        with self._shared.transaction("rule_set"):
            return self._shared.rule_set(project_id, revision)

    def subjects(
        self, where: ObjectRef, row_seqs: Sequence[RowSeq], columns: frozenset[str]
    ) -> Mapping[RowSeq, Subject]:
        with self._shared.transaction("subjects"):
            found = self._shared.subjects(where, row_seqs, columns)
            for seq, subject in found.items():
                kept = self._shared.at_end.get((subject.key, subject.trigger_xact or Xact(0)))
                if kept is not None:
                    found[seq] = replace(subject, at_end={**subject.view, **kept})
            return found

    def record_match(self, matched: MatchDecision) -> None:
        shared, batch = self._shared, matched.batch
        with shared.transaction("record_match"):
            project_id = batch.where.project_id
            if not (
                shared.projects.is_present(project_id)
                and shared.revision(project_id) == batch.revision
            ):
                raise Contended("the project's rules have changed: send this again")
            entries = [shared.entries[claimed.seq - 1] for claimed in batch.entries]
            if any(
                entry.fence != claimed.fence or not entry.is_waiting
                for entry, claimed in zip(entries, batch.entries, strict=True)
            ):
                raise StaleFence("the entries were taken over by another worker")
            for entry, reasons in zip(entries, matched.reasons, strict=True):
                entry.reasons, entry.rules_revision = reasons, batch.revision
                entry.matched_at = shared.clock()
                entry.release()
            xacts = {entry.xact for entry in entries}
            for key, xact in list(shared.at_end):
                if key.object.project_id == project_id and xact in xacts:
                    del shared.at_end[key, xact]
            self._withdraw(matched)
            shared.record(matched.executions, matched.deferred)

    def _withdraw(self, matched: MatchDecision) -> None:
        """Undoes the scoring of rows whose content changed, as far as no rule asks for it."""
        shared = self._shared
        asked = {
            (work.assignment.subject.key, *_slot(one.use))
            for work in (*matched.executions, *matched.deferred)
            for one in work.assignment.asked
        }
        for subject in matched.rescored:
            kept = shared.rows.find(subject.key)
            if kept is None or kept.stored.trigger_xact != subject.trigger_xact:
                continue   # the entry of a later write decides on it
            key = subject.key
            for outcome in shared.outcomes_of(key):
                if (
                    outcome.is_waiting and outcome.key.subject_version < subject.content_xact
                    and outcome.key.origin.kind is OriginKind.RULE
                ):
                    outcome.supersede()
            present = {
                outcome.key.use for outcome in shared.outcomes_of(key)
                if outcome.key.subject_version == subject.content_xact
            }

            def is_gone(
                use: ScorerUse, key: RowKey = key, present: set[ScorerUse] = present
            ) -> bool:
                is_kept = use.origin.kind is not OriginKind.RULE and use in present
                return not is_kept and (key, *_slot(use)) not in asked

            shared.remove_score_spans(key, is_gone)
            gone = {_slot(use) for use in shared.uses(key) if is_gone(use)}
            for slot in gone:
                shared.clear(key, slot)
            if gone:
                shared.write_computed([key], shared.rows.draw())


class MemoryLedger:
    """Implements flows.scoring.claims.ClaimStore for one process."""

    def __init__(self, shared: MemoryScoring, owner: str) -> None:
        self._shared = shared
        self._owner = owner
        self._claims: Counter[str] = Counter()
        self._turns: defaultdict[tuple[str, Priority], FairTurns] = defaultdict(FairTurns)

    def claim(
        self, queue: str, limit: int, columns: ColumnsOf | None = None
    ) -> list[Claim]:
        with self._shared.transaction("claim"):
            now = self._shared.clock()
            due = [
                outcome for outcome in self._shared.outcomes.values()
                if outcome.queue == queue and outcome.is_waiting and outcome.is_lead
                and outcome.owner is None and outcome.next_attempt_at <= now
            ]
            deaths = max((outcome.deaths for outcome in due), default=0)
            alike = sorted(
                (outcome for outcome in due if outcome.deaths == deaths),
                key=lambda outcome: outcome.next_attempt_at,
            )
            self._claims[queue] += 1
            if deaths:
                taken = alike[: batch_size(limit, min(deaths, DEATHS_MAX - 1))]
            else:
                taken = self._in_turn(queue, alike, limit)
            for outcome in taken:
                outcome.claim(self._owner, now=now, lease_s=self._shared.lease_s)
            claims = [self._claimed(outcome, columns) for outcome in taken]
            poisoned = [
                claim for claim in claims
                if isinstance(claim, RunnableClaim) and claim.deaths >= DEATHS_MAX
            ]
            self._poison(queue, poisoned)
            return [claim for claim in claims if claim not in poisoned]

    def _in_turn(self, queue: str, due: Iterable[Outcome], limit: int) -> list[Outcome]:
        taken: list[Outcome] = []
        for priority in claim_order(self._claims[queue]):
            taken += self._turns[queue, priority].take(
                (outcome for outcome in due if outcome.priority is priority),
                limit - len(taken), where=lambda outcome: outcome.key.object,
            )
        return taken

    def record(self, executions: Sequence[tuple[RunnableClaim, Execution]]) -> None:
        with self._shared.transaction("record"):
            self._record(executions)

    def postpone(self, retries: Sequence[Retry]) -> None:
        with self._shared.transaction("postpone"):
            now = self._shared.clock()
            for retry in retries:
                if (outcome := self._held(retry.claim)) is not None:
                    outcome.failure = Failure(
                        error_class=retry.error_class, message=retry.message
                    )
                    outcome.failing_since = outcome.failing_since or now
                    outcome.next_attempt_at = now + timedelta(seconds=retry.wait_s)
                    outcome.release()

    def hold(self, holds: Sequence[Hold]) -> None:
        with self._shared.transaction("hold"):
            now = self._shared.clock()
            for hold in holds:
                if (outcome := self._held(hold.claim)) is not None:
                    outcome.queue = held_queue(hold.endpoint)
                    outcome.attempts -= 1
                    outcome.failing_since = outcome.failing_since or now
                    outcome.next_attempt_at = now + timedelta(seconds=hold.wait_s)
                    outcome.release()

    def hold_for_budget(self, holds: Sequence[BudgetHold]) -> None:
        with self._shared.transaction("hold_for_budget"):
            now = self._shared.clock()
            for hold in holds:
                if (outcome := self._held(hold.claim)) is not None:
                    outcome.queue = budget_queue(
                        hold.budget_no, is_live=outcome.priority is Priority.LIVE,
                        queue=outcome.queue,
                    )
                    outcome.failure = Failure(
                        error_class=BudgetSpent.error_class(), message=hold.reason
                    )
                    outcome.attempts -= 1
                    outcome.failing_since, outcome.next_attempt_at = None, now
                    outcome.release()
            self._shared.ensure_leads({hold.claim.assignment.subject.key for hold in holds})

    def put_off(self, later: Sequence[PutOff]) -> None:
        with self._shared.transaction("put_off"):
            now = self._shared.clock()
            for one in later:
                if (outcome := self._held(one.claim)) is not None:
                    outcome.attempts -= 1
                    outcome.next_attempt_at = now + timedelta(seconds=one.wait_s)
                    outcome.release()

    def give_back(self, claims: Sequence[RunnableClaim]) -> None:
        with self._shared.transaction("give_back"):
            for claim in claims:
                if (outcome := self._held(claim)) is not None:
                    outcome.release()

    def supersede(self, claims: Sequence[StaleClaim]) -> None:
        with self._shared.transaction("supersede"):
            for claim in claims:
                lead = claim.lead
                for outcome in self._shared.outcomes_of(RowKey(lead.object, lead.subject_id)):
                    if outcome.is_waiting and (
                        outcome.key.subject_version == lead.subject_version
                    ):
                        outcome.supersede()

    def renew(self, queue: str) -> None:
        with self._shared.transaction("renew"):
            now = self._shared.clock()
            for outcome in self._shared.outcomes.values():
                if (outcome.queue, outcome.owner) == (queue, self._owner):
                    outcome.renew(now=now, lease_s=self._shared.lease_s)

    def _claimed(self, outcome: Outcome, columns: ColumnsOf | None) -> Claim:
        key = outcome.key
        names = SCORER_ARGUMENTS if columns is None else columns(key.scorer)
        seq = outcome.subject_seq
        subject = self._shared.subjects(key.object, [seq], names).get(seq)
        if (
            subject is None or subject.content_xact != key.subject_version
            or is_made_by_scorer(subject.view)
        ):
            return StaleClaim(lead=key, subject_seq=seq)
        now = self._shared.clock()
        return RunnableClaim(
            lead=key, fence=outcome.fence, attempts=outcome.attempts, deaths=outcome.deaths,
            last_failure=outcome.failure,
            failing_s=(now - (outcome.failing_since or now)).total_seconds(),
            assignment=Assignment(
                subject=subject, scorer=key.scorer, asked=(outcome.asked,), label=outcome.label
            ),
        )

    def _poison(self, queue: str, claims: Iterable[RunnableClaim]) -> None:
        failure = Failure(error_class=POISONED, message=f"{DEATHS_MAX} workers died of this")
        verdict = Errored(
            failure=failure, started_at=self._shared.clock().timestamp(), run_ms=0.0
        )
        self._record([(claim, execution_of(claim, verdict, queue)) for claim in claims])

    def _record(self, executions: Iterable[tuple[RunnableClaim, Execution]]) -> None:
        kept: list[Execution] = []
        for claim, execution in executions:
            if (lead := self._held(claim)) is None:
                continue
            followers = [
                outcome.asked for outcome in self._shared.outcomes_of(lead.subject_key)
                if outcome.is_waiting and not outcome.is_lead and outcome.run == lead.run
            ]
            assignment = execution.assignment
            kept.append(replace(execution, assignment=replace(
                assignment, asked=(*assignment.asked, *followers)
            )))
        self._shared.record(kept, ())

    def _held(self, claim: RunnableClaim) -> Outcome | None:
        """The claim's outcome, if it is still as this claim left it."""
        outcome = self._shared.outcomes.get(claim.lead.id)
        if outcome is None or not outcome.is_waiting or outcome.fence != claim.fence:
            return None
        return outcome


class MemoryLeases:
    """Ends leases, as store.postgres.leases.Leases does for the processes of one database."""

    def __init__(self, shared: MemoryScoring, owner: str) -> None:
        self._shared = shared
        self._owner = owner

    def release_abandoned(self) -> int:
        """Ends the leases of processes that are gone, and outcomes' leases that ran out."""
        with self._shared.transaction("release_abandoned"):
            now = self._shared.clock()
            ended = 0
            for lease in (*self._shared.entries, *self._shared.outcomes.values()):
                if lease.owner is None or not lease.is_waiting:
                    continue
                is_dead = lease.owner not in self._shared.living
                if is_dead or (isinstance(lease, Outcome) and lease.has_run_out(now)):
                    lease.release(died=is_dead)
                    ended += 1
            return ended

    def release_own(self, queue: str) -> None:
        with self._shared.transaction("release_own"):
            for lease in self._own(queue):
                lease.release()

    def blame_own(self, queue: str) -> None:
        with self._shared.transaction("blame_own"):
            for lease in self._own(queue):
                lease.release(died=True)

    def _own(self, queue: str) -> list[Lease]:
        held: list[Lease] = []
        if queue_named(queue).holds is Holds.ENTRIES:
            held += self._shared.entries
        else:
            held += [each for each in self._shared.outcomes.values() if each.queue == queue]
        return [lease for lease in held if lease.owner == self._owner]


def _claimed(entry: Entry) -> OutboxEntry:
    return OutboxEntry(
        seq=entry.seq, fence=entry.fence, deaths=entry.deaths, xact=entry.xact,
        row_seqs=entry.row_seqs, rescored=entry.rescored, created=entry.created,
    )


def _slot(use: ScorerUse) -> Slot:
    return str(use.origin.id), use.scorer.name


def _versioned_slot(key: OutcomeKey) -> tuple[RowKey, UUID, str, str]:
    """What only one version of a scorer may wait for."""
    return (
        RowKey(key.object, key.subject_id), key.origin.id, key.scorer.kind, key.scorer.name
    )
