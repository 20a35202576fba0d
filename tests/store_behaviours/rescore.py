"""What every store of re-score jobs does."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from flows.access.projects import ProjectStore
from flows.rescore.jobs import JobStore, NewJob
from rules.rescore.model import Action, JobScorer, JobState, PausedBy, RescoreJob
from rules.rescore.wire import read_rescore, request_hash, request_json, selection_of
from spans.errors import BadInput, NotFound
from spans.ids import OrgId, ProjectId
from spans.queues import HEAVY
from spans.row import project_logs
from spans.scoring import ScorerRef


@dataclass(frozen=True, kw_only=True)
class JobStores:
    """A store of jobs, and the projects that the jobs are of."""

    jobs: JobStore
    projects: ProjectStore

    @property
    def org_id(self) -> OrgId:
        return self.projects.ensure_organization(OrgId(uuid.uuid4()), "acme")

    def project(self) -> ProjectId:
        made, _ = self.projects.get_or_create_project(
            self.org_id, ProjectId(uuid.uuid4()), f"project {uuid.uuid4()}", None
        )
        return made.id

    def make(
        self, project: ProjectId, key: str | None = None, **request: Any
    ) -> tuple[RescoreJob, bool]:
        body = read_rescore({"filter": "", "scorers": ["Levenshtein"], **request})
        scorer = ScorerRef(kind="global", name="Levenshtein", version="1")
        stored = request_json(body)
        return self.jobs.make(NewJob(
            id=uuid.uuid4(), project_id=project, request=stored,
            request_hash=request_hash(body),
            selection=selection_of(stored, [project_logs(project)]),
            scorers=(JobScorer(scorer=scorer, queue=HEAVY, label="close"),),
            created_by="key", idempotency_key=key, probe=body.probe,
            max_per_second=body.max_per_second,
        ))


class JobBehaviours:
    """The tests. A class with a fixture `stores` inherits them."""

    def test_a_job_is_found_as_it_was_made(self, stores: JobStores) -> None:
        made, is_new = stores.make(
            stores.project(), filter="error is null", max_per_second=2.5, probe=3,
            created_from="2026-01-01T00:00:00Z", only="errored", error_class="timeout",
        )
        assert is_new
        assert made.state is JobState.PLANNED
        assert made.selection.btql_filter == "error is null"
        assert made.selection.error_class == "timeout"
        assert (made.max_per_second, made.probe, made.created_by) == (2.5, 3, "key")
        assert made.scorers[0].shown_as == "close"
        assert stores.jobs.find(stores.org_id, made.id) == made

    def test_a_job_is_found_by_its_organisation_alone(self, stores: JobStores) -> None:
        made, _ = stores.make(stores.project())
        assert stores.jobs.find(OrgId(uuid.uuid4()), made.id) is None
        assert stores.jobs.find(stores.org_id, uuid.uuid4()) is None

    def test_a_repeated_key_gives_the_job_of_the_first_request(self, stores: JobStores) -> None:
        project = stores.project()
        first, _ = stores.make(project, "k")
        again, is_new = stores.make(project, "k")
        assert (again, is_new) == (first, False)
        assert stores.make(stores.project(), "k")[1]     # of another project
        assert stores.make(project)[1]
        with pytest.raises(BadInput, match="another request"):
            stores.make(project, "k", filter="error is null")
        assert stores.jobs.repeated(project, "another", b"") is None

    def test_jobs_are_listed_newest_first_page_by_page(self, stores: JobStores) -> None:
        project = stores.project()
        made = [stores.make(project)[0].id for _ in range(5)]
        stores.make(stores.project())
        first = [job.id for job in stores.jobs.list(project, limit=2)]
        rest = [job.id for job in stores.jobs.list(project, limit=9, before=first[-1])]
        assert [*first, *rest] == made[::-1]

    def test_a_job_pauses_goes_on_and_is_cancelled(self, stores: JobStores) -> None:
        job, _ = stores.make(stores.project(), probe=3)
        paused = stores.jobs.act(job.id, Action.PAUSE)
        assert (paused.state, paused.paused_by) == (JobState.PAUSED, PausedBy.HAND)
        assert stores.jobs.act(job.id, Action.PAUSE) == paused
        going_on = stores.jobs.act(job.id, Action.RESUME)
        assert (going_on.state, going_on.paused_by, going_on.probe) == (
            JobState.PLANNED, None, 3
        )
        assert stores.jobs.act(job.id, Action.CANCEL).state is JobState.CANCELLING
        assert stores.jobs.act(job.id, Action.CANCEL).state is JobState.CANCELLING
        with pytest.raises(BadInput, match="too late to resume"):
            stores.jobs.act(job.id, Action.RESUME)
        with pytest.raises(BadInput, match="cancel it, or wait"):
            stores.jobs.act(job.id, Action.ROLLBACK)
        with pytest.raises(BadInput, match="no rate"):
            stores.jobs.set_rate(job.id, 5)

    def test_a_rate_is_set_and_lifted(self, stores: JobStores) -> None:
        job, _ = stores.make(stores.project())
        assert stores.jobs.set_rate(job.id, 5).max_per_second == 5
        assert stores.jobs.set_rate(job.id, None).max_per_second is None

    def test_an_unknown_job_does_nothing(self, stores: JobStores) -> None:
        with pytest.raises(NotFound):
            stores.jobs.act(uuid.uuid4(), Action.PAUSE)
        with pytest.raises(NotFound):
            stores.jobs.set_rate(uuid.uuid4(), 1)
