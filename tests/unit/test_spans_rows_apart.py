"""A body that no parser reads as a whole: its rows are read one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spans.repair import json_text
from spans.repair.faults import Unreadable
from spans.repair.json_text import read_rows_apart

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text('ab"[]{},:\\é', max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["rows", "id", '"', "}"]), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.dictionaries(st.sampled_from(["rows", "id", "input", "]"]), JSON, max_size=3)


def rows(body: str) -> list[Any]:
    found = read_rows_apart(body.encode(), "rows")
    assert found is not None
    listed = found["rows"]
    assert isinstance(listed, list)
    return listed


@given(st.lists(EVENTS, max_size=4), JSON, st.booleans())
def test_rows_are_read_as_a_parser_reads_the_whole(
    events: list[Any], other: Any, is_first: bool
) -> None:
    parts = {"rows": events, "other": other} if is_first else {"other": other, "rows": events}
    assert read_rows_apart(json.dumps(parts).encode(), "rows") == parts


BAD = ['{"id": "x", "a" 1}', '{"id": "x", "]": [1 2]}', '{"id": "x", "a": NULL}']


@given(st.lists(EVENTS, max_size=3), st.sampled_from(BAD))
def test_a_row_that_cannot_be_read_leaves_the_others(events: list[Any], bad: str) -> None:
    texts = [json.dumps(event) for event in events]
    *found, last = rows(f'{{"rows": [{", ".join([*texts, bad])}]}}')
    assert found == events
    assert isinstance(last, Unreadable)
    assert last.fields == {"id": "x"}
    assert last.reason.startswith("not valid JSON")


@given(
    st.lists(EVENTS | st.integers(0, 9) | st.none() | st.text("a,]}", max_size=3), max_size=4),
    st.sampled_from(BAD),
)
def test_what_is_no_object_is_listed_too(items: list[Any], bad: str) -> None:
    found = rows(f'{{"rows": [{", ".join([*map(json.dumps, items), bad])}]}}')
    objects = [item for item in items if isinstance(item, dict)]
    assert [item for item in found if isinstance(item, dict)] == objects
    is_other = [not isinstance(item, dict) for item in [*items, bad]]
    # Those side by side that are no objects may be listed as one.
    assert sum(not isinstance(item, dict) for item in found) >= 1 + any(is_other[:-1])


def test_a_byte_order_mark_and_other_bytes_cost_no_row() -> None:
    bad = b'{"rows": [{"id": "x", "a": NULL}, {"id": "caf\xe9"}], "other": "caf\xe9"}'
    found = read_rows_apart(b"\xef\xbb\xbf" + bad, "rows")
    assert found is not None
    assert isinstance(found["rows"], list)
    assert found["rows"][1] == {"id": "caf\udce9"}


def test_only_outermost_plain_strings_name_a_row_that_cannot_be_read() -> None:
    (row,) = rows(
        '{"rows": [{"input": {"id": "inner"}, "span_id": "s", "id": "a\\u0062",'
        ' "x": "project_id", "y": "id", "z" "t"}]}'
    )
    assert row.fields == {"span_id": "s"}


@pytest.mark.parametrize("body", [
    "", "[]", "7", '{"rows": {"id": {}}}', '{"rows": [{"id": 1}', '{"rows": [{]}',
    '{"x": [{}]}',
    '{"rows": [{}]} {"more": 1}', '{"x": {"rows": [{}]}}', '{"rows": [{}], "x" 1}',
])
def test_a_body_without_a_list_of_rows_is_not_read(body: str) -> None:
    assert read_rows_apart(body.encode(), "rows") is None


def test_a_body_with_too_many_brackets_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"rows": [{"a": 1}, {"b": 2}]}'
    assert len(rows(body)) == 2
    monkeypatch.setattr(json_text, "TOKENS_MAX", 5)
    assert read_rows_apart(body.encode(), "rows") is None
