"""Taking a filter apart leaves nothing out and adds nothing."""

from __future__ import annotations

from btql_strategies import conditions
from hypothesis import given
from hypothesis import strategies as st

from btql.conjuncts import conjuncts_of
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.tree import And


@given(st.lists(conditions, min_size=1, max_size=4))
def test_the_conditions_together_are_the_filter(parts: list[str]) -> None:
    text = " AND ".join(f"({part})" for part in parts)
    try:
        whole = parse_filter(text)
    except BtqlError:
        return
    joined = tuple(
        child for each in conjuncts_of(text)
        for child in (each.expr.children if isinstance(each.expr, And) else (each.expr,))
    )
    assert joined == (whole.children if isinstance(whole, And) else (whole,))
