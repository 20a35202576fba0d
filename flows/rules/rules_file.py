"""The names that rule files give functions."""

from __future__ import annotations

from dataclasses import dataclass

from flows.access.principal import Principal
from flows.access.projects import Projects
from flows.functions.lookup import FunctionById, FunctionBySlug, FunctionLookup
from rules.file import FunctionName
from scorers.functions.function import function_id_of
from spans.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachableNames:
    """Translates between ids and names of the functions that a key reaches.

    Implements rules.file.FunctionNames.
    """

    principal: Principal
    lookup: FunctionLookup
    projects: Projects

    def id_of(self, project: str, slug: str) -> str:
        """The id of the project's function with this slug. Raises NotFound."""
        try:
            found = self.lookup.find(
                self.principal, FunctionBySlug(project_name=project, slug=slug)
            )
        except NotFound as error:
            raise NotFound(
                f"the project {project!r} has no function {slug!r}: push it first"
            ) from error
        return str(found.id)

    def name_of(self, function_id: str) -> FunctionName | None:
        """The project and slug of a function; None if there is none that the key reaches."""
        known = function_id_of(function_id)
        if known is None:
            return None
        try:
            found = self.lookup.find(self.principal, FunctionById(id=known))
            project = self.projects.get(self.principal, found.project_id)
        except NotFound:
            return None
        return FunctionName(project=project.name, slug=found.body.slug)
