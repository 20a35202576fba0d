"""The feed of changed rows of a project: a reader sees each change once and misses none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spans.ids import ProjectId, Xact
from spans.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRow:
    """A row at its version `xact`."""

    xact: Xact
    id: str
    span_id: str
    name: str | None
    is_score_span: bool
    scores: JsonObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Rows that changed after a version, oldest change first. The next read is after `upto`."""

    rows: Sequence[ChangedRow]
    upto: Xact


class ChangeStore(Protocol):
    """Where changed rows are read from."""

    def now(self) -> Xact:
        """The newest version for which it holds that no write up to it can still commit."""
        ...

    def changes(self, project_id: ProjectId, after: Xact, limit: int) -> Changes:
        """The rows that changed after `after`, at most about `limit`.

        A row that changed several times comes once, as it is now. All rows of one version come
        in one answer, so there may be more than `limit`.
        """
        ...
