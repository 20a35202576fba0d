"""Tells which of many filters are true for a row, without testing each of them.

Most filters of a project ask for an equal string, such as an environment or a model, or share
a condition such as `error is not null`. A filter that is a conjunction is tested only where one
of its parts is known to be true:

    metadata.env = 'prod' AND scores.x < 0.5   looked up by the row's metadata.env
    error IS NOT NULL AND metrics.tokens > 9   tested if `error IS NOT NULL` holds, once for all
    metrics.estimated_cost > 1                 tested if the row's estimated_cost is a number

The result is the same as that of testing every filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from btql.checks import kind_of
from btql.closure import compile_filter, compile_value
from btql.kinds import Kind
from btql.predicates import Read, Test
from btql.tree import And, Compare, Comparison, Expr, Literal, LiteralKind, Path
from btql.values import EXACT
from spans.row import RowView

NUMBERS = frozenset({int, float})
SHARED_MIN = 2
"""How many filters must share a condition, for it to be tested before them."""


@dataclass(frozen=True, slots=True)
class IndexedFilter:
    """A filter, its compiled test, and the numbers of those that have it."""

    expression: Expr
    test: Test
    nos: tuple[int, ...]


Entries: TypeAlias = "list[tuple[Test, tuple[int, ...]]]"


class FilterIndex:
    """Many filters. Immutable.

        index = FilterIndex([IndexedFilter(expression, compile_filter(expression), (7,))])
        index.true_for({"metadata": {"env": "prod"}})   # [7]
    """

    def __init__(self, filters: Iterable[IndexedFilter]) -> None:
        given = list(filters)
        shared = Counter(part for each in given for part in set(_parts(each.expression)))
        by_path: dict[Path, dict[str, Entries]] = {}
        by_part: dict[Expr, Entries] = {}
        by_number: dict[Path, Entries] = {}
        self._others: Entries = []
        for each in given:
            entry = each.test, each.nos
            parts = _parts(each.expression)
            if equality := next(filter(None, map(_equality, parts)), None):
                path, value = equality
                by_path.setdefault(path, {}).setdefault(value, []).append(entry)
                continue
            part = max(parts, key=lambda one: shared[one])
            if shared[part] >= SHARED_MIN:
                by_part.setdefault(part, []).append(entry)
            elif number := next(filter(None, map(_compared_to_number, parts)), None):
                by_number.setdefault(number, []).append(entry)
            else:
                self._others.append(entry)
        self._by_path: list[tuple[Read, dict[str, Entries]]] = [
            (compile_value(path), values) for path, values in by_path.items()
        ]
        self._by_number = [
            (compile_value(path), entries) for path, entries in by_number.items()
        ]
        self._by_part = [(compile_filter(part), found) for part, found in by_part.items()]

    @property
    def tests(self) -> int:
        """How many look-ups and tests a row takes that no filter of strings or of shared
        conditions is true for."""
        return (
            len(self._by_path) + len(self._by_part) + len(self._by_number) + len(self._others)
        )

    def true_for(self, row: RowView) -> list[int]:
        """The numbers of the filters that are true for the row, in no order."""
        found: list[int] = []
        for read, values in self._by_path:
            value = read(row)
            if type(value) is str and (entries := values.get(value)):
                _add_true(found, entries, row)
        for part, entries in self._by_part:
            if part(row) is True:
                _add_true(found, entries, row)
        for read, entries in self._by_number:
            if type(read(row)) in NUMBERS:
                _add_true(found, entries, row)
        _add_true(found, self._others, row)
        return found


def _add_true(found: list[int], entries: Entries, row: RowView) -> None:
    for test, nos in entries:
        if test(row) is True:
            found += nos


def _compared_to_number(part: Expr) -> Path | None:
    """The path, where the condition compares it with a number, and is true of numbers alone.
    Numbers beyond 2**53 compare in other ways."""
    match part:
        case Compare(
            op=Comparison.LT | Comparison.LE | Comparison.GT | Comparison.GE,
            left=Path() as path, right=Literal(kind=LiteralKind.NUMBER, value=value),
        ) if isinstance(value, int | float) and abs(value) < EXACT and (
            kind_of(path) is not Kind.TIME and path.column != "_xact_id"
        ):
            return path
        case _:
            return None


def _parts(expression: Expr) -> tuple[Expr, ...]:
    """Conditions that are all true where the expression is."""
    return expression.children if isinstance(expression, And) else (expression,)


def _equality(part: Expr) -> tuple[Path, str] | None:
    """The path and the string, where the condition is that they are equal, and only equal
    strings are: times and versions compare in other ways."""
    match part:
        case Compare(
            op=Comparison.EQ, left=Path() as path,
            right=Literal(kind=LiteralKind.STRING, value=str(value)),
        ) if kind_of(path) is not Kind.TIME and path.column != "_xact_id":
            return path, value
        case _:
            return None
