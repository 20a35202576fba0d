"""What a filter reads of a row: for planning what to load, and for showing what it saw."""

from __future__ import annotations

from btql.tree import Expr, Path, children_of


def paths_read(expr: Expr) -> frozenset[tuple[str | int, ...]]:
    """Every path whose value the expression looks at: a column, then keys and indexes."""
    if isinstance(expr, Path):
        return frozenset({(expr.column, *expr.keys)})
    return frozenset().union(*(paths_read(child) for child in children_of(expr)))


def columns_read(expr: Expr) -> frozenset[str]:
    """Every column whose value the expression looks at."""
    return frozenset(str(path[0]) for path in paths_read(expr))
