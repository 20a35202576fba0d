"""Pages of whole traces, those with the newest versions first.

A trace's place is its lowest (version, root_span_id). Nothing is stored of traces: a page walks
down the versions of rows, and looks up the traces of the rows that it meets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flows.logs.fetch import XACT_MAX, TracePlace
from spans.ids import Xact
from store.btql.access import Pins
from store.btql.columns import Sql
from store.btql.pages import pinned
from store.btql.text import SqlText, SqlTexts, Statement, execute, row_of
from store.postgres.database import Cursor
from store.postgres.row_json import ROW_COLUMN_NAMES

FIRST_PLACE = TracePlace(Xact(XACT_MAX + 1), "")
"""Before all traces."""

ENTRIES_EACH = 2
ENTRIES_EACH_FILTERED = 1
ENTRIES_MORE = 50
"""Versions that are read at once: so many for each trace of the page, and these. Most traces
have a score span; few filters pass it."""

ROWS_MAX = 10_000
"""Rows of a page's traces, beyond which it gets no further trace: 20 MB of rows of 2 kB."""


# The versions that rows have, from `top` down; then, in the same range, the first versions of
# rows that were written again and whose present version the reader is past. The walk has seen
# all versions down to the floor. Each condition on `xact` is that of an index, which serves
# only statements that state it.
ENTRIES = """
    current_version as materialized (
      select head.seq, head.xact as version from span_head head{row}
       where head.object_no = {object} and head.deleted_at is null
         and head.xact > 0 and head.xact <= {top}{where}
       order by head.xact desc fetch first ({most}) rows with ties),
    reached as materialized (
      select case when count(*) >= {most} then min(version) else 0 end as least
        from current_version),
    first_version as materialized (
      select head.seq, head.first_xact as version from span_head head{row}
       where {former} and head.object_no = {object} and head.deleted_at is null
         and head.xact > head.first_xact and head.first_xact <= {top}
         and head.first_xact >= (select least from reached) and head.xact >= {after}
         and head.xact > {since}{where}
       order by head.first_xact desc fetch first ({most}) rows with ties),
    floor as materialized (
      select greatest(
               (select least from reached),
               (select case when count(*) >= {most} then min(version) else 0 end
                  from first_version)) as least),
    entry as materialized (
      select seq from current_version where version >= (select least from floor)
      union select seq from first_version where version >= (select least from floor))
"""


class PlacedTrace(NamedTuple):
    """A trace of a page: its place there, and how many of its rows are shown.

    `is_former`: it is at the place of its rows' first versions, since all of them have been
    written again above the reader's place, perhaps after the reader was there.
    """

    place: TracePlace
    is_former: bool
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePages:
    """The traces of one object, of which those rows count that pass `conditions`.

    `since` is a version up to which the reader saw all rows where they are, when it began.
    `pins`: ids that one of the conditions demands. All statements should see one snapshot.
    """

    cursor: Cursor
    object_no: int
    conditions: Sequence[Sql]
    pins: Pins | None
    since: Xact

    def page(self, after: TracePlace | None, limit: int) -> tuple[list[PlacedTrace], bool]:
        """The first traces after a place, in their order, and whether there are more.

        At most `limit` of them; fewer, but at least one, if they have more than ROWS_MAX rows.
        """
        traces: list[PlacedTrace] = []
        rows = 0
        for trace in self._traces(after or FIRST_PLACE, limit):
            rows += trace.rows
            if traces and (len(traces) == limit or rows > ROWS_MAX):
                return traces, True
            traces.append(trace)
        return traces, False

    def rows(
        self, traces: Sequence[PlacedTrace], after: TracePlace | None
    ) -> list[dict[str, Any]]:
        """The rows of the traces, by version and trace, newest first. A row's `xact` is the
        version that it is shown with."""
        texts = SqlTexts()
        conditions = [texts.of(one) for one in self.conditions]
        columns = (*ROW_COLUMN_NAMES, "first_xact")
        shown = [SqlText(f"shown_span.{name}") for name in columns]
        text = (
            f"select {', '.join(one.over('head') for one in shown)}"
            f" from {self._heads_of_trace(texts, _roots(traces, texts))}"
            f"{row_of('head', [*shown, *conditions])}{_where(conditions)}"
        )
        former = {trace.place.root_span_id for trace in traces if trace.is_former}
        found = [
            dict(zip(columns, row, strict=True))
            for row in self._read(text, texts)
        ]
        for row in found:
            root = row["root_span_id"]
            if root in former and (row["first_xact"], root) < (after or FIRST_PLACE):
                row["xact"] = row["first_xact"]
        found.sort(key=lambda row: (row["xact"], row["root_span_id"], row["seq"]), reverse=True)
        return found

    def _traces(self, after: TracePlace, limit: int) -> Iterator[PlacedTrace]:
        """The traces after a place, in their order."""
        top: int = after.xact
        while top >= 0:
            each = ENTRIES_EACH_FILTERED if self.conditions else ENTRIES_EACH
            found, floor = self._walk(top, after, limit * each + ENTRIES_MORE)
            # What lies below the floor has not been read completely.
            yield from sorted(
                (one for one in found if floor <= one.place.xact <= top and one.place < after),
                reverse=True,
            )
            top = floor - 1

    def _walk(self, top: int, after: TracePlace, most: int) -> tuple[list[PlacedTrace], int]:
        """The traces of the versions from `top` down to a floor, and the floor.

        A trace belongs to a version if one of its rows has it, or had it first. The floor is so
        low that at least `most` versions were met, or it is 0.
        """
        texts = SqlTexts()
        conditions = [texts.of(one) for one in self.conditions]
        text = (
            f"with {self._entries(texts, conditions, after, top, most)}"
            " select root_span_id, current, former, latest, number, (select least from floor)"
            " from (select distinct root_span_id from entry cross join lateral ("
            "select root_span_id from span where span.seq = entry.seq offset 0) body) trace"
            " cross join lateral (select min(head.xact) as current,"
            " min(head.first_xact) as former, max(head.xact) as latest, count(*) as number"
            f" from {self._heads_of_trace(texts, '(select trace.root_span_id) trace')}"
            f"{row_of('head', conditions)}{_where(conditions)}) place where number > 0"
        )
        rows = self._read(text, texts)
        traces = []
        for root, current, former, latest, number, _ in rows:
            is_former = latest > self.since and (current, root) >= after
            place = TracePlace(Xact(former if is_former else current), root)
            traces.append(PlacedTrace(place, is_former, number))
        return traces, rows[0][-1] if rows else 0

    def _read(self, text: str, texts: SqlTexts) -> list[tuple[Any, ...]]:
        statement = Statement(text=text, parameters=texts.parameters, is_prepared=True)
        return execute(self.cursor, statement).fetchall()

    def _entries(
        self, texts: SqlTexts, conditions: Sequence[SqlText], after: TracePlace, top: int,
        most: int,
    ) -> str:
        """The CTEs `entry`, with the places in the order of arrival of the rows that the walk
        meets, and `floor`."""
        number = texts.bind(self.object_no, "integer")
        if self.pins is not None:
            found = pinned(self.pins, number, texts)
            return f"floor as (select 0 as least), entry as materialized ({found})"
        return ENTRIES.format(
            object=number, top=texts.bind(top, "bigint"), most=texts.bind(most, "integer"),
            after=texts.bind(after.xact, "bigint"), since=texts.bind(self.since, "bigint"),
            row=row_of("head", conditions), where=_and(conditions),
            former="false" if after == FIRST_PLACE else "true",
        )

    def _heads_of_trace(self, texts: SqlTexts, traces: str) -> str:
        """What stands in FROM for the heads of the rows of traces."""
        number = texts.bind(self.object_no, "integer")
        return (
            f"{traces} cross join lateral"
            f" rows_of_trace({number}, trace.root_span_id) as member(seq)"
            " cross join lateral (select * from span_head"
            f" where span_head.object_no = {number} and span_head.seq = member.seq"
            " and span_head.deleted_at is null offset 0) head"
        )


def _roots(traces: Sequence[PlacedTrace], texts: SqlTexts) -> str:
    roots = texts.bind([one.place.root_span_id for one in traces], "text[]")
    return f"unnest({roots}) as trace(root_span_id)"


def _and(conditions: Sequence[SqlText]) -> str:
    return "".join(f" and {one.over('head')}" for one in conditions)


def _where(conditions: Sequence[SqlText]) -> str:
    return f" where true{_and(conditions)}" if conditions else ""
