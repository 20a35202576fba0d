"""Pages of rows in the order of one score, found by the index of scores.

They are the same as those that sorting all rows would give: rows in the order of the score and
then of their places, and at the end those without the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from heapq import nlargest, nsmallest
from typing import Any

from sqlalchemy import BigInteger, literal

from spans.ids import RowSeq
from store.btql.access import ScoreOrder
from store.btql.columns import Sql
from store.btql.pages import ByScore, PageOf, ScoreEntry, Walk, score_entries
from store.btql.text import execute
from store.postgres.database import Cursor

ENTRIES_MORE = 20
ENTRIES_MAX = 5_000
"""Entries that are read beyond a page's rows, since some rows are hidden; and the most that are
read at once, where a filter leaves out many."""

NUMBER: tuple[object, ...] = (0, 1)
WITHOUT: tuple[object, ...] = (1, 3, Decimal(0), "")
"""What `store.btql.sort` makes of a number, before the number itself: not null, and its type;
and of a missing score: null, the last type, no number, no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesByScore:
    """A page of rows in the order of `page.order`, which is that of `score` alone."""

    cursor: Cursor
    score: ScoreOrder
    page: PageOf

    def rows(
        self, columns: Sequence[str | Sql], place: Sequence[object] | None
    ) -> list[tuple[Any, ...]]:
        """The rows after `place`, which are the values of a cursor; each as of `PageOf.rows`.
        """
        rows: list[tuple[Any, ...]] = []
        is_scored = place is None or place[0] == 0
        if is_scored:
            rows = self._scored(columns, None if place is None else _entry_at(place))
        if len(rows) < self.page.limit and self.score.has_nulls:
            before = None if is_scored or place is None else place[-1]
            rows += self._without(columns, before, self.page.limit - len(rows))
        return rows

    def _scored(
        self, columns: Sequence[str | Sql], after: ScoreEntry | None
    ) -> list[tuple[Any, ...]]:
        """Rows with the score. There are fewer than the page's limit only if no more are left.
        """
        rows: list[tuple[Any, ...]] = []
        *_, number, _, place = self.page.order
        most = self.page.limit + ENTRIES_MORE
        while len(rows) < self.page.limit:
            entries = self._entries(after, most)
            if entries:
                part = replace(
                    self.page, way=ByScore(name=self.score.name, entries=entries),
                    order=[number, place], limit=self.page.limit - len(rows),
                )
                found = execute(self.cursor, part.rows(columns)).fetchall()
                rows += [(*row[:-2], *NUMBER, row[-2], "", row[-1]) for row in found]
            if len(entries) < most:
                break
            after = entries[-1]
            most = min(2 * most, ENTRIES_MAX)
        return rows

    def _entries(self, after: ScoreEntry | None, most: int) -> list[ScoreEntry]:
        """The first `most` entries of all objects after an entry."""
        found = [
            ScoreEntry(*row)
            for number in self.page.object_nos
            for row in execute(
                self.cursor,
                score_entries(
                    number, self.score, after, descending=self._descends, most=most
                ),
            ).fetchall()
        ]
        return nlargest(most, found) if self._descends else nsmallest(most, found)

    def _without(
        self, columns: Sequence[str | Sql], before: object, limit: int
    ) -> list[tuple[Any, ...]]:
        """Rows without the score, after the place `before` in the order of arrival."""
        is_null, *_, place = self.page.order
        conditions = [*self.page.conditions, is_null.sql == literal(1)]
        if isinstance(before, int):
            bound = literal(before, BigInteger)
            conditions.append(place.sql < bound if self._descends else place.sql > bound)
        part = replace(
            self.page, way=Walk(column="seq"), conditions=conditions, order=[place], limit=limit
        )
        found = execute(self.cursor, part.rows(columns)).fetchall()
        return [(*row[:-1], *WITHOUT, row[-1]) for row in found]

    @property
    def _descends(self) -> bool:
        return self.page.order[-1].descending


def _entry_at(place: Sequence[object]) -> ScoreEntry:
    *_, number, _, seq = place
    return ScoreEntry(float(str(number)), RowSeq(int(str(seq))), 0)
