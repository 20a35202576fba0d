"""Reads stored rows by the time at which they were created, for tests and replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from flows.automations.dated_rows import DatedRow
from spans.ids import RowSeq
from spans.row import ObjectRef
from store.postgres.database import Cursor, Database, follow_indexes
from store.postgres.row_views import read_subjects

PAGE = 1000
"""Rows that are read at once."""

# Score spans are read over: their scores stand in the scored rows too.
NEWEST = """
    select head.created, head.seq, row.seq is not null
      from (select created, seq from span_head
             where object_no = %(object)s and created > '-infinity'
               and (created, seq) < (%(before)s, %(seq)s)
             order by created desc, seq desc limit %(limit)s) head
      left join lateral (
        select seq from span where span.seq = head.seq and scored_seq is null offset 0) row
        on true
     order by head.created desc, head.seq desc
"""
# A follower has no run of its own, so it does not say when it ended.
SCORED_AT = """
    select asked.seq, max(done.finished_at)
      from unnest(%s::bigint[]) as asked(seq)
     cross join lateral (
       select finished_at from outcome
        where subject_seq = asked.seq and finished_at is not null offset 0) done
     group by asked.seq
"""


class DatedRows:
    """Implements flows.automations.dated_rows.DatedRowReader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(
        self, where: ObjectRef, columns: frozenset[str]
    ) -> Iterator[Sequence[DatedRow]]:
        """The rows page by page, each page read in a transaction of its own."""
        object_no = self._database.numbers.find_object(where)
        if object_no is None:
            return
        before: tuple[datetime | str, int] = ("infinity", 0)
        while True:
            with self._database.cursor() as cursor:
                found = _places(cursor, object_no, before)
                seqs = [seq for _, seq, is_shown in found if is_shown]
                subjects = read_subjects(cursor, where, object_no, seqs, columns)
            if not found:
                return
            before = found[-1][:2]
            yield [
                DatedRow(
                    id=subject.key.id, seq=seq, created=created, view=subject.view
                )
                for created, seq, _ in found
                if (subject := subjects.get(seq)) is not None and subject.has_base
            ]

    def scored_at(self, seqs: Sequence[RowSeq]) -> Mapping[RowSeq, datetime]:
        with self._database.cursor() as cursor:
            cursor.execute(SCORED_AT, (list(seqs),))
            return dict(cursor.fetchall())


def _places(
    cursor: Cursor, object_no: int, before: tuple[datetime | str, int]
) -> list[tuple[datetime, RowSeq, bool]]:
    follow_indexes(cursor)
    cursor.execute(
        NEWEST,
        {"object": object_no, "before": before[0], "seq": before[1], "limit": PAGE},
    )
    return cursor.fetchall()
