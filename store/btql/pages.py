"""One page of rows as one statement: which rows first, by what is narrow; then their columns.

The parts of the statement are kept apart by what PostgreSQL's planner does not look through (a
materialised CTE, OFFSET 0), so that it cannot replace the chosen way by one that reads more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy.engine import make_url

from store.btql.access import Pins
from store.btql.columns import Sql
from store.btql.sort import SortColumn

_DIALECT = make_url("postgresql+psycopg://").get_dialect()()
_COLUMN = re.compile(r"\bshown_span\.(\w+)")
_PARAMETER = re.compile(r"%\((\w+)\)s")

_KEYS = ("object_no", "seq", "xact", "created")
"""The columns of a row that its head has: they are known before its body is read."""

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


Way: TypeAlias = "Walk | ByIds | InWindow"
"""How a statement finds rows. Rows that are deleted are not found."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement's text and its parameters, as psycopg takes them.

    `is_prepared`: its plan may be kept, since it depends on no numbers of rows.
    """

    text: str
    parameters: Mapping[str, Any]
    is_prepared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOf:
    """The first `limit` rows of the objects for which `conditions` hold, in the order of
    `order`. Expressions are over the view `shown_span`."""

    object_nos: Sequence[int]
    way: Way
    conditions: Sequence[Sql]
    order: Sequence[SortColumn]
    limit: int

    def rows(self, columns: Sequence[str | Sql]) -> Statement:
        """The statement of the page's rows: `columns`, which are names of columns or
        expressions, then the values that order them."""
        texts = _Texts()
        conditions = [texts.of(one) for one in self.conditions]
        places = [texts.of(one.sql) for one in self.order]
        shown = [
            _Text(f"shown_span.{one}") if isinstance(one, str) else texts.of(one)
            for one in columns
        ]
        looked_at = [
            self._looked_at(index, number, places, texts)
            for index, number in enumerate(self.object_nos)
        ]
        parts = [self._part(one, conditions, places, texts) for one in looked_at]
        page = parts[0] if len(parts) == 1 else (
            f"select * from ({' union all '.join(f'({part})' for part in parts)}) every"
            f" order by {self._order()} limit {texts.limit(self.limit)}"
        )
        with_found = ", ".join(one.collected for one in looked_at if one.collected)
        text = (
            f"{f'with {with_found} ' if with_found else ''}"
            f"select {', '.join(one.over('page') for one in shown)}"
            f"{''.join(f', page.place_{i}' for i in range(len(places)))}"
            f" from ({page}) page {_row_of('page', shown)} order by {self._order('page.')}"
        )
        is_prepared = not isinstance(self.way, InWindow)
        return Statement(text, texts.parameters, is_prepared)

    def _part(
        self, head: _Head, conditions: Sequence[_Text], places: Sequence[_Text], texts: _Texts
    ) -> str:
        """The keys and places of the page's rows, as if there were one object."""
        values = [one.over("head") for one in places]
        named = "".join(f", {value} as place_{i}" for i, value in enumerate(values))
        return (
            f"select {', '.join(f'head.{name}' for name in _KEYS)}{named}"
            f" from {head.source} head {_row_of('head', [*conditions, *places])}"
            f" where {' and '.join([head.where, *(one.over('head') for one in conditions)])}"
            f" order by {self._order_of(values)} limit {texts.limit(self.limit)}"
        )

    def _looked_at(
        self, index: int, object_no: int, places: Sequence[_Text], texts: _Texts
    ) -> _Head:
        """The heads of an object's rows that are looked at."""
        number = texts.bind(object_no, "integer")
        match self.way:
            case Walk(column=column):
                return _Head("span_head", _is_head("head", number, column), "")
            case InWindow(column=column, condition=condition):
                found = (
                    f"select {', '.join(_KEYS)} from span_head"
                    f" where {_is_head('span_head', number, column)}"
                    f" and {texts.of(condition).over('span_head')}"
                )
            case ByIds(pins=pins):
                found = _pinned(pins, number, texts)
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
    texts = _Texts()
    condition = texts.of(window.condition).over("span_head")
    counts = []
    for object_no in object_nos:
        number = texts.bind(object_no, "integer")
        counts.append(
            "(select count(*) from (select from span_head"
            f" where {_is_head('span_head', number, window.column)} and {condition}"
            f" limit {texts.limit(most)}) counted)"
        )
    return Statement(f"select {' + '.join(counts)}", texts.parameters, is_prepared=False)


def _is_head(head: str, number: str, column: str) -> str:
    indexed = _INDEXED[column].format(head=head)
    return f"{head}.object_no = {number} and {head}.deleted_at is null and {indexed}"


def _pinned(pins: Pins, number: str, texts: _Texts) -> str:
    wanted = texts.bind(list(pins.values), "text[]")
    return (
        f"select {', '.join(f'pinned.{name}' for name in _KEYS)}"
        f" from unnest({wanted}) as wanted(value)"
        " cross join lateral (select seq from span"
        f" where span.{pins.column} = wanted.value and span.object_no = {number}"
        " offset 0) place"
        f" cross join lateral (select {', '.join(_KEYS)} from span_head"
        f" where {_is_head('span_head', number, 'seq')} and span_head.seq = place.seq"
        " offset 0) pinned"
    )


def _row_of(head: str, read: Iterable[_Text]) -> str:
    """The join that reads, by the key in `head`, what else of the row is read."""
    names = dict.fromkeys(name for one in read for name in one.body_columns)
    if not names:
        return ""
    return (
        f"cross join lateral (select {', '.join(f'shown_span.{name}' for name in names)}"
        f" from shown_span where shown_span.object_no = {head}.object_no"
        f" and shown_span.seq = {head}.seq offset 0) row"
    )


@dataclass(frozen=True, slots=True)
class _Text:
    """An expression over `shown_span` as text. It holds no text of a user: that is bound."""

    text: str

    @property
    def body_columns(self) -> list[str]:
        return [name for name in _COLUMN.findall(self.text) if name not in _KEYS]

    def over(self, head: str) -> str:
        """The expression where the row's keys stand in `head`, and all else in `row`."""
        return _COLUMN.sub(
            lambda found: f"{head if found[1] in _KEYS else 'row'}.{found[1]}", self.text
        )


class _Texts:
    """Turns expressions into text, and gathers their parameters, each under its own name."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def of(self, expression: Sql) -> _Text:
        compiled = expression.compile(
            dialect=_DIALECT, compile_kwargs={"render_postcompile": True}
        )
        prefix = f"e{len(self.parameters)}_"
        self.parameters |= {prefix + name: value for name, value in compiled.params.items()}
        text = _PARAMETER.sub(lambda found: f"%({prefix}{found[1]})s", str(compiled))
        return _Text(f"({text})")

    def bind(self, value: object, kind: str) -> str:
        """The text of a parameter with this value and of this type."""
        name = f"b{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s::{kind}"

    def limit(self, limit: int) -> str:
        self.parameters["limit"] = limit
        return "%(limit)s::integer"
