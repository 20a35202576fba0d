"""Reads stored rows, newest first, and adds pending outcomes for them on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rules.named_functions import NamedFunctions
from rules.rule_set import function_from_json
from rules.wire import ProjectScore
from spans.clock import Clock
from spans.ids import ProjectId
from spans.row import ObjectRef
from spans.work import Deferred, Subject
from store.postgres.counters import Counts
from store.postgres.database import Database
from store.postgres.row_views import read_subjects
from store.postgres.rule_revisions import lock_revision
from store.scoring.record import lock_rows, record

PAGE = 500
"""Rows that are read at once."""


class RecentRows:
    """Implements flows.rules.score_recent.RecentRowStore."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def functions(self, score: ProjectScore) -> tuple[NamedFunctions, int]:
        with self._database.cursor() as cursor:
            cursor.execute(
                """select functions, revision from rule_set
                     join project on project.id = project_id and rules_revision = revision
                    where project_id = %s""",
                (score.project_id,),
            )
            functions, revision = cursor.fetchone() or ((), 0)
        return NamedFunctions([function_from_json(item) for item in functions]), revision

    def recent(self, where: ObjectRef, columns: frozenset[str]) -> Iterator[list[Subject]]:
        before: int | None = None
        while True:
            with self._database.cursor() as cursor:
                cursor.execute(
                    """select id, seq from span
                        where project_id = %s and object_type = %s and object_id = %s
                          and seq > 0 and (%s::bigint is null or seq < %s)
                          and deleted_at is null
                        order by seq desc limit %s""",
                    (*where, before, before, PAGE),
                )
                ids: dict[str, int] = dict(cursor)
                found = read_subjects(cursor, where, list(ids), columns)
            if not ids:
                return
            before = min(ids.values())
            yield sorted(found.values(), key=lambda subject: -ids[subject.key.id])

    def defer(
        self, project_id: ProjectId, revision: int, deferred: Sequence[Deferred]
    ) -> int:
        counts = Counts()
        with self._database.cursor() as cursor:
            lock_revision(cursor, project_id, revision)
            locked = lock_rows(cursor, [later.assignment.subject.key for later in deferred])
            return record(
                cursor, locked, (), deferred, now=self._clock(), counts=counts
            )
