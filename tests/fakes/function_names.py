"""Functions by the names that rules files use, listed by hand."""

from __future__ import annotations

from collections.abc import Mapping

from rules.file import FunctionName
from spans.errors import NotFound


class ListedNames:
    """Implements rules.file.FunctionNames. `ids` are by (project, slug)."""

    def __init__(self, ids: Mapping[tuple[str, str], str]) -> None:
        self._ids = ids

    def id_of(self, project: str, slug: str) -> str:
        if (project, slug) not in self._ids:
            raise NotFound(f"the project {project!r} has no function {slug!r}")
        return self._ids[project, slug]

    def name_of(self, function_id: str) -> FunctionName | None:
        for (project, slug), known in self._ids.items():
            if known == function_id:
                return FunctionName(project=project, slug=slug)
        return None
