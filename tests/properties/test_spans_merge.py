"""Merging, over drawn rows and writes: order, repetition, and what must stay as it is."""

from __future__ import annotations

import copy
import uuid
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spans.ids import ObjectId, ProjectId
from spans.json import Json, JsonObject
from spans.merge import apply, deep_merge, has_same_content, is_same
from spans.row import (
    CONTENT_FIELDS,
    IDENTITY_FIELDS,
    ArrayDelete,
    ObjectRef,
    ObjectType,
    Row,
    RowKey,
    RowWrite,
)

PROJECT = ProjectId(uuid.UUID(int=1))
KEY = RowKey(ObjectRef(PROJECT, ObjectType.PROJECT_LOGS, ObjectId(PROJECT)), "row")
NAMES = st.sampled_from([*CONTENT_FIELDS, "metadata", "tags", "a", "b"])
KEYS = st.sampled_from(["a", "b", "c", ""])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, 1.0, "", "x"])
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=5)
IDENTITIES = st.fixed_dictionaries({}, optional={
    "span_id": st.sampled_from(["s", "t"]), "root_span_id": st.sampled_from(["r", "q"]),
    "span_parents": st.sampled_from([None, ["p"]]),
    "created": st.sampled_from(["2026-01-01T00:00:00+00:00", "2026-02-02T00:00:00+00:00"]),
})
PATHS = st.lists(st.one_of(NAMES, KEYS), min_size=1, max_size=3).map(tuple)
CONTROLS = st.fixed_dictionaries({
    "merge_paths": st.lists(PATHS, max_size=2).map(tuple),
    "array_deletes": st.lists(
        st.builds(ArrayDelete, PATHS, st.lists(VALUES, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
})


def plain(fields: JsonObject) -> RowWrite:
    return RowWrite(key=KEY, fields=fields)


def merge(fields: JsonObject, **controls: object) -> RowWrite:
    return RowWrite(key=KEY, fields=fields, is_merge=True, **controls)   # type: ignore[arg-type]


PLAIN = st.builds(lambda fields, identity: plain({**fields, **identity}), FIELDS, IDENTITIES)
MERGES = st.builds(
    lambda fields, identity, controls: merge({**fields, **identity}, **controls),
    FIELDS, IDENTITIES, CONTROLS,
)
DELETES = st.just(RowWrite(key=KEY, fields={}, is_delete=True))
WRITES = st.one_of(PLAIN, MERGES, DELETES)


def after(*writes: RowWrite, row: Row | None = None) -> Row:
    for write in writes:
        row = apply(row, write)
    assert row is not None
    return row


ROWS = st.lists(WRITES, min_size=1, max_size=4).map(lambda writes: after(*writes))


@given(PLAIN, MERGES, MERGES)
def test_merges_of_disjoint_fields_may_come_in_any_order(
    base: RowWrite, one: RowWrite, two: RowWrite
) -> None:
    one = merge({f"one {name}": value for name, value in one.fields.items()})
    two = merge({f"two {name}": value for name, value in two.fields.items()})

    assert after(base, one, two).fields == after(base, two, one).fields


@given(PLAIN, st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_merges_of_disjoint_keys_of_one_object_may_come_in_any_order(
    base: RowWrite, one: JsonObject, two: JsonObject
) -> None:
    base = replace(base, fields={**base.fields, "metadata": {"there": 1}})
    first = merge({"metadata": {f"1 {name}": value for name, value in one.items()}})
    second = merge({"metadata": {f"2 {name}": value for name, value in two.items()}})

    assert after(base, first, second).fields == after(base, second, first).fields


@given(PLAIN, FIELDS)
def test_a_base_may_come_after_its_merge(base: RowWrite, fields: JsonObject) -> None:
    late = after(merge(fields), base)
    in_time = after(base, merge(fields))

    assert late.fields == in_time.fields
    assert late.has_base
    assert in_time.has_base


# Which of its keys hold objects is fixed, as it is in the spans of an application.
SHAPED = st.fixed_dictionaries({}, optional={
    "output": SCALARS, "tags": st.lists(SCALARS, max_size=2),
    "metadata": st.fixed_dictionaries({}, optional={
        "a": SCALARS, "b": SCALARS,
        "o": st.fixed_dictionaries({}, optional={"x": SCALARS, "y": SCALARS}),
    }),
})


@given(SHAPED, st.lists(SHAPED, min_size=1, max_size=4), st.data())
def test_a_base_may_come_between_its_merges(
    base: JsonObject, merges: list[JsonObject], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(merges)))
    parts = [merge(fields) for fields in merges]

    moved = after(*parts[:place], plain(base), *parts[place:])

    assert moved.fields == after(plain(base), *parts).fields


@given(st.one_of(st.none(), ROWS), WRITES)
def test_a_write_repeated_at_once_changes_nothing_more(
    row: Row | None, write: RowWrite
) -> None:
    once = after(write, row=row)
    is_late_base = (
        row is not None and not row.has_base and not write.is_merge and not write.is_delete
    )
    twice = after(write, row=once)

    # A second base is no late one any more: it replaces (a resent request is known as such).
    assert twice.fields == (once.fields if not is_late_base else write.fields)
    assert twice.is_deleted == once.is_deleted


@given(ROWS, PLAIN)
def test_a_plain_row_leaves_nothing_of_what_was_there(row: Row, write: RowWrite) -> None:
    replaced = after(write, row=replace(row, has_base=True))

    assert replaced.fields == write.fields
    assert not replaced.is_deleted


@given(ROWS, st.lists(MERGES, max_size=3), PLAIN)
def test_a_deleted_row_stays_deleted_until_a_plain_row_comes_and_comes_back_clean(
    row: Row, merges: list[RowWrite], write: RowWrite
) -> None:
    deleted = after(RowWrite(key=KEY, fields={}, is_delete=True), *merges, row=row)
    assert deleted.is_deleted
    assert deleted.fields.keys() <= {"span_id", "root_span_id"}

    back = after(write, row=deleted)

    assert not back.is_deleted
    assert back.fields == write.fields


@given(PLAIN, st.lists(MERGES, max_size=4))
def test_merges_never_change_who_a_row_is(base: RowWrite, merges: list[RowWrite]) -> None:
    whole: JsonObject = {"span_id": "s", "root_span_id": "r", "span_parents": ["p"],
                         "created": "2026-01-01T00:00:00+00:00"}
    base = plain({**base.fields, **whole})
    # Taking values out of `span_parents` is the one way to change them, and is asked for.
    merges = [replace(each, array_deletes=()) for each in merges]

    row = after(base, *merges)

    assert {name: row.fields[name] for name in IDENTITY_FIELDS} == whole


@given(st.one_of(st.none(), ROWS), WRITES)
def test_neither_the_row_nor_the_write_is_changed_in_place(
    row: Row | None, write: RowWrite
) -> None:
    row_before, write_before = copy.deepcopy(row), copy.deepcopy(write)

    apply(row, write)

    assert row == row_before
    assert write == write_before


@given(FIELDS)
def test_nothing_merged_with_fields_is_those_fields(fields: JsonObject) -> None:
    assert deep_merge(fields, {}) == deep_merge({}, fields) == fields
    assert deep_merge(fields, fields) == fields


@given(FIELDS, FIELDS)
def test_every_path_of_a_merge_is_in_the_result(below: JsonObject, above: JsonObject) -> None:
    merged = deep_merge(below, above)

    def holds(result: Json, wanted: Json) -> bool:
        if not isinstance(wanted, dict):
            return repr(result) == repr(wanted)
        return isinstance(result, dict) and all(
            name in result and holds(result[name], value) for name, value in wanted.items()
        )

    assert holds(merged, above)
    assert merged.keys() == below.keys() | above.keys()


NESTED = st.fixed_dictionaries({}, optional={
    "metadata": st.fixed_dictionaries({}, optional={
        "a": SCALARS, "o": st.dictionaries(KEYS, VALUES, max_size=2),
    }),
    "output": st.dictionaries(KEYS, VALUES, max_size=2),
})
NESTED_PATHS = st.sampled_from([
    ("metadata",), ("metadata", "o"), ("metadata", "a"), ("output",), ("output", "a"),
])


@given(NESTED, NESTED, st.lists(NESTED_PATHS, max_size=3))
def test_at_a_merge_path_the_new_value_stands_alone(
    below: JsonObject, above: JsonObject, paths: list[tuple[str, ...]]
) -> None:
    row = after(plain(below), merge(above, merge_paths=tuple(paths)))

    for path in paths:
        new, result = _at(above, path), _at(row.fields, path)
        # A path below another one of the list stands alone with it.
        if new is not ... and not any(path[:n] in paths for n in range(1, len(path))):
            assert repr(result) == repr(new)


@given(FIELDS, PATHS, st.lists(VALUES, max_size=3))
def test_array_delete_takes_out_those_values_and_no_others(
    fields: JsonObject, path: tuple[str, ...], values: list[Json]
) -> None:
    delete = ArrayDelete(path, tuple(values))

    row = after(plain(fields), merge({}, array_deletes=(delete,)))

    old, new = _at(fields, path), _at(row.fields, path)
    if isinstance(old, list):
        gone = {repr(value) for value in values}
        assert isinstance(new, list)
        assert [repr(item) for item in new] == [
            repr(item) for item in old if not _is_among(item, gone, values)
        ]
    else:
        assert row.fields == fields


def _is_among(item: Json, texts: set[str], values: list[Json]) -> bool:
    """Equal as JSON: objects whatever the order of their keys, true and 1 apart."""
    return repr(item) in texts or any(
        isinstance(item, dict) and isinstance(value, dict)
        and repr(sorted(item.items())) == repr(sorted(value.items()))
        for value in values
    )


def _at(value: Json, path: tuple[str, ...]) -> Json:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return ...  # type: ignore[return-value]  # "not there", which null is not
        value = value[name]
    return value


@given(ROWS)
def test_a_row_is_the_same_as_itself_written_again(row: Row) -> None:
    assert is_same(row, row)
    assert has_same_content(row, row)
    if row.has_base and not row.is_deleted:
        assert is_same(row, after(plain(row.fields), row=row))
        assert is_same(row, after(merge({}), row=row))


@given(PLAIN)
def test_what_was_filled_in_for_a_row_does_not_make_it_another(write: RowWrite) -> None:
    stored = after(write)
    filled = {"span_id": "row", "root_span_id": "row", "created": "2026-01-01T00:00:00+00:00"}
    stored = replace(stored, fields={**filled, **stored.fields})

    assert is_same(stored, after(write, row=stored))


@given(FIELDS, NAMES, VALUES)
def test_a_changed_field_is_seen_and_only_content_counts_as_content(
    fields: JsonObject, name: str, value: Json
) -> None:
    row, other = after(plain(fields)), after(plain({**fields, name: value}))
    was = fields.get(name)
    is_changed = repr(was) != repr(value) and not _only_order_differs(was, value)

    if is_changed:
        assert not is_same(row, other)
        assert has_same_content(row, other) == (name not in CONTENT_FIELDS)
    if repr(was) == repr(value):
        assert is_same(row, other)


def _only_order_differs(one: Json, other: Json) -> bool:
    return _sorted(one) == _sorted(other)


def _sorted(value: Json) -> str:
    if isinstance(value, dict):
        return repr({name: _sorted(value[name]) for name in sorted(value)})
    if isinstance(value, list):
        return repr([_sorted(item) for item in value])
    return repr(value)
