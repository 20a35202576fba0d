"""Stored rows as a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from flows.automations.dated_rows import DatedRow
from spans.ids import RowSeq
from spans.row import ObjectRef

PAGE = 3


class ListedRows:
    """Implements flows.automations.dated_rows.DatedRowReader. Adds each page that is read to
    `pages_read`."""

    def __init__(
        self, rows: Sequence[DatedRow], scored_at: Mapping[RowSeq, datetime] | None = None
    ) -> None:
        self._rows = sorted(rows, key=lambda row: (row.created, row.seq), reverse=True)
        self._scored_at = scored_at or {}
        self.pages_read = 0

    def newest(
        self, where: ObjectRef, columns: frozenset[str]
    ) -> Iterator[Sequence[DatedRow]]:
        for start in range(0, len(self._rows), PAGE):
            self.pages_read += 1
            yield self._rows[start:start + PAGE]

    def scored_at(self, seqs: Sequence[RowSeq]) -> Mapping[RowSeq, datetime]:
        return {seq: self._scored_at[seq] for seq in seqs if seq in self._scored_at}
