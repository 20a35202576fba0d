"""The use cases of re-score jobs: make, plan, list, pause, resume, cancel and roll back."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage, Projects
from flows.access.use_case import use_case
from flows.budgets.budgets import Budgets
from flows.functions.lookup import FunctionById, FunctionBySlug, FunctionLookup
from flows.rescore.jobs import JobProgress, JobStore, NewJob
from flows.rescore.plan import JobRequest, Plan, Planner
from flows.rescore.report import JobRecordStore, report_on
from flows.rules.rules import RULES_MAX, Rules
from rules.model import Rule, ScorerChoice
from rules.rescore.estimate import JudgePrompt
from rules.rescore.model import Action, JobScorer, RescoreJob
from rules.rescore.report import JobReport
from rules.rescore.wire import (
    RescoreBody,
    read_rescore,
    request_hash,
    request_json,
    selection_of,
)
from rules.rule_set import rule_of
from rules.wire import ONLINE, GlobalScorer
from scorers import catalog
from scorers.catalog import GLOBAL
from scorers.functions.function import Function, function_id_of, read_version
from scorers.functions.queue import queue_of_global, queue_of_version
from scorers.functions.version import FUNCTION
from scorers.judge.prompt import fixed_characters
from spans.errors import BadInput, NotFound
from spans.ids import FunctionId, ProjectId, RuleId
from spans.json import Json, JsonObject
from spans.queues import RESCORE, queues_of_outcomes
from spans.scoring import ScorerRef

RECENT_MAX = 1000
"""Rows that `score_recent` takes. A job of its own takes any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job, and how far it is."""

    job: RescoreJob
    progress: JobProgress


class _ChosenScorer(NamedTuple):
    """A scorer of a job, and what it sends with each row if it asks a judge."""

    scorer: JobScorer
    prompt: JudgePrompt


class Rescores:
    """The re-score jobs of an organisation's projects. Thread-safe."""

    def __init__(
        self, store: JobStore, *, records: JobRecordStore, planner: Planner,
        budgets: Budgets, projects: Projects, rules: Rules, lookup: FunctionLookup,
        ring: Callable[[str], None],
        new_id: Callable[[], UUID] = uuid.uuid4,
    ) -> None:
        self._store = store
        self._records = records
        self._planner = planner
        self._budgets = budgets
        self._projects = projects
        self._rules = rules
        self._lookup = lookup
        self._ring = ring
        self._new_id = new_id

    @use_case()
    def make(
        self, principal: Principal, project_id: ProjectId, body: RescoreBody, *,
        idempotency_key: str | None = None,
    ) -> tuple[RescoreJob, bool]:
        """A new job, which begins at once, and whether it is new.

        With an idempotency key that the project has seen, its job of then. Raises NotFound for
        a project or rule that the key does not reach, and BadInput for a scorer that cannot
        run.
        """
        project = self._projects.get(principal, project_id)
        if idempotency_key is not None:
            present = self._store.repeated(project.id, idempotency_key, request_hash(body))
            if present is not None:
                return present, False
        prepared = self._prepared(principal, project.id, body, idempotency_key)
        # The budget comes first, so that it holds for the first call of the job.
        budget = None if body.budget is None else self._budgets.cap_job(
            principal, prepared.project_id, prepared.id, body.budget.caps
        )
        try:
            job, is_new = self._store.make(prepared)
        except BadInput:
            if budget is not None:
                self._budgets.delete(principal, budget.id)
            raise
        if budget is not None and not is_new:
            self._budgets.delete(principal, budget.id)   # the job of then has its own
        self._ring(RESCORE)
        return job, is_new

    @use_case()
    def plan(self, principal: Principal, project_id: ProjectId, body: RescoreBody) -> Plan:
        """What a job of this request would do and take. Makes no job and calls no judge.

        Raises what `make` raises, and BadInput if counting takes too long.
        """
        project = self._projects.get(principal, project_id)
        rule = self._rule(principal, project.id, body)
        chosen = self._scorers(principal, project.name, body, rule)
        where = self._projects.logs_of(principal, project.id)
        request = JobRequest(
            project_id=project.id, selection=selection_of(request_json(body), [where]),
            scorers=tuple(one.scorer for one in chosen),
            prompts=tuple(one.prompt for one in chosen), rule=rule, probe=body.probe,
            max_per_second=body.max_per_second,
        )
        rules = self._rules.list(
            principal, ListPage(limit=RULES_MAX), project_id=project.id, score_type=ONLINE
        )
        return self._planner.plan(request, [rule_of(one) for one in rules])

    @use_case()
    def score_recent(
        self, principal: Principal, rule_id: RuleId, last: int
    ) -> tuple[RescoreJob, bool]:
        """A new job that has a rule's scorers score the latest `last` rows that it selects.

        The rule's sampling rate does not count. Rows whose present content a scorer has scored
        are left out. Raises NotFound, and BadInput for a project score that is no rule.
        """
        rule = self._rules.get(principal, rule_id)
        body = read_rescore({
            "rule_id": str(rule_id), "max_records": last, "only": "missing",
        })
        return self.make(principal, rule.project_id, body)

    @use_case(KeyRole.READ)
    def get(self, principal: Principal, job_id: UUID) -> JobStatus:
        """The job and its progress. Raises NotFound if there is none that the key reaches."""
        job = self._reachable(principal, job_id)
        return JobStatus(job=job, progress=self._store.progress(job))

    @use_case(KeyRole.READ)
    def list(
        self, principal: Principal, project_id: ProjectId, *, limit: int,
        before: UUID | None = None,
    ) -> builtins.list[JobStatus]:
        """The project's jobs with their progress, newest first, from before the job `before`.
        """
        project = self._projects.get(principal, project_id)
        return [
            JobStatus(job=job, progress=self._store.progress(job))
            for job in self._store.list(project.id, limit=limit, before=before)
        ]

    @use_case()
    def act(self, principal: Principal, job_id: UUID, action: Action) -> JobStatus:
        """Pauses, resumes, cancels or rolls back the job. Safe to repeat.

        Raises NotFound, and BadInput if the job's state does not allow it.
        """
        self._reachable(principal, job_id)
        job = self._store.act(job_id, action)
        self._ring(RESCORE)
        if action is Action.RESUME:
            for queue in queues_of_outcomes():
                self._ring(queue)
        return JobStatus(job=job, progress=self._store.progress(job))

    @use_case()
    def set_rate(
        self, principal: Principal, job_id: UUID, max_per_second: float | None
    ) -> JobStatus:
        """Sets the most rows that the job begins in a second; None lifts the limit."""
        self._reachable(principal, job_id)
        job = self._store.set_rate(job_id, max_per_second)
        self._ring(RESCORE)
        return JobStatus(job=job, progress=self._store.progress(job))

    @use_case(KeyRole.READ)
    def report(self, principal: Principal, job_id: UUID) -> JobReport:
        """What the job has changed so far. Reads all of its outcomes: some 10 s a million."""
        return report_on(self._records, self._reachable(principal, job_id))

    def _prepared(
        self, principal: Principal, project_id: ProjectId, body: RescoreBody,
        idempotency_key: str | None,
    ) -> NewJob:
        project = self._projects.get(principal, project_id)
        rule = self._rule(principal, project.id, body)
        request = request_json(body)
        return NewJob(
            id=self._new_id(), project_id=project.id, request=request,
            request_hash=request_hash(body),
            selection=selection_of(request, [self._projects.logs_of(principal, project.id)]),
            scorers=tuple(
                one.scorer for one in self._scorers(principal, project.name, body, rule)
            ),
            created_by=principal.key_name, idempotency_key=idempotency_key, probe=body.probe,
            max_per_second=body.max_per_second,
        )

    def _rule(
        self, principal: Principal, project_id: ProjectId, body: RescoreBody
    ) -> Rule | None:
        """The rule that the request names. Raises NotFound, BadInput."""
        if body.rule_id is None:
            return None
        score = self._rules.get(principal, RuleId(UUID(body.rule_id)))   # the body is checked
        if score.project_id != project_id:
            raise NotFound("the project has no such rule")
        if score.score_type != ONLINE:
            raise BadInput(f"{score.name!r} is of type {score.score_type}, not a rule")
        return rule_of(score)

    def _scorers(
        self, principal: Principal, project_name: str, body: RescoreBody, rule: Rule | None
    ) -> tuple[_ChosenScorer, ...]:
        """The scorers of the job, each once, at the versions that will score its rows."""
        if body.scorers is None:
            assert rule is not None  # noqa: S101 the body has scorers or a rule
            found = [self._of_rule(principal, choice) for choice in rule.scorers]
        else:
            found = [
                self._named(principal, project_name, one) if isinstance(one, str)
                else self._global(one.name) if isinstance(one, GlobalScorer)
                else self._function(principal, one.id, one.version)
                for one in body.scorers
            ]
        by_name = {(one.scorer.scorer.kind, one.scorer.scorer.name): one for one in found}
        if len(by_name) < len(found):
            raise BadInput("name each scorer once", path="scorers")
        return tuple(found)

    def _of_rule(self, principal: Principal, choice: ScorerChoice) -> _ChosenScorer:
        if choice.kind == GLOBAL:
            return self._global(choice.name)
        return self._function(principal, choice.name, choice.version)

    def _global(self, name: str) -> _ChosenScorer:
        scorer = ScorerRef(kind=GLOBAL, name=name, version=catalog.installed_version())
        return _ChosenScorer(
            JobScorer(scorer=scorer, queue=queue_of_global(name)),
            JudgePrompt(model=self._planner.model),
        )

    def _named(self, principal: Principal, project_name: str, text: str) -> _ChosenScorer:
        """The autoevals scorer of that name, or else the function of that slug or id."""
        if catalog.is_known(text):
            return self._global(text)
        if (function_id := function_id_of(text)) is not None:
            return self._function(principal, str(function_id), None)
        try:
            which = FunctionBySlug(project_name=project_name, slug=text)
            return self._of_function(self._lookup.find(principal, which))
        except NotFound as error:
            raise BadInput(
                f"{text!r:.99} is no scorer of autoevals and no slug of a function of the "
                "project; `tallyard scorers list` lists them",
                path="scorers",
            ) from error

    def _function(
        self, principal: Principal, text: str, version: str | None
    ) -> _ChosenScorer:
        which = FunctionById(
            id=FunctionId(UUID(text)),   # the body is checked
            version=None if version is None else read_version(version),
        )
        try:
            return self._of_function(self._lookup.find(principal, which))
        except NotFound as error:
            suffix = "" if version is None else f" of version {version}"
            raise BadInput(
                f"there is no function {text}{suffix}; see GET /v1/function", path="scorers"
            ) from error

    def _of_function(self, function: Function) -> _ChosenScorer:
        """Raises BadInput if the function cannot run, or is no scorer."""
        ready = function.as_version()
        scorer = JobScorer(
            scorer=ScorerRef(
                kind=FUNCTION, name=str(function.id), version=str(function.version)
            ),
            queue=queue_of_version(ready), label=function.body.name,
        )
        prompt = JudgePrompt(model=self._planner.model)
        if ready.classifier is not None:
            prompt = JudgePrompt(
                model=ready.classifier.model or self._planner.model,
                characters=fixed_characters(ready.classifier),
            )
        return _ChosenScorer(scorer, prompt)

    def _reachable(self, principal: Principal, job_id: UUID) -> RescoreJob:
        job = self._store.find(principal.org_id, job_id)
        if job is None or not principal.reaches(job.project_id):
            raise NotFound("no such re-score job")
        return job


def status_json(status: JobStatus) -> JsonObject:
    """A job and its progress as JSON."""
    job, progress = status.job, status.progress
    told: JsonObject = {
        "id": str(job.id),
        "project_id": str(job.project_id),
        "state": job.state.value,
        "paused_by": None if job.paused_by is None else job.paused_by.value,
        "failure": job.failure,
        "created": job.created.isoformat(),
        "created_by": job.created_by,
        "selected_at": _time(job.selected_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "request": job.request,
        "scorers": _scorers_json(job.scorers),
        "max_per_second": job.max_per_second,
        "progress": {
            "records": progress.records,
            "outcomes": progress.outcomes,
            "pending": progress.states.get("pending", 0),
            "held": progress.held,
            "completed": progress.states.get("completed", 0),
            "skipped": progress.states.get("skipped", 0),
            "errored": progress.states.get("errored", 0),
            "superseded": progress.states.get("superseded", 0),
            "cancelled": progress.cancelled,
            "unreached": progress.unreached,
            "errors": dict(progress.errors),
        },
        "rollback": None,
    }
    if job.rollback_at is not None:
        told["rollback"] = {
            "started_at": _time(job.rollback_at),
            "finished_at": _time(job.rolled_back_at),
            "restored": job.restored,
            "left_alone": job.left_alone,
        }
    return told


def _scorers_json(scorers: Sequence[JobScorer]) -> builtins.list[Json]:
    return [
        {
            "name": one.shown_as, "type": one.scorer.kind,
            "id": one.scorer.name if one.scorer.kind == FUNCTION else None,
            "version": one.scorer.version, "queue": one.queue,
        }
        for one in scorers
    ]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
