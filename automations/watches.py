"""The active automations of a project, ready to tell which of them match a row.

Automations that have the same filter share its evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from automations.filter_index import FilterIndex, IndexedFilter
from automations.model import Automation
from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.paths import columns_read
from btql.predicates import Test
from btql.tree import Expr
from spans.ids import Xact
from spans.row import RowView, is_made_by_scorer

FILTERS_KEPT = 20_000
"""Compiled filters that a process keeps: more than the automations of a large project."""

WATCHES_A_TEST = 20
"""A row may match all watches, and noting one of them takes a twentieth of a test."""

ALWAYS_READ = frozenset({"span_attributes"})
"""The columns that are read whatever the filters are: they tell the rows that scorers made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """An automation that watches, since it was made or resumed or its filter changed.

    `no` names it among all watches that ever were. Rows count for it that are stored after
    `start_xact`. `has_baseline` is False until it has been looked which rows it matched when
    it began.
    """

    no: int
    automation_no: int
    start_xact: Xact
    has_baseline: bool
    automation: Automation


@dataclass(frozen=True, slots=True)
class _Filter:
    """A compiled filter and the columns that it reads."""

    expression: Expr
    test: Test
    columns: frozenset[str]


class Watches:
    """The watches of one project. Immutable.

    `tests` is about how many tests of filters each row takes, and `columns` are those that the
    filters read.

        watches = Watches([watch])
        watches.matching({"error": "out of memory", "span_attributes": {}})   # (watch.no,)
    """

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._by_no = {watch.no: watch for watch in watches}
        self._automations = {
            watch.automation_no: watch.automation for watch in self._by_no.values()
        }
        by_filter: dict[str, list[int]] = {}
        for watch in self._by_no.values():
            by_filter.setdefault(watch.automation.btql_filter.strip(), []).append(watch.no)
        self._always = tuple(by_filter.pop("", ()))   # an empty filter matches every row
        # A filter that does not compile any more matches nothing.
        compiled = [
            (each, tuple(nos)) for text, nos in by_filter.items() if (each := _compiled(text))
        ]
        self._index = FilterIndex(
            IndexedFilter(each.expression, each.test, nos) for each, nos in compiled
        )
        self.tests = self._index.tests + len(self._by_no) // WATCHES_A_TEST
        self.columns = ALWAYS_READ.union(*(each.columns for each, _ in compiled))

    def __len__(self) -> int:
        return len(self._by_no)

    def watch(self, no: int) -> Watch:
        """The watch of that number. Raises KeyError."""
        return self._by_no[no]

    def automation(self, automation_no: int) -> Automation:
        """The active automation of that number. Raises KeyError."""
        return self._automations[automation_no]

    @property
    def without_baseline(self) -> frozenset[int]:
        """The watches of which it has not been looked which rows they matched at first."""
        return frozenset(no for no, watch in self._by_no.items() if not watch.has_baseline)

    def matching(self, row: RowView) -> tuple[int, ...]:
        """The watches whose filters are true for the row, in order. No watch matches a row
        that a scorer made: its score stands in the scored row too."""
        if is_made_by_scorer(row):
            return ()
        found = [*self._always, *self._index.true_for(row)]
        found.sort()
        return tuple(found)


def are_compiled(
    filters: Iterable[str], *, within_s: float, seconds: Callable[[], float] = time.monotonic
) -> bool:
    """Compiles filters for `within_s` seconds, one at least. Whether all are compiled now.

    A filter takes 0.1 ms. So a project with ten thousand new ones does not hold up the others:
    call this again later, until it is true. More than FILTERS_KEPT push each other out again
    and again, so they count as compiled, and are compiled where they are used.
    """
    until = seconds() + within_s
    is_time_up = False
    different = {each.strip() for each in filters}
    if len(different) > FILTERS_KEPT:
        return True
    for each in sorted(different):
        if is_time_up:
            return False
        compiled_before = _compiled.cache_info().misses
        _compiled(each)
        is_time_up = _compiled.cache_info().misses > compiled_before and seconds() > until
    return True


@lru_cache(maxsize=FILTERS_KEPT)
def _compiled(text: str) -> _Filter | None:
    try:
        expression = parse_filter(text)
        return _Filter(expression, compile_filter(expression), columns_read(expression))
    except BtqlError:
        return None
