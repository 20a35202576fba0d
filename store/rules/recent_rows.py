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
from store.scoring.locked_rows import lock_rows
from store.scoring.record import record

PAGE = 500
"""Rows that are read at once."""

SEQ_MAX = 2**63 - 1
"""More than the place of any row."""


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
        object_no = self._database.numbers.object_no(where)
        before = SEQ_MAX
        while True:
            with self._database.cursor() as cursor:
                cursor.execute(
                    """select head.seq from span_head head
                        where head.object_no = %s and head.seq < %s and deleted_at is null
                        order by head.seq desc limit %s""",
                    (object_no, before, PAGE),
                )
                seqs = [seq for (seq,) in cursor]
                found = read_subjects(
                    cursor, where, object_no, seqs, columns, view="shown_span"
                )
            if not seqs:
                return
            before = seqs[-1]
            yield [found[seq] for seq in seqs if seq in found]

    def defer(
        self, project_id: ProjectId, revision: int, deferred: Sequence[Deferred]
    ) -> int:
        counts = Counts()
        with self._database.cursor() as cursor:
            lock_revision(cursor, project_id, revision)
            numbers = self._database.numbers
            locked = lock_rows(
                cursor, numbers, [later.assignment.subject for later in deferred]
            )
            return record(
                cursor, numbers, locked, (), deferred, now=self._clock(), counts=counts
            )
