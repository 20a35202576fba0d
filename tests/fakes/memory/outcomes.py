"""Outcomes in memory, as people see them: asked for, ended, explained, counted, run again.

There are no workers: `match` decides on the rows that wait, and `settle` ends what is pending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fakes.memory.access import MemoryProjects
from fakes.memory.functions import MemoryFunctions
from fakes.memory.logs import KeptRow, MemoryRows
from fakes.memory.rules import MemoryRules

from flows.outcomes.explain import CANDIDATES_MAX, Candidate, MatchRecord, OutcomeView
from flows.outcomes.retry import ErrorSummary, RetryRequest
from rules.named_functions import NamedFunctions
from rules.outcome_requests import outcome_requests, queue_of
from rules.rule_set import RuleSet
from rules.wire import ProjectScore
from scorers.functions.queue import queue_of_global
from scorers.functions.version import FUNCTION
from spans.clock import Clock
from spans.errors import Contended, NotFound
from spans.ids import OrgId, OutcomeId, ProjectId, Xact, parse_uuid
from spans.outcome import Errored, OriginKind, OutcomeKey, Verdict, verdict_scores
from spans.queues import SANDBOX
from spans.row import ObjectRef, RowKey
from spans.scoring import REASON_BYTES, OutcomeState, Reason, Role
from spans.work import Assignment, Deferred, Subject


@dataclass(frozen=True, kw_only=True)
class KeptOutcome:
    """An outcome; `verdict` is that of its last run."""

    key: OutcomeKey
    queue: str
    label: str | None
    created: datetime
    state: OutcomeState = OutcomeState.PENDING
    verdict: Verdict | None = None
    attempts: int = 0
    next_attempt_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def error_class(self) -> str | None:
        failed = isinstance(self.verdict, Errored)
        return self.verdict.failure.error_class if failed else None


class MemoryOutcomes:
    """Implements RecentRowStore, OutcomeStore and ExplainStore of `flows`.

    `refusal` says why no sandbox worker can run code, if that is so.
    """

    def __init__(
        self, projects: MemoryProjects, rows: MemoryRows, functions: MemoryFunctions,
        rules: MemoryRules, clock: Clock,
    ) -> None:
        self._projects = projects
        self._rows = rows
        self._functions = functions
        self._rules = rules
        self._clock = clock
        self._kept: dict[OutcomeId, KeptOutcome] = {}
        self._records: dict[tuple[RowKey, Xact], MatchRecord] = {}
        self.refusal: str | None = None
        rules.deleted.append(self._rule_deleted)

    # --- flows.rules.score_recent.RecentRowStore

    def functions(self, score: ProjectScore) -> tuple[NamedFunctions, int]:
        rule_set = self._rules.rule_set(score.project_id)
        return rule_set.functions, rule_set.revision

    def recent(self, where: ObjectRef, columns: frozenset[str]) -> Iterator[list[Subject]]:
        return self._rows.recent(where)

    def defer(
        self, project_id: ProjectId, revision: int, deferred: list[Deferred]
    ) -> int:
        if not self._projects.is_present(project_id) or (
            revision != self._rules.revision(project_id)
        ):
            raise Contended("the project's rules have changed: send this again")
        return sum(self._defer(later) for later in deferred)

    def _defer(self, later: Deferred) -> int:
        fresh = 0
        row = self._rows.find(later.assignment.subject.key)
        for asked in later.assignment.asked if row is not None else ():
            known = self._kept.get(asked.key.id)
            if known is None or known.state is OutcomeState.SUPERSEDED:
                created = self._clock() if known is None else known.created
                self._kept[asked.key.id] = KeptOutcome(
                    key=asked.key, queue=later.queue, label=later.assignment.label,
                    created=created, next_attempt_at=created,
                )
                fresh += 1
            if row is not None and row.stored.content_xact == asked.key.subject_version:
                self._supersede_other_versions(asked.key)
        return fresh

    def _supersede_other_versions(self, wanted: OutcomeKey) -> None:
        if wanted.role is not Role.LIVE:
            return
        for outcome_id, one in self._kept.items():
            same = replace(
                wanted, scorer=one.key.scorer, subject_version=one.key.subject_version
            )
            if (
                one.key == same and one.key.scorer.name == wanted.scorer.name
                and one.key != wanted and one.state is OutcomeState.PENDING
            ):
                self._kept[outcome_id] = self._superseded(one)

    def _superseded(self, one: KeptOutcome) -> KeptOutcome:
        return replace(one, state=OutcomeState.SUPERSEDED, finished_at=self._clock())

    def _rule_deleted(self, rule: ProjectScore) -> None:
        for outcome_id, one in self._kept.items():
            if one.key.origin.id == rule.id and one.state is OutcomeState.PENDING:
                self._kept[outcome_id] = self._superseded(one)

    # --- what workers do

    def match(self) -> None:
        """Decides on every row that waits. Scorers do not run: their outcomes are pending."""
        for kept in self._rows.present():
            subject = kept.subject
            is_matched = self._record_key(subject) in self._records
            if subject.trigger_xact is None or is_matched:
                continue
            rule_set = self._rules.rule_set(subject.key.object.project_id)
            reasons = [planned.decide(subject.view) for planned in rule_set.rules]
            self._records[self._record_key(subject)] = MatchRecord(
                created=self._clock(), matched_at=self._clock(), attempts=1,
                rule_set=rule_set, reasons=b"".join(REASON_BYTES[each] for each in reasons),
            )
            for planned, reason in zip(rule_set.rules, reasons, strict=True):
                if reason is Reason.SELECTED:
                    for asked in outcome_requests(planned, subject, rule_set.functions, None):
                        scorer = asked.key.scorer
                        self._defer(Deferred(
                            assignment=Assignment(
                                subject=subject, scorer=scorer, asked=(asked,),
                                label=rule_set.functions.label(scorer),
                            ),
                            queue=queue_of(scorer, rule_set.functions),
                        ))

    def settle(self, verdict: Verdict) -> None:
        """Ends every pending outcome in this way, and shows the scores of the live ones."""
        for outcome_id, one in self._kept.items():
            if one.state is not OutcomeState.PENDING:
                continue
            key = RowKey(one.key.object, one.key.subject_id)
            row = self._rows.find(key)
            is_current = (
                row is not None and row.stored.content_xact == one.key.subject_version
            )
            self._kept[outcome_id] = replace(
                one, verdict=verdict, attempts=one.attempts + 1, finished_at=self._clock(),
                next_attempt_at=None,
                state=verdict.state if is_current else OutcomeState.SUPERSEDED,
            )
            scores = {
                score.name: score.value for score in verdict_scores(verdict)
                if score.value is not None
            }
            if is_current and scores and one.key.role is Role.LIVE:
                self._rows.set_computed(key, {**scores})

    # --- flows.outcomes.retry.OutcomeStore

    def retry(self, project_id: ProjectId, request: RetryRequest) -> int:
        chosen = [
            one for one in self._of_project(project_id)
            if one.state is OutcomeState.ERRORED and self._may_run(one)
            and request.error_class in {None, one.error_class}
            and request.rule_id in {None, one.key.origin.id}
            and self._is_recent(one, request.since)
        ]
        for one in chosen:
            self._kept[one.key.id] = replace(
                one, state=OutcomeState.PENDING, attempts=0, finished_at=None,
                next_attempt_at=self._clock(),
            )
        return len(chosen)

    def _may_run(self, one: KeptOutcome) -> bool:
        key, rule = one.key, self._rule_name(one)
        row = self._rows.find(RowKey(key.object, key.subject_id))
        is_current = row is not None and row.stored.content_xact == key.subject_version
        is_followed = any(
            replace(other.key, scorer=key.scorer) == key and other.key != key
            and other.key.scorer.name == key.scorer.name
            and other.state is not OutcomeState.SUPERSEDED and other.created > one.created
            for other in self._kept.values()
        )
        return is_current and rule is not None and not is_followed and (
            self._queue(one) is not None
        )

    def _queue(self, one: KeptOutcome) -> str | None:
        scorer = one.key.scorer
        if scorer.kind != FUNCTION:
            return queue_of_global(scorer.name)
        function_id, version = parse_uuid(scorer.name), Xact(int(scorer.version))
        found = self._functions.whether_deleted(function_id, version)
        return None if found is None or found[1] else found[0].body.queue

    def _is_recent(self, one: KeptOutcome, since: timedelta | None) -> bool:
        return since is None or (
            one.finished_at is not None and one.finished_at > self._clock() - since
        )

    def errors(self, project_id: ProjectId) -> list[ErrorSummary]:
        kinds: dict[tuple[object, ...], list[KeptOutcome]] = {}
        for one in self._of_project(project_id):
            if one.state is OutcomeState.ERRORED:
                kind = (one.key.origin, one.key.scorer.name, one.key.role, one.error_class)
                kinds.setdefault(kind, []).append(one)
        found = [self._summary(of_kind) for of_kind in kinds.values()]
        return sorted(found, key=lambda summary: -summary.count)

    def _summary(self, of_kind: list[KeptOutcome]) -> ErrorSummary:
        last = max(of_kind, key=lambda one: one.finished_at or one.created)
        failed = isinstance(last.verdict, Errored)
        return ErrorSummary(
            rule_id=str(last.key.origin.id), rule_name=self._rule_name(last),
            scorer=last.label or last.key.scorer.name, role=last.key.role.value,
            error_class=last.error_class or "", count=len(of_kind),
            last_message=last.verdict.failure.message if failed else "",
            last_at=(last.finished_at or last.created).isoformat(),
        )

    def _rule_name(self, one: KeptOutcome) -> str | None:
        if one.key.origin.kind is not OriginKind.RULE:
            return None
        project = self._projects.projects[one.key.object.project_id]
        rule = self._rules.find_rule(project.org_id, one.key.origin.id)
        return None if rule is None else rule.name

    def _of_project(self, project_id: ProjectId) -> list[KeptOutcome]:
        return [one for one in self._kept.values() if one.key.object.project_id == project_id]

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
            project_id=str(project_id), project_name=self._projects.projects[project_id].name,
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
        if subject.trigger_xact is None:
            return None
        waiting = MatchRecord(
            created=self._clock(), matched_at=None, attempts=0, rule_set=None, reasons=b""
        )
        return self._records.get(self._record_key(subject), waiting)

    def outcomes(self, subject: Subject) -> list[OutcomeView]:
        own = [
            one for one in self._kept.values()
            if RowKey(one.key.object, one.key.subject_id) == subject.key
        ]
        return [
            self._view(one) for one in
            sorted(own, key=lambda one: (one.key.subject_version, one.created), reverse=True)
        ]

    def current_rules(self, project_id: ProjectId) -> RuleSet:
        return self._rules.rule_set(project_id)

    def _view(self, one: KeptOutcome) -> OutcomeView:
        verdict = one.verdict
        failure = verdict.failure if isinstance(verdict, Errored) else None
        result = None if verdict is None or failure is not None else verdict.result
        usage = None if result is None else result.usage
        is_waiting = one.state is OutcomeState.PENDING and one.queue == SANDBOX
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
            attempts=one.attempts, next_attempt_at=one.next_attempt_at, is_running=False,
            created=one.created, finished_at=one.finished_at,
            run_ms=None if verdict is None else verdict.run_ms,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            completion_tokens=None if usage is None else usage.completion_tokens,
            model=None if usage is None else usage.model,
            is_cached=usage is not None and usage.is_cached,
            log=None if verdict is None else verdict.log,
            hindrance=self.refusal if is_waiting else None,
        )

    def _record_key(self, subject: Subject) -> tuple[RowKey, Xact]:
        return subject.key, subject.trigger_xact or Xact(0)
