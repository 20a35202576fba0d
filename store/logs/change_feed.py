"""Following a project's rows as they change: each change once seen, none missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spans.ids import ProjectId, Xact
from spans.json import JsonObject
from store.postgres.database import Database
from store.postgres.versions import settled_version


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
    """Rows changed after where the reader stood, oldest change first; go on from `upto`."""

    rows: Sequence[ChangedRow]
    upto: Xact


class Following:
    """Reads a project's changes in the order of their versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> Xact:
        """Where to begin, to see only what comes from now on."""
        with self._database.cursor() as cursor:
            return settled_version(cursor)

    def changes(self, project_id: ProjectId, after: Xact, limit: int) -> Changes:
        """The rows that changed after `after`, at most about `limit`.

        A row that changed several times is there once, as it is now. All rows of one version
        come together, so that `upto` never parts them.
        """
        with self._database.cursor() as cursor:
            settled = settled_version(cursor)
            cursor.execute(
                """select xact, id, span_id, span_attributes ->> 'name',
                          coalesce(span_attributes ->> 'purpose' = 'scorer', false), scores
                     from span
                    where project_id = %s and xact > %s and xact <= %s and deleted_at is null
                    order by xact fetch first %s rows with ties""",
                (project_id, after, settled, limit),
            )
            rows = [
                ChangedRow(
                    xact=Xact(xact), id=row_id, span_id=span_id, name=name,
                    is_score_span=is_score_span, scores=scores,
                )
                for xact, row_id, span_id, name, is_score_span, scores in cursor
            ]
        return Changes(rows=rows, upto=rows[-1].xact if len(rows) >= limit else settled)
