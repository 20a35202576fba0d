"""The parts of a query as its text gives them, before `btql.query` checks them together."""

from __future__ import annotations

from dataclasses import dataclass

from btql.errors import Position
from btql.tree import TRUE, Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One field that a query selects. `expr` is None for the star, `*`."""

    expr: Expr | None
    alias: str | None
    at: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SortKey:
    expr: Expr
    descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a FROM clause. Only `shape => 'spans'` has a name."""

    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class FromClause:
    """What a query reads: `project_logs('id') spans`."""

    name: str
    arguments: tuple[Argument, ...]
    shape: str | None
    at: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """What the parser makes of one text.

    The grammar's start rule says which fields are set: `filter` sets `expr`, `items`, `order`
    and `source` set the field of their name, `sql` sets all that the text has.
    """

    expr: Expr = TRUE
    items: tuple[Item, ...] = ()
    order: tuple[SortKey, ...] = ()
    source: FromClause | None = None
    limit: str | None = None
    cursor: str | None = None
