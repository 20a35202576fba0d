"""A project's rows as they change: each change is seen once, and none is missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spans.ids import ProjectId, Xact
from spans.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRow:
    """A row as it is at its version `xact`."""

    xact: Xact
    id: str
    span_id: str
    name: str | None
    is_score_span: bool
    scores: JsonObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Rows that changed after a version, oldest change first; read on after `upto`."""

    rows: Sequence[ChangedRow]
    upto: Xact


class ChangeStore(Protocol):
    """Where changes are read."""

    def now(self) -> Xact:
        """The newest version before which nothing can change any more."""
        ...

    def changes(self, project_id: ProjectId, after: Xact, limit: int) -> Changes:
        """The rows that changed after `after`, at most about `limit`.

        A row that changed several times is there once, as it is now. All rows of one version
        come together, so that `upto` never parts them.
        """
        ...
