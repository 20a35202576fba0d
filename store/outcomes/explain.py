"""Reads what `explain` needs: the row, its match record and its outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from flows.outcomes.explain import (
    CANDIDATES_MAX,
    REJECTED_MAX,
    Candidate,
    MatchRecord,
    OutcomeJob,
    OutcomeView,
    RejectedPart,
)
from rules.rescore.model import JobState
from rules.rule_set import RuleSet
from spans.errors import NotFound
from spans.ids import OrgId, ProjectId
from spans.outcome import OutcomeKey, ScorerUse
from spans.queues import HELD, HELD_BY_BUDGET, SANDBOX, held_queue
from spans.row import project_logs
from spans.scoring import OutcomeState, ScorerRef
from spans.work import Subject
from store.postgres.database import Database
from store.postgres.row_views import EXPRESSIONS, find_rows, read_subjects
from store.scoring.circuits import open_circuits
from store.scoring.match_records import MatchRecords
from store.scoring.sandbox_workers import SandboxWorkers

EVERYTHING = frozenset(EXPRESSIONS)
OUTCOMES_MAX = 500
"""The most outcomes of a row that are read, newest first."""
OF_RUN = {
    "is_running": "owner is not null",
    **{
        name: name for name in (
            "error_class", "error_message", "scores", "attempts", "next_attempt_at", "created",
            "failing_since", "finished_at", "run_ms", "prompt_tokens", "completion_tokens",
            "cached_tokens", "cost", "model", "is_cached", "log",
        )
    },
}
"""What an outcome shows of its run, with the SQL of each: a follower has no run of its own."""

OUTCOMES = f"""
    select use_no, queue, is_lead, subject_version, state, label, {", ".join(OF_RUN.values())}
      from outcome where subject_seq = %s
     order by subject_version desc, created desc, use_no limit %s
"""
JOBS = """
    select job.job_no, job.id::text, job.state, job.created, job.rolled_back_at
      from unnest(%s::integer[]) as asked(job_no)
     cross join lateral (
       select job_no, id, state, created, rolled_back_at from rescore_job
        where rescore_job.job_no = asked.job_no offset 0) job
"""
REPLACED = """
    select job_no, name, score, (by ->> 'use')::integer, (by ->> 'version')::bigint
      from replaced_score where subject_seq = %s
"""

# The latest by each of the indexes. A client may send one bad row for days.
REJECTED_PARTS = """
    select project_id::text, reason, excerpt, created from (
      {by_row_id} union {by_span_id}) found
     order by id desc limit %(most)s
""".format(**{
    f"by_{name}": f"""
      select found.* from unnest(%(ids)s::text[]) as asked(id) cross join lateral (
        select * from rejected_row
         where org_id = %(org)s and {name} = asked.id
           and (%(project)s::uuid is null or project_id = %(project)s
                or (%(or_of_none)s and project_id is null))
         order by org_id, {name}, created desc limit %(most)s) found"""
    for name in ("row_id", "span_id")
})


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
                     select object_no, object.project_id, project.name
                       from project join object on object.project_id = project.id
                      where org_id = %s and deleted_at is null and object_type = 'project_logs'
                        and (%s::uuid is null or project.id = %s)),
                   found as (
                     select object_no, seq from reachable
                      cross join lateral (
                        select seq from span
                         where id = %s and span.object_no = reachable.object_no offset 0) row
                     union
                     select object_no, seq from reachable
                      cross join lateral (
                        select seq from span
                         where span_id = %s and span.object_no = reachable.object_no
                        offset 0) row)
                   select row.project_id::text, reachable.name, row.id, row.span_id,
                          row.span_attributes ->> 'name'
                     from found join reachable using (object_no)
                     join shown_span row
                       on row.object_no = found.object_no and row.seq = found.seq
                    where row.deleted_at is null
                    order by row.seq desc limit %s""",
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
        where = project_logs(ProjectId(UUID(candidate.project_id)))
        object_no = self._database.numbers.object_no(where)
        with self._database.cursor() as cursor:
            seqs = list(find_rows(cursor, object_no, [candidate.id]).values())
            subjects = read_subjects(
                cursor, where, object_no, seqs, EVERYTHING, view="shown_span"
            )
        if not subjects:
            raise NotFound(f"the span {candidate.id!r} has just been deleted")
        (subject,) = subjects.values()
        return subject

    def match_record(self, subject: Subject) -> MatchRecord | None:
        where = subject.key.object
        object_no = self._database.numbers.object_no(where)
        with self._database.cursor() as cursor:
            cursor.execute(
                """select created, matched_at, attempts, rules_revision, row_seqs, reasons
                     from match_record where object_no = %(object)s and xact = %(xact)s
                   union all
                   select created, null, attempts, null, row_seqs, null
                     from outbox where object_no = %(object)s and xact = %(xact)s""",
                {"object": object_no, "xact": subject.trigger_xact},
            )
            rows = [row for row in cursor if subject.seq in row[4]]
        if not rows:
            return None
        created, matched_at, attempts, revision, row_seqs, reasons = rows[0]
        rule_set = None
        own = b""
        if matched_at is not None:
            rule_set = self._match_records.rule_set(where.project_id, revision)
            count = len(rule_set.rules)
            start = row_seqs.index(subject.seq) * count
            own = bytes(reasons)[start : start + count]
        return MatchRecord(
            created=created, matched_at=matched_at, attempts=attempts, rule_set=rule_set,
            reasons=own,
        )

    def outcomes(self, subject: Subject) -> list[OutcomeView]:
        """The row's outcomes, newest content first. A follower shows the attempts and the error
        of its lead, because it has no run of its own."""
        with self._database.cursor() as cursor:
            cursor.execute(OUTCOMES, (subject.seq, OUTCOMES_MAX))
            rows = cursor.fetchall()
        numbers = self._database.numbers
        numbers.load_uses(row[0] for row in rows)
        stored = [_stored(subject, numbers.use_of(row[0]), row) for row in rows]
        leads = {one.run: one for one in stored if one.is_lead}
        found = self._with_jobs(
            subject, [one.shown_with(leads.get(one.run, one)) for one in stored]
        )
        # A follower waits where its lead waits.
        queues = [leads.get(one.run, one).queue for one in stored]
        hindered = self._hindered({
            queue for one, queue in zip(stored, queues, strict=True)
            if one.view.state is OutcomeState.PENDING
        })
        return [
            hindered.get(queue, _as_it_is)(one)
            if one.state is OutcomeState.PENDING else one
            for one, queue in zip(found, queues, strict=True)
        ]

    def _with_jobs(self, subject: Subject, views: list[OutcomeView]) -> list[OutcomeView]:
        """The views, those of re-score jobs with the job, and with what they replaced."""
        job_nos = {one.origin.generation for one in views if one.origin.generation}
        if not job_nos:
            return views
        with self._database.cursor() as cursor:
            cursor.execute(JOBS, (list(job_nos),))
            jobs = {
                job_no: OutcomeJob(
                    id=job_id, state=JobState(state), created=created,
                    rolled_back_at=rolled_back_at,
                )
                for job_no, job_id, state, created, rolled_back_at in cursor
            }
            cursor.execute(REPLACED, (subject.seq,))
            replaced = cursor.fetchall()
        numbers = self._database.numbers
        numbers.load_uses({use_no for *_, use_no, _ in replaced})
        return [
            replace(
                one, job=jobs.get(one.origin.generation),
                replaced={
                    name: float(score) for job_no, name, score, use_no, version in replaced
                    if (job_no, version) == (one.origin.generation, one.subject_version)
                    and _takes_place(one, name, numbers.use_of(use_no))
                },
            )
            if one.origin.generation else one
            for one in views
        ]

    def _hindered(self, queues: set[str]) -> dict[str, Callable[[OutcomeView], OutcomeView]]:
        """How to show the outcomes of those queues whose outcomes cannot run now."""
        shown: dict[str, Callable[[OutcomeView], OutcomeView]] = {}
        if SANDBOX in queues and (refusal := SandboxWorkers(self._database).refusal()):
            shown[SANDBOX] = partial(replace, hindrance=refusal)
        if any(queue.startswith(HELD) for queue in queues):
            with self._database.cursor() as cursor:
                for circuit in open_circuits(cursor):
                    shown[held_queue(circuit.endpoint)] = partial(
                        replace, hindrance=circuit.sentence,
                        next_attempt_at=circuit.probe_at,
                    )
        for queue in queues:
            if queue.startswith(HELD_BY_BUDGET):
                shown[queue] = _held_by_budget
        return shown

    def current_rules(self, project_id: ProjectId) -> RuleSet:
        with self._database.cursor() as cursor:
            cursor.execute("select rules_revision from project where id = %s", (project_id,))
            row = cursor.fetchone()
        return self._match_records.rule_set(project_id, row[0] if row else 0)

    def rejected_parts(
        self, org_id: OrgId, project_id: ProjectId | None, ids: Sequence[str], *,
        or_of_none: bool = False,
    ) -> list[RejectedPart]:
        given = {
            "org": org_id, "project": project_id, "ids": list(ids), "or_of_none": or_of_none,
            "most": REJECTED_MAX,
        }
        with self._database.cursor() as cursor:
            cursor.execute(REJECTED_PARTS, given)
            return [
                RejectedPart(project_id=of, reason=reason, excerpt=excerpt, created=created)
                for of, reason, excerpt, created in cursor
            ]


def _held_by_budget(one: OutcomeView) -> OutcomeView:
    """The outcome with the budget's reason, which stands where an error would."""
    return replace(one, hindrance=one.error_message, next_attempt_at=None)


def _takes_place(one: OutcomeView, name: str, other: ScorerUse) -> bool:
    """Whether a run replaced the other's score of the name: it gave one of this name, or is of
    the same scorer. A run without a verdict replaced nothing."""
    if not isinstance(one.scores, list):
        return False
    names = [score["name"] for score in one.scores if isinstance(score, dict)]
    return name in names or other.scorer.name == one.scorer


def _as_it_is(one: OutcomeView) -> OutcomeView:
    return one


class _Stored(NamedTuple):
    """An outcome as it is stored. What a follower shows of its run is its lead's."""

    view: OutcomeView
    run: tuple[ScorerRef, int, OutcomeState]
    """What outcomes that share one run have in common."""
    queue: str
    is_lead: bool

    def shown_with(self, lead: _Stored) -> OutcomeView:
        """The outcome with what its lead's run gave so far, if it waits for that.

        What has ended has a result of its own. A rule and a re-score job may have run the same
        scorer on the same content one after the other, with different results.
        """
        if self.is_lead or self.view.state is not OutcomeState.PENDING:
            return self.view
        return replace(self.view, **{name: getattr(lead.view, name) for name in OF_RUN})


def _stored(subject: Subject, use: ScorerUse, row: Sequence[Any]) -> _Stored:
    """The outcome in a row of OUTCOMES."""
    _, queue, is_lead, version, state, label, *of_run = row
    key = OutcomeKey(
        object=subject.key.object, subject_id=subject.key.id, subject_version=version,
        use=use,
    )
    view = OutcomeView(
        id=str(key.id), origin=use.origin, role=use.role, scorer=use.scorer.name, label=label,
        scorer_version=use.scorer.version, subject_version=version, state=OutcomeState(state),
        **dict(zip(OF_RUN, of_run, strict=True)),
    )
    return _Stored(view, (use.scorer, version, view.state), queue, is_lead)
