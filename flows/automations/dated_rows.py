"""Stored rows, as tests and replays of automations read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spans.ids import RowSeq
from spans.row import ObjectRef, RowView


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedRow:
    """A row that filters can be asked about. `view` has the columns that were asked for, and
    those that tell who made the row."""

    id: str
    seq: RowSeq
    created: datetime
    view: RowView


class DatedRowReader(Protocol):
    """Where stored rows are read."""

    def newest(
        self, where: ObjectRef, columns: frozenset[str]
    ) -> Iterator[Sequence[DatedRow]]:
        """The object's rows page by page, those that were created last first. Deleted rows,
        score spans and rows without a base are left out."""
        ...

    def scored_at(self, seqs: Sequence[RowSeq]) -> Mapping[RowSeq, datetime]:
        """When a scorer last finished with each of these rows. Rows without a score are left
        out."""
        ...
