"""Matching and scoring in memory: the outbox, the ledger, and what both write on rows.

    scoring = MemoryScoring(rows, projects, clock)     what the processes of a Tallyard share
    worker = scoring.process()                         one of them, with what it holds

Rows are written through `rows`, rules are set by `set_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import RLock
from uuid import UUID, uuid4

from fakes.memory.access import MemoryProjects
from fakes.memory.leases import Lease
from fakes.memory.logs import MemoryRows

from flows.scoring.claims import execution_of
from flows.scoring.match import Batch, MatchDecision
from rules.model import NamedFunction, Rule
from rules.named_functions import NamedFunctions
from rules.planning import plan
from rules.rule_set import RuleSet
from spans.clock import Clock
from spans.columns import API_COLUMNS, SCORER_ARGUMENTS
from spans.drafts import Draft
from spans.errors import Contended, StaleFence
from spans.ids import OutcomeId, ProjectId, Xact
from spans.json import JsonObject
from spans.outcome import (
    POISONED,
    Errored,
    Failure,
    OriginKind,
    OutcomeKey,
    Verdict,
    verdict_scores,
)
from spans.queues import Holds, queue_named
from spans.row import ObjectRef, Row, RowKey, RowView, is_made_by_scorer
from spans.score_span import score_span
from spans.scoring import OutcomeState, Role, ScorerRef
from spans.work import (
    DEATHS_MAX,
    Assignment,
    Claim,
    ColumnsOf,
    Deferred,
    Execution,
    OutboxEntry,
    OutcomeRequest,
    Retry,
    RunnableClaim,
    StaleClaim,
    Subject,
    batch_size,
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
    row_ids: tuple[str, ...]
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

    asked: OutcomeRequest
    queue: str
    label: str | None
    next_attempt_at: datetime
    created: datetime
    finished_at: datetime | None = None
    state: OutcomeState = OutcomeState.PENDING
    is_lead: bool = False
    verdict: Verdict | None = None
    failure: Failure | None = None

    @property
    def key(self) -> OutcomeKey:
        return self.asked.key

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
        self.score_spans: dict[UUID, Row] = {}
        self.at_end: dict[tuple[RowKey, Xact], RowView] = {}
        self._shown: dict[RowKey, dict[str, tuple[Slot, float]]] = {}
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
                    row_ids=tuple(draft.row.key.id for draft in drafts),
                    rescored=any(self._was_scored(draft.row.key) for draft in drafts),
                    created=self.clock(),
                ))
            for key, draft in changed.items():
                if not (draft.was_deleted or draft.has_stale_scores):
                    continue
                self._shown.pop(key, None)
                for outcome in self.outcomes_of(key):
                    self.score_spans.pop(outcome.key.score_span_id, None)
                    if draft.was_deleted:
                        del self.outcomes[outcome.key.id]

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
        return [outcome for outcome in self.outcomes.values() if outcome.subject_key == key]

    def subjects(
        self, where: ObjectRef, row_ids: Iterable[str], columns: Iterable[str]
    ) -> dict[str, Subject]:
        """The rows that are there, with these columns and those that are always read."""
        names = ALWAYS_READ | (API_COLUMNS.keys() & set(columns))
        found = {row_id: self.rows.find(RowKey(where, row_id)) for row_id in row_ids}
        return {
            row_id: replace(
                kept.subject, view={name: kept.view[name] for name in API_COLUMNS
                                    if name in names}
            )
            for row_id, kept in found.items() if kept is not None
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
        changed: set[RowKey] = set()
        for execution in executions:
            if not self.is_current(execution.assignment.subject):
                continue
            for asked in execution.assignment.asked:
                if asked.key.id in fresh and asked.key.role is Role.LIVE:
                    if self._show(asked.key, execution.verdict):
                        changed.add(execution.assignment.subject.key)
                    if not asked.skip_logging:
                        span = score_span(execution, asked)
                        self.score_spans[asked.key.score_span_id] = span
        self.write_computed(changed)

    def _settle(self, execution: Execution) -> Iterator[OutcomeId]:
        """The outcomes that had no verdict, and have this one now."""
        subject, verdict = execution.assignment.subject, execution.verdict
        if self.rows.find(subject.key) is None:
            return   # it was deleted meanwhile, with its outcomes
        is_current = self.is_current(subject)
        for asked in execution.assignment.asked:
            outcome = self.outcomes.get(asked.key.id)
            if outcome is None:
                outcome = self._new(asked, execution.queue, execution.assignment)
            elif not outcome.is_waiting:
                continue
            outcome.state = verdict.state if is_current else OutcomeState.SUPERSEDED
            outcome.verdict = verdict
            outcome.failure = verdict.failure if isinstance(verdict, Errored) else None
            outcome.attempts = execution.attempts
            outcome.finished_at = self.clock()
            outcome.release()
            yield asked.key.id

    def _defer(self, later: Deferred) -> None:
        if self.rows.find(later.assignment.subject.key) is None:
            return
        for asked in later.assignment.asked:
            outcome = self.outcomes.get(asked.key.id)
            if outcome is None:
                self._new(asked, later.queue, later.assignment)
            elif outcome.state is OutcomeState.SUPERSEDED:
                outcome.state, outcome.is_lead = OutcomeState.PENDING, False
                outcome.attempts, outcome.verdict, outcome.failure = 0, None, None

    def _new(self, asked: OutcomeRequest, queue: str, assignment: Assignment) -> Outcome:
        now = self.clock()
        outcome = self.outcomes[asked.key.id] = Outcome(
            asked=asked, queue=queue, label=assignment.label, next_attempt_at=now, created=now
        )
        return outcome

    def _supersede_other_versions(self, deferred: Iterable[Deferred]) -> None:
        wanted = [
            asked.key for later in deferred for asked in later.assignment.asked
            if asked.key.role is Role.LIVE and self.is_current(later.assignment.subject)
        ]
        slots = {_versioned_slot(key) for key in wanted}
        ids = {key.id for key in wanted}
        for outcome in self.outcomes.values():
            if (
                outcome.is_waiting and outcome.key.role is Role.LIVE
                and outcome.key.id not in ids and _versioned_slot(outcome.key) in slots
            ):
                outcome.supersede()

    def ensure_leads(self, keys: Iterable[RowKey]) -> None:
        """Makes one outcome the lead of each run that waits without one."""
        for key in keys:
            waiting = [outcome for outcome in self.outcomes_of(key) if outcome.is_waiting]
            led = {outcome.run for outcome in waiting if outcome.is_lead}
            for outcome in sorted(waiting, key=lambda each: each.key.id):
                if outcome.run not in led:
                    outcome.is_lead = True
                    led.add(outcome.run)

    def _show(self, key: OutcomeKey, verdict: Verdict) -> bool:
        """Replaces the scores of an origin and scorer on a row; whether there are any."""
        row, slot = RowKey(key.object, key.subject_id), _slot(key)
        fresh = {
            score.name: (slot, score.value) for score in verdict_scores(verdict)
            if score.value is not None
        }
        is_change = bool(fresh) or slot in self.slots(row)
        self.clear(row, slot)
        self._shown[row] |= fresh
        return is_change

    def clear(self, row: RowKey, slot: Slot) -> None:
        """Forgets the scores of an origin and scorer on a row."""
        shown = self._shown.get(row, {})
        self._shown[row] = {name: one for name, one in shown.items() if one[0] != slot}

    def slots(self, row: RowKey) -> set[Slot]:
        return {slot for slot, _ in self._shown.get(row, {}).values()}

    def write_computed(self, rows: Iterable[RowKey]) -> None:
        """Shows the scores of these rows, as one new version."""
        xact = None
        for row in rows:
            scores: JsonObject = {
                name: value for name, (_, value) in self._shown.get(row, {}).items()
            }
            xact = xact or self.rows.draw()
            self.rows.set_computed(row, scores or None, xact)


class MemoryRecords:
    """Implements flows.scoring.match.MatchStore for one process."""

    def __init__(self, shared: MemoryScoring, owner: str) -> None:
        self._shared = shared
        self._owner = owner

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
            taken = suspects[:1] or _of_about(rows_max, free)
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
        self, where: ObjectRef, row_ids: Sequence[str], columns: frozenset[str]
    ) -> Mapping[str, Subject]:
        with self._shared.transaction("subjects"):
            found = self._shared.subjects(where, row_ids, columns)
            for row_id, subject in found.items():
                kept = self._shared.at_end.get((subject.key, subject.trigger_xact or Xact(0)))
                if kept is not None:
                    found[row_id] = replace(subject, at_end={**subject.view, **kept})
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
            (one.key.subject_id, *_slot(one.key))
            for work in (*matched.executions, *matched.deferred)
            for one in work.assignment.asked
        }
        for subject in matched.rescored:
            kept = shared.rows.find(subject.key)
            if kept is None or kept.stored.trigger_xact != subject.trigger_xact:
                continue   # the entry of a later write decides on it
            of_rules = [
                outcome for outcome in shared.outcomes_of(subject.key)
                if outcome.key.origin.kind is OriginKind.RULE
            ]
            for outcome in of_rules:
                if outcome.is_waiting and outcome.key.subject_version < subject.content_xact:
                    outcome.supersede()
                if (subject.key.id, *_slot(outcome.key)) not in asked:
                    shared.score_spans.pop(outcome.key.score_span_id, None)
            gone = {
                slot for slot in shared.slots(subject.key)
                if (subject.key.id, *slot) not in asked
            }
            for slot in gone:
                shared.clear(subject.key, slot)
            if gone:
                shared.write_computed([subject.key])


class MemoryLedger:
    """Implements flows.scoring.claims.ClaimStore for one process."""

    def __init__(self, shared: MemoryScoring, owner: str) -> None:
        self._shared = shared
        self._owner = owner

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
            taken = alike[: batch_size(limit, min(deaths, DEATHS_MAX - 1))]
            for outcome in taken:
                outcome.claim(self._owner, now=now, lease_s=self._shared.lease_s)
            claims = [self._claimed(outcome, columns) for outcome in taken]
            poisoned = [
                claim for claim in claims
                if isinstance(claim, RunnableClaim) and claim.deaths >= DEATHS_MAX
            ]
            self._poison(queue, poisoned)
            return [claim for claim in claims if claim not in poisoned]

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
                    outcome.next_attempt_at = now + timedelta(seconds=retry.wait_s)
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
        subject = self._shared.subjects(key.object, [key.subject_id], names).get(key.subject_id)
        if (
            subject is None or subject.content_xact != key.subject_version
            or is_made_by_scorer(subject.view)
        ):
            return StaleClaim(lead=key)
        return RunnableClaim(
            lead=key, fence=outcome.fence, attempts=outcome.attempts, deaths=outcome.deaths,
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


def _of_about(rows_max: int, entries: Iterable[Entry]) -> list[Entry]:
    """The entries from the first on, until they have that many rows."""
    taken: list[Entry] = []
    size = 0
    for entry in entries:
        if size >= rows_max:
            break
        taken.append(entry)
        size += len(entry.row_ids)
    return taken


def _claimed(entry: Entry) -> OutboxEntry:
    return OutboxEntry(
        seq=entry.seq, fence=entry.fence, deaths=entry.deaths, xact=entry.xact,
        row_ids=entry.row_ids, rescored=entry.rescored, created=entry.created,
    )


def _slot(key: OutcomeKey) -> Slot:
    return str(key.origin.id), key.scorer.name


def _versioned_slot(key: OutcomeKey) -> tuple[RowKey, UUID, str, str]:
    """What only one version of a scorer may wait for."""
    return (
        RowKey(key.object, key.subject_id), key.origin.id, key.scorer.kind, key.scorer.name
    )
