"""Which paths and columns of a row an expression reads.

Matching loads the columns that its filters read; `explain` shows the values of the paths.
"""

from __future__ import annotations

from btql.tree import Expr, Path, children_of


def paths_read(expr: Expr) -> frozenset[tuple[str | int, ...]]:
    """Every path that the expression reads: a column, then keys and indexes."""
    if isinstance(expr, Path):
        return frozenset({(expr.column, *expr.keys)})
    return frozenset().union(*(paths_read(child) for child in children_of(expr)))


def columns_read(expr: Expr) -> frozenset[str]:
    """Every column that the expression reads."""
    return frozenset(str(path[0]) for path in paths_read(expr))
