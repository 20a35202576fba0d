"""The parts of a query, as its text has them."""

from __future__ import annotations

from dataclasses import dataclass

from btql.errors import Position
from btql.tree import TRUE, Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One of the fields that a query selects; without an expression it is the star."""

    expr: Expr | None
    alias: str | None
    at: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SortKey:
    expr: Expr
    descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One of a source's arguments; `shape => 'spans'` has a name."""

    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class FromClause:
    """`project_logs('id') spans`."""

    name: str
    arguments: tuple[Argument, ...]
    shape: str | None
    at: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """What one start rule of the grammar gives: a filter fills `expr`, and so on."""

    expr: Expr = TRUE
    items: tuple[Item, ...] = ()
    order: tuple[SortKey, ...] = ()
    source: FromClause | None = None
    limit: str | None = None
    cursor: str | None = None
