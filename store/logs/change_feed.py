"""Reads a project's changes in the order of their versions."""

from __future__ import annotations

from flows.logs.change_feed import ChangedRow, Changes
from spans.ids import ProjectId, Xact
from spans.row import project_logs
from store.postgres.database import Database, follow_indexes
from store.postgres.row_views import IS_MADE_BY_SCORER_SQL, one_row
from store.postgres.versions import settled_version

# Along the index by version: which rows first, then what is shown of them. The index serves who
# states its condition, which always holds.
CHANGES = f"""
    select asked.xact, row.id, row.span_id, row.span_attributes ->> 'name',
           {IS_MADE_BY_SCORER_SQL}, row.scores
      from (select seq, object_no, xact from span_head
             where object_no = %s and xact > 0 and xact > %s and xact <= %s
               and deleted_at is null
             order by xact fetch first %s rows with ties) asked
     cross join lateral ({one_row("shown_span")}) row
     order by asked.xact
"""


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
            follow_indexes(cursor)
            cursor.execute(CHANGES, (object_no, after, settled, limit))
            rows = [
                ChangedRow(
                    xact=Xact(xact), id=row_id, span_id=span_id, name=name,
                    is_score_span=is_score_span, scores=scores,
                )
                for xact, row_id, span_id, name, is_score_span, scores in cursor
            ]
        return Changes(rows=rows, upto=rows[-1].xact if len(rows) >= limit else settled)
