"""Reads a project's changes in the order of their versions."""

from __future__ import annotations

from flows.logs.change_feed import ChangedRow, Changes
from spans.ids import ProjectId, Xact
from spans.row import project_logs
from store.postgres.database import Database
from store.postgres.row_views import IS_MADE_BY_SCORER_SQL
from store.postgres.versions import settled_version


class ChangeFeed:
    """Implements flows.logs.change_feed.ChangeStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self) -> Xact:
        """The version up to which every write has been committed or rolled back."""
        with self._database.cursor() as cursor:
            return settled_version(cursor)

    def changes(self, project_id: ProjectId, after: Xact, limit: int) -> Changes:
        """The rows that changed after version `after`, oldest change first.

        A row that changed several times is returned once, as it is now. There may be more than
        `limit` rows, because all rows of one version are returned together: otherwise a reader
        that goes on after `upto` would miss some.
        """
        object_no = self._database.numbers.find_object(project_logs(project_id))
        with self._database.cursor() as cursor:
            settled = settled_version(cursor)
            cursor.execute(
                f"""select row.xact, row.id, row.span_id, row.span_attributes ->> 'name',
                          {IS_MADE_BY_SCORER_SQL}, row.scores
                     from shown_span row
                    where row.object_no = %s and row.xact > %s and row.xact <= %s
                      and row.deleted_at is null
                    order by row.xact fetch first %s rows with ties""",
                (object_no, after, settled, limit),
            )
            rows = [
                ChangedRow(
                    xact=Xact(xact), id=row_id, span_id=span_id, name=name,
                    is_score_span=is_score_span, scores=scores,
                )
                for xact, row_id, span_id, name, is_score_span, scores in cursor
            ]
        return Changes(rows=rows, upto=rows[-1].xact if len(rows) >= limit else settled)
