"""One page of rows as one statement: which rows first, by what is narrow; then their columns.

The parts of the statement are kept apart by what PostgreSQL's planner does not look through (a
materialised CTE, OFFSET 0), so that it cannot replace the chosen way by one that reads more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from btql.tree import Comparison
from flows.logs.fetch import TracePlace
from spans.ids import RowSeq, Xact
from store.btql.access import Pins, ScoreOrder
from store.btql.columns import Sql
from store.btql.sort import SortColumn
from store.btql.text import KEYS, SqlText, SqlTexts, Statement, row_of
from store.postgres.score_index import BLOCK, name_hash

_INDEXED = {
    "seq": "true", "xact": "{head}.xact > 0", "created": "{head}.created > '-infinity'",
}
"""The condition of the index of `span_head` that begins with the object and this column. It
always holds, and the index serves only statements that state it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Looks at all rows, along the index of `column`; no more of them than the page needs, if
    that is the page's order."""

    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ByIds:
    """Looks at the rows with these ids."""

    pins: Pins


@dataclass(frozen=True, slots=True, kw_only=True)
class InWindow:
    """Collects the rows for which `condition` holds, which bounds `column`, and looks at them.
    """

    column: str
    condition: Sql


class ScoreEntry(NamedTuple):
    """An entry of the index of scores: a number, and the place of a row that may show it."""

    value: float
    seq: RowSeq
    object_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ByScore:
    """Looks at the rows of these entries that show the entry's number as the score `name`. An
    entry of a computed score may be hidden by a logged one."""

    name: str
    entries: Sequence[ScoreEntry]


Way: TypeAlias = "Walk | ByIds | InWindow | ByScore"
"""How a statement finds rows. Rows that are deleted are not found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesGiven:
    """The traces that a reader has: those whose place was `down_to` or above when it read them.

    It then saw all versions up to `settled`, and perhaps some later ones. The places were those
    of the rows that pass `conditions`.
    """

    down_to: TracePlace
    settled: Xact
    conditions: Sequence[Sql]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOf:
    """The first `limit` rows of the objects for which `conditions` hold, in the order of
    `order`. Expressions are over the view `shown_span`."""

    object_nos: Sequence[int]
    way: Way
    conditions: Sequence[Sql]
    order: Sequence[SortColumn]
    limit: int
    unless: TracesGiven | None = None
    """Leaves out the rows of these traces. A trace that was written again since may come."""

    def rows(self, columns: Sequence[str | Sql]) -> Statement:
        """The statement of the page's rows: `columns`, which are names of columns or
        expressions, then the values that order them."""
        texts = SqlTexts()
        limit = texts.bind(self.limit, "integer")
        conditions = [texts.of(one) for one in self.conditions]
        places = [texts.of(one.sql) for one in self.order]
        shown = [
            SqlText(f"shown_span.{one}") if isinstance(one, str) else texts.of(one)
            for one in columns
        ]
        looked_at = [
            self._looked_at(index, number, places, texts)
            for index, number in enumerate(self.object_nos)
        ]
        if self.unless is not None:
            conditions.append(_not_given(self.unless, texts))
        parts = [self._part(one, conditions, places, limit) for one in looked_at]
        page = parts[0] if len(parts) == 1 else (
            f"select * from ({' union all '.join(f'({part})' for part in parts)}) every"
            f" order by {self._order()} limit {limit}"
        )
        with_found = ", ".join(one.collected for one in looked_at if one.collected)
        text = (
            f"{f'with {with_found} ' if with_found else ''}"
            f"select {', '.join(one.over('page') for one in shown)}"
            f"{''.join(f', page.place_{i}' for i in range(len(places)))}"
            f" from ({page}) page{row_of('page', shown)} order by {self._order('page.')}"
        )
        is_prepared = not isinstance(self.way, InWindow)
        return Statement(text=text, parameters=texts.parameters, is_prepared=is_prepared)

    def _part(
        self, head: _Head, conditions: Sequence[SqlText], places: Sequence[SqlText], limit: str
    ) -> str:
        """The keys and places of the page's rows, as if there were one object."""
        values = [one.over("head") for one in places]
        named = "".join(f", {value} as place_{i}" for i, value in enumerate(values))
        return (
            f"select {', '.join(f'head.{name}' for name in KEYS)}{named}"
            f" from {head.source} head{row_of('head', [*conditions, *places])}"
            f" where {' and '.join([head.where, *(one.over('head') for one in conditions)])}"
            f" order by {self._order_of(values)} limit {limit}"
        )

    def _looked_at(
        self, index: int, object_no: int, places: Sequence[SqlText], texts: SqlTexts
    ) -> _Head:
        """The heads of an object's rows that are looked at."""
        number = texts.bind(object_no, "integer")
        match self.way:
            case Walk(column=column):
                return _Head("span_head", _is_head("head", number, column), "")
            case InWindow(column=column, condition=condition):
                found = (
                    f"select {', '.join(KEYS)} from span_head"
                    f" where {_is_head('span_head', number, column)}"
                    f" and {texts.of(condition).over('span_head')}"
                )
            case ByIds(pins=pins):
                found = pinned(pins, number, texts)
            case ByScore(name=score, entries=entries):
                own = [one for one in entries if one.object_no == object_no]
                found = _shown_with(score, own, number, texts)
        name = f"found_{index}"
        collected = f"{name} as materialized ({found})"
        if any(one.body_columns for one in places):
            return _Head(name, "true", collected)
        # Sorted while they are narrow. Their bodies are then read one by one, until the page is
        # full.
        order = self._order_of([one.over(name) for one in places])
        return _Head(f"(select * from {name} order by {order} offset 0)", "true", collected)

    def _order(self, prefix: str = "") -> str:
        return self._order_of([f"{prefix}place_{i}" for i in range(len(self.order))])

    def _order_of(self, values: Iterable[str]) -> str:
        return ", ".join(
            f"{value} {'desc' if one.descending else 'asc'}"
            for one, value in zip(self.order, values, strict=True)
        )


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands in FROM and WHERE for the heads of rows, and the CTE that collects them."""

    source: str
    where: str
    collected: str


def count_in_window(object_nos: Iterable[int], window: InWindow, most: int) -> Statement:
    """The statement that counts the rows in a window, up to `most` of each object."""
    texts = SqlTexts()
    limit = texts.bind(most, "integer")
    condition = texts.of(window.condition).over("span_head")
    counts = []
    for object_no in object_nos:
        number = texts.bind(object_no, "integer")
        counts.append(
            "(select count(*) from (select from span_head"
            f" where {_is_head('span_head', number, window.column)} and {condition}"
            f" limit {limit}) counted)"
        )
    return Statement(
        text=f"select {' + '.join(counts)}", parameters=texts.parameters, is_prepared=False
    )


def _not_given(given: TracesGiven, texts: SqlTexts) -> SqlText:
    """The condition that the reader may not have the row's trace yet.

    It has the trace if no row of it had a lower place than `down_to`. A row that has a version
    above `settled` by now may have had any version from its first one on, and may have passed
    the conditions then, or not have been deleted.
    """
    place = (
        f"({texts.bind(given.down_to.xact, 'bigint')},"
        f" {texts.bind(given.down_to.root_span_id, 'text')})"
    )
    also = "".join(f" and {texts.of(one).over('mate', 'mate')}" for one in given.conditions)
    trace = 'shown_span.root_span_id collate "C"'
    return SqlText(
        f"((shown_span.xact, {trace}) < {place} or exists ("
        "select from (select shown_span.object_no, seq from"
        " rows_of_trace(shown_span.object_no, shown_span.root_span_id) as place(seq)) asked"
        " cross join lateral (select * from shown_span row_of_mate"
        " where row_of_mate.object_no = asked.object_no and row_of_mate.seq = asked.seq"
        " offset 0) mate"
        f" where case when mate.xact > {texts.bind(given.settled, 'bigint')}"
        f" then (mate.first_xact, {trace}) < {place}"
        f" else mate.deleted_at is null and (mate.xact, {trace}) < {place}{also} end))"
    )


def _is_head(head: str, number: str, column: str) -> str:
    indexed = _INDEXED[column].format(head=head)
    return f"{head}.object_no = {number} and {head}.deleted_at is null and {indexed}"


_BOUNDS = {
    Comparison.EQ: "=", Comparison.IS: "=", Comparison.LT: "<=", Comparison.LE: "<=",
    Comparison.GT: ">=", Comparison.GE: ">=",
}
"""Numbers on both sides of a bound may be one double: only the row says on which side it is."""


def score_entries(
    object_no: int, score: ScoreOrder, after: ScoreEntry | None, *, descending: bool, most: int
) -> Statement:
    """The statement of an object's first `most` entries of a score after an entry, each in the
    form of ScoreEntry.

    Each block of the index is in order, and holds some of the first entries: the statement goes
    from block to block, and merges.
    """
    texts = SqlTexts()
    limit = texts.bind(most, "integer")
    of_score = (
        f"object_no = {texts.bind(object_no, 'integer')}"
        f" and name_hash = {texts.bind(name_hash(score.name), 'integer')}"
    )
    order, beyond = ("desc", "<") if descending else ("asc", ">")
    bounds = "".join(
        f" and value {_BOUNDS[op]} {texts.bind(value, 'double precision')}"
        for op, value in score.bounds
    )
    if after is not None:
        value = texts.bind(after.value, "double precision")
        seq = texts.bind(after.seq, "bigint")
        bounds += f" and (value, seq) {beyond} ({value}, {seq})"
    text = (
        f"with recursive block(number) as ("
        f"(select {BLOCK} from span_score where {of_score} order by {BLOCK} limit 1)"
        f" union all select (select {BLOCK} from span_score where {of_score}"
        f" and {BLOCK} > block.number order by {BLOCK} limit 1)"
        " from block where block.number is not null)"
        f" select entry.value, entry.seq, {object_no} from block cross join lateral ("
        f"select value, seq from span_score where {of_score} and {BLOCK} = block.number"
        f"{bounds} order by value {order}, seq {order} limit {limit}) entry"
        f" where block.number is not null"
        f" order by entry.value {order}, entry.seq {order} limit {limit}"
    )
    return Statement(text=text, parameters=texts.parameters, is_prepared=True)


def _shown_with(
    name: str, entries: Sequence[ScoreEntry], number: str, texts: SqlTexts
) -> str:
    values = texts.bind([one.value for one in entries], "double precision[]")
    seqs = texts.bind([one.seq for one in entries], "bigint[]")
    score = f"shown.scores -> {texts.bind(name, 'text')}"
    return (
        f"select {', '.join(f'scored.{name}' for name in KEYS)}"
        f" from (select distinct * from unnest({values}, {seqs}) as one(value, seq)) entry"
        f" cross join lateral (select {', '.join(KEYS)} from span_head"
        f" where {_is_head('span_head', number, 'seq')} and span_head.seq = entry.seq"
        " offset 0) scored"
        " cross join lateral (select scores from shown_span"
        f" where shown_span.object_no = {number} and shown_span.seq = entry.seq"
        " offset 0) shown"
        f" where case when jsonb_typeof({score}) = 'number'"
        f" then ({score})::double precision = entry.value end"
    )


def pinned(pins: Pins, number: str, texts: SqlTexts) -> str:
    """The statement that finds the keys of the rows with these ids, of the object `number`."""
    wanted = texts.bind(list(pins.values), "text[]")
    places = (
        f"rows_of_trace({number}, wanted.value) as place(seq)"
        if pins.column == "root_span_id" else
        f"(select seq from span where span.{pins.column} = wanted.value"
        f" and span.object_no = {number} offset 0) place"
    )
    return (
        f"select {', '.join(f'pinned.{name}' for name in KEYS)}"
        f" from unnest({wanted}) as wanted(value)"
        f" cross join lateral {places}"
        f" cross join lateral (select {', '.join(KEYS)} from span_head"
        f" where {_is_head('span_head', number, 'seq')} and span_head.seq = place.seq"
        " offset 0) pinned"
    )
