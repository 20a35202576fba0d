"""An index of filters finds what testing each filter finds."""

from __future__ import annotations

from btql_strategies import conditions, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from automations.filter_index import FilterIndex, IndexedFilter
from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.tree import Expr

ALIKE = [
    "metadata.env = 'prod'", "metadata.env = 'dev'", "metadata.env = 5", "error is not null",
    "scores.x < 0.5", "scores.x >= 0.1", "metadata.env > 4", "metadata.env < 9007199254740993",
    "created > '2026-01-01'", "_xact_id = '5'", "tags = 'a'", "id = 'r'",
]
"""Conditions that filters share, among them those that only look like equal strings."""

VALUES = st.sampled_from([None, "prod", "dev", 5, True, ["prod"], {"prod": 1}, ""])
ROWS = st.fixed_dictionaries({
    "metadata": st.one_of(st.none(), st.fixed_dictionaries({"env": VALUES})),
    "error": VALUES, "scores": st.sampled_from([None, {"x": 0.1}, {"x": 0.9}, {"x": "0.1"}]),
    "created": st.sampled_from(["2026-02-01T00:00:00Z", "2025-02-01T00:00:00Z"]),
    "_xact_id": st.sampled_from(["5", "05", "6"]), "tags": VALUES, "id": VALUES,
})


def indexed(texts: list[str]) -> list[IndexedFilter]:
    found: list[IndexedFilter] = []
    for number, text in enumerate(texts):
        try:
            expression: Expr = parse_filter(text)
        except BtqlError:
            continue
        found.append(IndexedFilter(expression, compile_filter(expression), (number,)))
    return found


def found_by_each(filters: list[IndexedFilter], row: dict) -> list[int]:
    return [each.nos[0] for each in filters if each.test(row) is True]


@given(
    st.lists(
        st.lists(st.sampled_from(ALIKE), min_size=1, max_size=3).map(" and ".join), max_size=12
    ),
    ROWS,
)
@settings(max_examples=500)
def test_filters_that_share_conditions(texts, row):
    filters = indexed(texts)
    assert sorted(FilterIndex(filters).true_for(row)) == found_by_each(filters, row)


@given(st.lists(conditions, max_size=8), st.lists(rows, min_size=1, max_size=4))
@settings(max_examples=200)
def test_any_filters(texts, found):
    filters = indexed(texts)
    index = FilterIndex(filters)
    for row in found:
        assert sorted(index.true_for(row)) == found_by_each(filters, row)
