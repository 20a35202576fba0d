"""The use cases of outcomes: explain a span's scores, count errors, and retry."""

from __future__ import annotations

from collections.abc import Callable

from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.access.use_case import use_case
from flows.outcomes.explain import Explained, ExplainStore, explain
from flows.outcomes.retry import ErrorSummary, OutcomeStore, RetryRequest
from flows.rules.rules import Rules
from spans.ids import ProjectId
from spans.queues import queues_of_outcomes


class Outcomes:
    """The outcomes of an organisation's projects. Thread-safe."""

    def __init__(
        self, store: OutcomeStore, *, explained: ExplainStore, projects: Projects,
        rules: Rules, ring: Callable[[str], None],
    ) -> None:
        self._store = store
        self._explained = explained
        self._projects = projects
        self._rules = rules
        self._ring = ring

    @use_case(KeyRole.READ)
    def explain(
        self, principal: Principal, project_id: ProjectId | None, text: str
    ) -> Explained:
        """Why a span has its scores; or the candidates, if `text` fits several spans.

        `text` is a row id or a span id. The span is looked for in one project, or if that is
        None in all projects that the key reaches. If there is none, the writes with this id
        that were rejected are given, for keys of the organisation also those to no project.
        Raises NotFound.
        """
        if project_id is None:
            only = principal.project_id
        else:
            only = self._projects.get(principal, project_id).id
        return explain(
            self._explained, principal.org_id, only, text,
            or_of_none=principal.project_id is None,
        )

    @use_case(KeyRole.READ)
    def errors(self, principal: Principal, project_id: ProjectId) -> list[ErrorSummary]:
        """The number of errored outcomes of the project, by rule, scorer and error class."""
        return self._store.errors(self._projects.get(principal, project_id).id)

    @use_case()
    def retry(
        self, principal: Principal, project_id: ProjectId, request: RetryRequest
    ) -> int:
        """Makes errored outcomes of the project pending again, and returns how many.

        Their attempts are counted from the start. Raises NotFound for a project or a rule that
        the key does not reach.
        """
        project = self._projects.get(principal, project_id)
        if request.rule_id is not None:
            self._rules.get(principal, request.rule_id)
        count = self._store.retry(project.id, request)
        for queue in queues_of_outcomes():
            self._ring(queue)
        return count
