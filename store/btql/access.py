"""How a query finds its rows: by ids that it names, inside of a window, or along an index.

PostgreSQL's planner would choose by what it believes of the tables, and its beliefs are wrong
where a project is new or larger than others: the same query would then read a whole project.
So the way is chosen here, from the query alone, and the statement leaves the planner no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from btql.clauses import SortKey
from btql.closure import version_of
from btql.paths import paths_read
from btql.tree import (
    And,
    Compare,
    Comparison,
    Expr,
    In,
    IsNull,
    Literal,
    LiteralKind,
    Not,
    Path,
)
from store.btql.compare import seq_of

FOUND_BY = ("id", "span_id", "root_span_id")
"""Columns whose indexes find rows, the most selective one first."""

ORDERED_BY = {"_pagination_key": "seq", "_xact_id": "xact", "created": "created"}
"""The columns that rows are ordered by in an index, and their names in `span_head`."""

_EQUAL = (Comparison.EQ, Comparison.IS)
_FROM_BELOW = (*_EQUAL, Comparison.GT, Comparison.GE)
_MIRRORED = {
    Comparison.LT: Comparison.GT, Comparison.LE: Comparison.GE,
    Comparison.GT: Comparison.LT, Comparison.GE: Comparison.LE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The only values that a column of FOUND_BY has in the rows of an answer."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Conditions that bound a column of ORDERED_BY, by its name in `span_head`.

    `is_closed`: one of them bounds it from below. Most windows that are not hold nearly all
    rows.
    """

    column: str
    bounds: tuple[Expr, ...]
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOrder:
    """The score that rows are sorted by, and the bounds of its number in the rows that pass.

    `has_nulls`: rows without the score may pass too.
    """

    name: str
    bounds: tuple[tuple[Comparison, float], ...]
    has_nulls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a query says about where its rows are.

    `follows` is the column of `span_head` whose index has the rows in the query's order.
    """

    pins: Pins | None
    windows: tuple[Window, ...]
    follows: str | None
    score: ScoreOrder | None
    """Set if rows are sorted by one score and nothing else."""

    @property
    def is_bounded(self) -> bool:
        """Whether ids or a window bound the rows that are looked at."""
        return self.pins is not None or any(one.is_closed for one in self.windows)


def access_of(where: Expr, sort: tuple[SortKey, ...]) -> Access:
    """How the rows that pass `where` can be found, in the order of `sort`."""
    conditions = tuple(_conditions(where))
    return Access(
        pins=_pins(conditions), windows=tuple(_windows(conditions)), follows=followed(sort),
        score=_score_order(conditions, sort),
    )


def followed(sort: tuple[SortKey, ...]) -> str | None:
    """The column of `span_head` that has rows in this order; None if none has."""
    if not sort:
        return "seq"
    first = sort[0].expr
    if len(sort) > 1 or not isinstance(first, Path) or first.keys:
        return None
    return ORDERED_BY.get(first.column)


def _score_order(conditions: Sequence[Expr], sort: tuple[SortKey, ...]) -> ScoreOrder | None:
    match sort:
        case (SortKey(expr=Path(column="scores", keys=(str() as name,)) as score),):
            pass
        case _:
            return None
    bounds = tuple(
        (one.op, float(one.right.value)) for one in conditions
        if isinstance(one, Compare) and one.left == score and isinstance(one.right, Literal)
        and one.right.kind is LiteralKind.NUMBER and isinstance(one.right.value, int | float)
    )
    has_nulls = not bounds and Not(item=IsNull(item=score)) not in conditions
    return ScoreOrder(name=name, bounds=bounds, has_nulls=has_nulls)


def _conditions(where: Expr) -> Iterator[Expr]:
    """The conditions that all rows of the answer pass."""
    if isinstance(where, And):
        for child in where.children:
            yield from _conditions(child)
    else:
        yield where


def _pins(conditions: Iterable[Expr]) -> Pins | None:
    found = {pins.column: pins for one in conditions if (pins := _pin(one)) is not None}
    return next((found[name] for name in FOUND_BY if name in found), None)


def _pin(condition: Expr) -> Pins | None:
    match condition:
        case Compare(op=op, left=Path(column=column), right=Literal() as constant) if (
            op in _EQUAL
        ):
            constants: tuple[Literal, ...] = (constant,)
        case In(item=Path(column=column), options=constants):
            pass
        case _:
            return None
    if column not in FOUND_BY:
        return None
    # No row has an id that is not a string.
    values = [str(one.value) for one in constants if one.kind is LiteralKind.STRING]
    return Pins(column=column, values=tuple(dict.fromkeys(values)))


def _windows(conditions: Iterable[Expr]) -> Iterator[Window]:
    bounds: dict[str, list[tuple[Expr, bool]]] = {}
    for one in conditions:
        if isinstance(one, Compare) and (bound := _bound(one)) is not None:
            column, is_from_below = bound
            bounds.setdefault(column, []).append((one, is_from_below))
    for column, found in bounds.items():
        yield Window(
            column=ORDERED_BY[column], bounds=tuple(one for one, _ in found),
            is_closed=any(is_from_below for _, is_from_below in found),
        )


def _bound(condition: Compare) -> tuple[str, bool] | None:
    """The column that the comparison bounds, and whether from below; None if it bounds none."""
    op, left, right = condition.op, condition.left, condition.right
    if left == Path(column="created") and not paths_read(right):
        return "created", op in _FROM_BELOW
    if right == Path(column="created") and not paths_read(left):
        return "created", _MIRRORED.get(op, op) in _FROM_BELOW
    if not isinstance(right, Literal):
        return None
    if left == Path(column="_xact_id") and version_of(right) is not None:
        return "_xact_id", op in _FROM_BELOW
    if left == Path(column="_pagination_key") and seq_of(str(right.value)) is not None:
        return "_pagination_key", op in _FROM_BELOW
    return None
