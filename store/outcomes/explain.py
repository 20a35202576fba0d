"""Reads what `explain` needs: the row, its match record and its outcomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from flows.outcomes.explain import CANDIDATES_MAX, Candidate, MatchRecord, OutcomeView
from rules.rule_set import RuleSet
from spans.errors import NotFound
from spans.ids import ObjectId, OrgId, ProjectId
from spans.outcome import OriginKind, origin_of
from spans.queues import SANDBOX
from spans.row import ObjectRef, ObjectType
from spans.scoring import OutcomeState, Role
from spans.work import Subject
from store.postgres.database import Database
from store.postgres.row_views import EXPRESSIONS, read_subjects
from store.scoring.match_records import MatchRecords
from store.scoring.sandbox_workers import SandboxWorkers

EVERYTHING = frozenset(EXPRESSIONS)
OUTCOMES_MAX = 500
"""The most outcomes of a row that are read, newest first."""


class ExplainRecords:
    """Implements flows.outcomes.explain.ExplainStore."""

    def __init__(self, database: Database, match_records: MatchRecords) -> None:
        self._database = database
        self._match_records = match_records

    def candidates(
        self, org_id: OrgId, project_id: ProjectId | None, text: str
    ) -> list[Candidate]:
        with self._database.cursor() as cursor:
            cursor.execute(
                """with reachable as materialized (
                     select id, name as project_name from project
                      where org_id = %s and deleted_at is null
                        and (%s::uuid is null or id = %s)),
                   found as (
                     select project_id, project_name, span.id, span_id, seq,
                            span_attributes ->> 'name' as name
                       from reachable join span on span.project_id = reachable.id
                      where object_type = 'project_logs' and object_id = reachable.id
                        and span.id = %s and deleted_at is null
                     union
                     select project_id, project_name, span.id, span_id, seq,
                            span_attributes ->> 'name'
                       from reachable join span on span.project_id = reachable.id
                      where span_id = %s and object_type = 'project_logs'
                        and deleted_at is null)
                   select project_id::text, project_name, id, span_id, name from found
                    order by seq desc limit %s""",
                (org_id, project_id, project_id, text, text, CANDIDATES_MAX),
            )
            return [
                Candidate(
                    project_id=project, project_name=project_name, id=row_id,
                    span_id=span_id, name=name,
                )
                for project, project_name, row_id, span_id, name in cursor
            ]

    def subject(self, candidate: Candidate) -> Subject:
        project = UUID(candidate.project_id)
        where = ObjectRef(ProjectId(project), ObjectType.PROJECT_LOGS, ObjectId(project))
        with self._database.cursor() as cursor:
            subjects = read_subjects(cursor, where, [candidate.id], EVERYTHING)
        if not subjects:
            raise NotFound(f"the span {candidate.id!r} has just been deleted")
        return subjects[candidate.id]

    def match_record(self, subject: Subject) -> MatchRecord | None:
        where = subject.key.object
        with self._database.cursor() as cursor:
            cursor.execute(
                """select created, matched_at, attempts, rules_revision, row_ids, reasons
                     from outbox
                    where project_id = %s and xact = %s and object_id = %s
                      and row_ids @> array[%s]""",
                (where.project_id, subject.trigger_xact, where.object_id, subject.key.id),
            )
            row = cursor.fetchone()
        if row is None:
            return None
        created, matched_at, attempts, revision, row_ids, reasons = row
        rule_set = None
        own = b""
        if matched_at is not None:
            rule_set = self._match_records.rule_set(where.project_id, revision)
            count = len(rule_set.rules)
            start = row_ids.index(subject.key.id) * count
            own = bytes(reasons)[start : start + count]
        return MatchRecord(
            created=created, matched_at=matched_at, attempts=attempts, rule_set=rule_set,
            reasons=own,
        )

    def outcomes(self, subject: Subject) -> list[OutcomeView]:
        """The row's outcomes, newest content first. A follower shows the attempts and the error
        of its lead, because it has no run of its own."""
        where = subject.key.object
        with self._database.cursor() as cursor:
            cursor.execute(
                """select id::text, origin_id, scorer, scorer_version, subject_version,
                          state, error_class, error_message, scores, attempts,
                          next_attempt_at, owner is not null, created, finished_at, run_ms,
                          prompt_tokens, completion_tokens, model, is_cached, log, role,
                          label, queue, origin_kind, is_lead
                     from outcome
                    where project_id = %s and object_id = %s and subject_id = %s
                    order by subject_version desc, created desc, id limit %s""",
                (where.project_id, where.object_id, subject.key.id, OUTCOMES_MAX),
            )
            rows = cursor.fetchall()
        leads = {row[2:6]: row for row in rows if row[-1]}
        found = [_outcome(row, leads.get(row[2:6], row)) for row in rows]
        waiting = {
            row[0] for row in rows if row[5] == OutcomeState.PENDING and row[22] == SANDBOX
        }
        refusal = SandboxWorkers(self._database).refusal() if waiting else None
        return [
            replace(one, hindrance=refusal) if one.id in waiting else one for one in found
        ]

    def current_rules(self, project_id: ProjectId) -> RuleSet:
        with self._database.cursor() as cursor:
            cursor.execute("select rules_revision from project where id = %s", (project_id,))
            row = cursor.fetchone()
        return self._match_records.rule_set(project_id, row[0] if row else 0)


def _outcome(row: tuple[Any, ...], run: tuple[Any, ...]) -> OutcomeView:
    return OutcomeView(
        id=row[0], origin=origin_of(OriginKind(row[23]), row[1]), scorer=row[2],
        scorer_version=row[3], subject_version=row[4],
        state=OutcomeState(row[5]), error_class=run[6], error_message=run[7], scores=row[8],
        attempts=run[9], next_attempt_at=run[10], is_running=run[11], created=row[12],
        finished_at=row[13], run_ms=run[14], prompt_tokens=run[15], completion_tokens=run[16],
        model=run[17], is_cached=run[18], log=run[19], role=Role(row[20]), label=row[21],
    )
