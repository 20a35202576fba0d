"""Outcomes in memory, as people see them: asked for, explained, counted, run again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from fakes.memory.functions import MemoryFunctions
from fakes.memory.logs import KeptRow, MemoryRows
from fakes.memory.rules import MemoryRules
from fakes.memory.scoring import Entry, MemoryScoring, Outcome

from flows.outcomes.explain import (
    CANDIDATES_MAX,
    Candidate,
    MatchRecord,
    OutcomeView,
    RejectedPart,
)
from flows.outcomes.retry import ErrorSummary, RetryRequest
from flows.scoring.claims import execution_of
from flows.scoring.match import Matcher
from rules.rule_set import RuleSet
from rules.wire import ProjectScore
from scorers.functions.function import Function
from scorers.functions.queue import queue_of_global
from scorers.functions.version import FUNCTION
from spans.errors import NotFound
from spans.ids import OrgId, ProjectId, RowSeq, RuleId, Xact, parse_uuid
from spans.outcome import Errored, OriginKind, Verdict
from spans.queues import SANDBOX, queues_of_outcomes
from spans.scoring import OutcomeState
from spans.work import Priority, RunnableClaim, Subject

CLAIMS = 100
"""Outcomes that `settle` ends at once."""


class MemoryOutcomes:
    """Implements RecentRowStore, OutcomeStore and ExplainStore of `flows`.

    `refusal` says why no sandbox worker can run code, if that is so.
    """

    def __init__(
        self, scoring: MemoryScoring, functions: MemoryFunctions, rules: MemoryRules
    ) -> None:
        self._scoring = scoring
        self._functions = functions
        self._rules = rules
        self.refusal: str | None = None
        rules.deleted.append(self._rule_deleted)
        functions.deleted.append(self._function_deleted)

    @property
    def _rows(self) -> MemoryRows:
        return self._scoring.rows

    def _rule_deleted(self, rule: ProjectScore) -> None:
        self._supersede([
            one for one in self._scoring.outcomes.values() if one.key.origin.id == rule.id
        ])

    def _function_deleted(self, function: Function) -> None:
        self._supersede([
            one for one in self._scoring.outcomes.values()
            if one.key.scorer.kind == FUNCTION and one.key.scorer.name == str(function.id)
        ])

    def _supersede(self, outcomes: list[Outcome]) -> None:
        waiting = [one for one in outcomes if one.is_waiting]
        for one in waiting:
            one.supersede()
        self._scoring.ensure_leads({one.subject_key for one in waiting})

    # --- what workers do

    def match(self) -> None:
        """Decides on every row that waits. No scorer runs: each has a queue to wait in."""
        for project_id in self._scoring.projects.projects:
            self.current_rules(project_id)
        matcher = Matcher(store=self._scoring.process().records, cost_limit=-1)
        while matcher.match_some().rows:
            pass

    def settle(self, verdict: Verdict) -> None:
        """Ends every outcome that is due in this way, as a worker would."""
        ledger = self._scoring.process().ledger
        for queue in queues_of_outcomes():
            for claim in ledger.claim(queue, CLAIMS):
                if isinstance(claim, RunnableClaim):
                    ledger.record([(claim, execution_of(claim, verdict, queue))])
                else:
                    ledger.supersede([claim])

    # --- flows.outcomes.retry.OutcomeStore

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        chosen = [
            (one, queue) for one in self._errored(project_id)
            if (queue := self._queue(one)) is not None and self._may_be_shown(one)
            and request.error_class in {None, _error_class(one)}
            and request.rule_id in {None, one.key.origin.id}
            and self._is_recent(one, request.since)
        ]
        for one, queue in chosen:
            one.state, one.queue, one.is_lead = OutcomeState.PENDING, queue, False
            one.attempts, one.deaths, one.priority = 0, 0, Priority.BULK
            one.next_attempt_at, one.finished_at = self._scoring.clock(), None
            one.release()
        self._scoring.ensure_leads({one.subject_key for one, _ in chosen})
        return len(chosen)

    def _may_be_shown(self, one: Outcome) -> bool:
        row = self._rows.find(one.subject_key)
        is_current = row is not None and row.stored.content_xact == one.key.subject_version
        is_followed = any(
            other.key.scorer.version != one.key.scorer.version
            and (other.key.subject_version, other.key.origin, other.key.role)
            == (one.key.subject_version, one.key.origin, one.key.role)
            and other.key.scorer.name == one.key.scorer.name
            and other.state is not OutcomeState.SUPERSEDED and other.created > one.created
            for other in self._scoring.outcomes_of(one.subject_key)
        )
        return is_current and self._rule_name(one) is not None and not is_followed

    def _queue(self, one: Outcome) -> str | None:
        scorer = one.key.scorer
        if scorer.kind != FUNCTION:
            return queue_of_global(scorer.name)
        found = self._functions.whether_deleted(
            parse_uuid(scorer.name), Xact(int(scorer.version))
        )
        return None if found is None or found[1] else found[0].body.queue

    def _is_recent(self, one: Outcome, since: timedelta | None) -> bool:
        return since is None or (
            one.finished_at is not None and one.finished_at > self._scoring.clock() - since
        )

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]:
        kinds: dict[tuple[object, ...], list[Outcome]] = {}
        for one in self._errored(project_id):
            kind = (one.key.origin, one.key.scorer.name, one.key.role, _error_class(one))
            kinds.setdefault(kind, []).append(one)
        found = [self._summary(of_kind) for of_kind in kinds.values()]
        return sorted(found, key=lambda summary: -summary.count)

    def _summary(self, of_kind: list[Outcome]) -> ErrorSummary:
        last = max(of_kind, key=lambda one: one.finished_at or one.created)
        kind, origin_id = last.key.origin.kind, str(last.key.origin.id)
        return ErrorSummary(
            rule_id=origin_id if kind is OriginKind.RULE else None,
            rule_name=self._rule_name(last),
            rescore_job_id=origin_id if kind is OriginKind.RESCORE else None,
            scorer=last.label or last.key.scorer.name, role=last.key.role.value,
            error_class=_error_class(last) or "", count=len(of_kind),
            last_message="" if last.failure is None else last.failure.message,
            last_at=(last.finished_at or last.created).isoformat(),
        )

    def _errored(self, project_id: ProjectId) -> list[Outcome]:
        return [
            one for one in self._scoring.outcomes.values()
            if one.key.object.project_id == project_id and one.state is OutcomeState.ERRORED
        ]

    def _rule_name(self, one: Outcome) -> str | None:
        if one.key.origin.kind is not OriginKind.RULE:
            return None
        project = self._scoring.projects.projects[one.key.object.project_id]
        rule = self._rules.find_rule(project.org_id, RuleId(one.key.origin.id))
        return None if rule is None else rule.name

    # --- flows.outcomes.explain.ExplainStore

    def candidates(
        self, org_id: OrgId, project_id: ProjectId | None, text: str
    ) -> list[Candidate]:
        found = [
            kept for kept in self._rows.named(org_id, text)
            if project_id in {None, kept.key.object.project_id}
        ]
        newest_first = sorted(found, key=lambda kept: -kept.seq)
        return [self._candidate(kept) for kept in newest_first[:CANDIDATES_MAX]]

    def _candidate(self, kept: KeptRow) -> Candidate:
        view, project_id = kept.view, kept.key.object.project_id
        attributes = view["span_attributes"]
        name = attributes.get("name") if isinstance(attributes, dict) else None
        return Candidate(
            project_id=str(project_id),
            project_name=self._scoring.projects.projects[project_id].name,
            id=kept.key.id, span_id=str(view["span_id"]),
            name=None if name is None else str(name),
        )

    def subject(self, candidate: Candidate) -> Subject:
        for kept in self._rows.present():
            key = kept.key
            if (str(key.object.project_id), key.id) == (candidate.project_id, candidate.id):
                return kept.subject
        raise NotFound(f"the span {candidate.id!r} has just been deleted")

    def match_record(self, subject: Subject) -> MatchRecord | None:
        entry = next(
            (
                entry for entry in self._scoring.entries
                if entry.where == subject.key.object and entry.xact == subject.trigger_xact
                and subject.seq in entry.row_seqs
            ),
            None,
        )
        return None if entry is None else self._record(entry, subject.seq)

    def _record(self, entry: Entry, seq: RowSeq) -> MatchRecord:
        rule_set, reasons = None, b""
        if entry.reasons is not None and entry.rules_revision is not None:
            rule_set = self._scoring.rule_set(entry.where.project_id, entry.rules_revision)
            start = entry.row_seqs.index(seq) * len(rule_set.rules)
            reasons = entry.reasons[start : start + len(rule_set.rules)]
        return MatchRecord(
            created=entry.created, matched_at=entry.matched_at, attempts=entry.attempts,
            rule_set=rule_set, reasons=reasons,
        )

    def outcomes(self, subject: Subject) -> list[OutcomeView]:
        own = self._scoring.outcomes_of(subject.key)
        leads = {(one.run, one.state): one for one in own if one.is_lead}
        return [
            self._view(one, leads.get((one.run, one.state), one)) for one in
            sorted(own, key=lambda one: (one.key.subject_version, one.created), reverse=True)
        ]

    def current_rules(self, project_id: ProjectId) -> RuleSet:
        """The project's rules as they are now; a new revision if they have changed."""
        revision = self._rules.put_in_force(self._scoring, project_id)
        return self._scoring.rule_set(project_id, revision)

    def rejected_parts(
        self, org_id: OrgId, project_id: ProjectId | None, ids: Sequence[str], *,
        or_of_none: bool = False,
    ) -> list[RejectedPart]:
        return self._rows.rejected_parts(org_id, project_id, ids, or_of_none=or_of_none)

    def _view(self, one: Outcome, run: Outcome) -> OutcomeView:
        verdict, failure = one.verdict, run.failure
        result = (
            None if verdict is None or isinstance(verdict, Errored) else verdict.result
        )
        usage = None if result is None else result.usage
        is_waiting = one.is_waiting and one.queue == SANDBOX
        return OutcomeView(
            id=str(one.key.id), origin=one.key.origin, role=one.key.role,
            scorer=one.key.scorer.name, label=one.label,
            scorer_version=one.key.scorer.version, subject_version=one.key.subject_version,
            state=one.state, error_class=failure and failure.error_class,
            error_message=failure and failure.message,
            scores=None if result is None else [
                {"name": score.name, "score": score.value, "metadata": score.metadata}
                for score in result.scores
            ],
            attempts=run.attempts, next_attempt_at=run.next_attempt_at,
            failing_since=run.failing_since,
            is_running=run.owner is not None, created=one.created,
            finished_at=one.finished_at, run_ms=None if verdict is None else verdict.run_ms,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            completion_tokens=None if usage is None else usage.completion_tokens,
            cached_tokens=None if usage is None else usage.cached_tokens,
            cost=None if usage is None else usage.cost,
            model=None if usage is None else usage.model,
            is_cached=usage is not None and usage.is_cached,
            log=None if verdict is None else verdict.log,
            hindrance=self.refusal if is_waiting else None,
        )


def _error_class(one: Outcome) -> str | None:
    return None if one.failure is None else one.failure.error_class
