"""Outcomes: explained, summed up where they errored, and run again."""

from __future__ import annotations

from collections.abc import Callable

from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.access.use_case import use_case
from flows.outcomes.explain import Candidate, ExplainStore, Explanation, explain
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
    ) -> Explanation | tuple[Candidate, ...]:
        """Why the span that `text` (a row id or a span id) names has its scores, or the spans
        that it could mean; in one project, or (None) in all that the key reaches.

        Raises NotFound.
        """
        if project_id is None:
            only = principal.project_id
        else:
            only = self._projects.get(principal, project_id).id
        return explain(self._explained, principal.org_id, only, text)

    @use_case(KeyRole.READ)
    def errors(self, principal: Principal, project_id: ProjectId) -> list[ErrorSummary]:
        """How many outcomes of the project are errored, by rule, scorer and class."""
        return self._store.errors(self._projects.get(principal, project_id).id)

    @use_case()
    def retry(
        self, principal: Principal, project_id: ProjectId, request: RetryRequest
    ) -> int:
        """Run errored outcomes of the project again, from their first attempt; how many.

        Raises NotFound for a project or a rule that the key does not reach.
        """
        project = self._projects.get(principal, project_id)
        if request.rule_id is not None:
            self._rules.get(principal, request.rule_id)
        count = self._store.retry(project.id, request)
        for queue in queues_of_outcomes():
            self._ring(queue)
        return count
