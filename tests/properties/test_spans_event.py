"""Whatever a client sends becomes a row that can be stored, or a sentence that says why not."""

from __future__ import annotations

import json
import math
import uuid
from datetime import datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spans.errors import BadInput
from spans.event import CONTROL_FIELDS, EventLimits, read_event
from spans.ids import ObjectId, ProjectId
from spans.json import Json
from spans.repair.faults import INGEST_WARNINGS, WARNINGS_MAX, Faults
from spans.repair.json_text import read_tolerantly
from spans.repair.values import BodyText
from spans.row import ObjectRef, ObjectType, RowWrite

STRUCTURED = (
    "scores", "metadata", "metrics", "tags", "span_attributes", "context", "origin", "facets",
    "classifications",
)

PROJECT = ProjectId(uuid.UUID(int=1))
WHERE = ObjectRef(PROJECT, ObjectType.PROJECT_LOGS, ObjectId(PROJECT))
LIMITS = EventLimits(depth_max=12, nodes_max=300)

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\0", "a\0b", "2026-01-01", "9999-12-31T23:59:59-23:59", "infinity", "x"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, 0.5, 1763628000, 1763628000000]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
NAMES = st.one_of(
    st.sampled_from([
        *sorted(CONTROL_FIELDS), *STRUCTURED, "input", "output", "expected", "error",
        "created", "span_id", "root_span_id", "span_parents",
    ]),
    TEXTS,
)
CONTROLS = st.fixed_dictionaries({}, optional={
    "_is_merge": st.booleans(), "_object_delete": st.booleans(),
    "_merge_paths": st.lists(st.lists(TEXTS, max_size=3), max_size=2),
    "_array_delete": st.lists(st.fixed_dictionaries(
        {"path": st.lists(TEXTS, max_size=2), "delete": st.lists(VALUES, max_size=2)}
    ), max_size=2),
    "_async_scoring_control": st.fixed_dictionaries({
        "kind": st.sampled_from(["state_override", "state_force_reselect", "x"]),
        "state": VALUES,
    }),
    "comment": st.dictionaries(TEXTS, VALUES, max_size=2),
    "origin": st.dictionaries(st.sampled_from(["id", "x"]), VALUES, max_size=2),
    "_audit_source": TEXTS, "_audit_metadata": st.dictionaries(TEXTS, VALUES, max_size=2),
    "_parent_id": TEXTS,
    "scores": st.dictionaries(TEXTS, NUMBERS, max_size=2),
    "metrics": st.dictionaries(st.sampled_from(["start", "end", "tokens"]), NUMBERS),
})
EVENTS = st.builds(
    lambda fields, controls: {**fields, **controls},
    st.dictionaries(NAMES, VALUES, max_size=6), CONTROLS,
)


def read(
    event: Json, body: bytes | None = None, faults: Faults | None = None
) -> RowWrite:
    """As the API does: through the text of the request."""
    body = orjson.dumps(event) if body is None else body
    return read_event(
        orjson.loads(body), WHERE, LIMITS, new_id=lambda: str(uuid.uuid4()),
        body=BodyText(body), faults=faults,
    )


def read_mended(body: str) -> RowWrite | str:
    """As the API does for clients that read no answer, whatever the text of the event."""
    raw = body.encode()
    try:
        return read_event(
            read_tolerantly(raw), WHERE, LIMITS, new_id=lambda: str(uuid.uuid4()),
            body=BodyText(raw, is_exact=True), faults=Faults(is_strict=False),
        )
    except BadInput as error:
        return str(error)


@given(
    st.dictionaries(st.sampled_from(["input", "output", "tags"]), st.none() | st.just([]))
)
def test_names_of_the_place_of_a_row_are_no_content(fields: dict[str, Json]) -> None:
    place: dict[str, Json] = {"project_id": str(PROJECT), "log_id": "g", "org_id": "o"}
    assert read({"id": "a", **place, **fields}) == read({"id": "a", **fields})


def outcome(event: Json, faults: Faults | None = None) -> RowWrite | str:
    """What becomes of the event: a write, or the sentence of its refusal."""
    try:
        return read(event, faults=faults)
    except BadInput as error:
        return str(error)


def holds_nul(value: object) -> bool:
    return "\\u0000" in json.dumps(value, default=str)


@given(st.one_of(VALUES, EVENTS))
def test_an_event_is_read_or_refused_with_a_sentence(event: Json) -> None:
    told = outcome(event)

    if isinstance(told, str):
        assert told
    else:
        assert 0 < len(told.key.id) <= 256


@given(EVENTS)
def test_nothing_of_an_event_that_is_read_holds_nul(event: Json) -> None:
    write = outcome(event)
    if isinstance(write, str):
        return
    everything = [
        write.key.id, write.fields, write.parent_id, write.scoring_state, write.comment,
        write.comment_id, write.audit_source, write.audit_metadata,
    ]
    assert not [each for each in everything if holds_nul(each)]


@given(EVENTS)
def test_what_is_read_holds_only_what_a_reader_can_read_back(event: Json) -> None:
    write = outcome(event)
    if isinstance(write, str):
        return
    assert write.fields.keys() & CONTROL_FIELDS <= {INGEST_WARNINGS}
    assert orjson.loads(orjson.dumps(write.fields)) == write.fields
    for name in ("metadata", "metrics", "scores", "span_attributes", "context"):
        assert isinstance(write.fields.get(name), dict | None)
    for value in (write.fields.get("scores") or {}).values():   # type: ignore[union-attr]
        assert value is None or (0 <= value <= 1 and not isinstance(value, bool))
    if (created := write.fields.get("created")) is not None:
        assert 1970 <= datetime.fromisoformat(str(created)).year <= 2200


ODD_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.floats(), st.integers(), TEXTS,
        st.sampled_from(["\ud800", "a\udfff\0", 10**30, -(2**63) - 1]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.one_of(TEXTS, st.just("\udead")), inner, max_size=4
    ),
    max_leaves=20,
)


ANY_FIELDS = (
    *STRUCTURED, "input", "output", "created", "span_id", "root_span_id", "span_parents",
    "_is_merge", "_object_delete", "_merge_paths", "_array_delete", "_parent_id",
    "_async_scoring_control", "_skip_async_scoring", "_audit_source", "_audit_metadata",
    "anything",
)


@given(st.dictionaries(st.sampled_from(ANY_FIELDS), ODD_VALUES))
def test_no_value_costs_its_row_where_values_are_mended(event: dict[str, Json]) -> None:
    event = {**event, "id": "given"}
    write = read_mended(json.dumps(event))

    if isinstance(write, str):   # the limits that protect readers hold
        assert "TALLYARD_NODES_MAX" in write
        return
    stored = orjson.loads(orjson.dumps(write.fields))   # no surrogate, nothing too deep
    assert stored == write.fields
    assert not holds_nul(stored)
    for name in ("input", "output", "metadata"):   # never absent: it would be judged as missing
        assert (write.fields.get(name) is None) == (event.get(name) is None)
    warnings = stored.get(INGEST_WARNINGS, [])
    assert len(warnings) <= WARNINGS_MAX
    if not warnings:
        strict = outcome(event)
        assert isinstance(strict, RowWrite)
        assert strict == write


@given(EVENTS)
def test_what_a_strict_request_may_hold_is_stored_alike_by_a_tolerant_one(event: Json) -> None:
    strict = outcome({**event, "id": "given"})
    tolerant = outcome({**event, "id": "given"}, Faults(is_strict=False))
    if isinstance(strict, RowWrite):
        assert tolerant == strict


@given(EVENTS)
def test_reading_twice_gives_the_same_but_for_a_made_up_id(event: dict[str, Json]) -> None:
    event = {**event, "id": "given"}

    assert outcome(event) == outcome(event)


SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\n")])
LONG_INTEGERS = st.one_of(
    st.integers(10**18, 2**64 - 1), st.integers(-(2**63), -(10**18)), st.integers(-9, 9)
)
"""As large as they may be, so that they look like those that may not."""


@given(
    st.integers(min_value=2**64) | st.integers(max_value=-(2**63) - 1),
    st.lists(LONG_INTEGERS, max_size=2), st.lists(LONG_INTEGERS, max_size=2), SEPARATORS,
)
def test_an_integer_beyond_64_bits_is_never_taken_for_another_number(
    number: int, before: list[int], behind: list[int], separators: tuple[str, str]
) -> None:
    numbers = [*before, number, *behind]
    body = json.dumps({"input": numbers}, separators=separators).encode()
    if not math.isfinite(_as_float(number)):
        return

    with pytest.raises(BadInput):
        read(None, body)


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


@given(
    st.lists(LONG_INTEGERS), st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    SEPARATORS,
)
def test_numbers_that_fit_are_taken_beside_any_others(
    integers: list[int], floats: list[float], separators: tuple[str, str]
) -> None:
    # `repr` of a float never looks like a long integer: it turns to an exponent at 1e16.
    body = json.dumps({"input": integers, "output": floats}, separators=separators).encode()

    write = read(None, body)

    assert write.fields == {"input": integers, "output": floats}


@given(st.integers(1, 30), st.sampled_from(["list", "object"]))
def test_depth_is_refused_from_the_limit_on(depth: int, kind: str) -> None:
    value: Json = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    event: Json = {"input": value}

    if depth + 1 > LIMITS.depth_max:
        with pytest.raises(BadInput, match="nested too deep"):
            read(event)
    else:
        assert read(event).fields == event


@given(st.integers(1, 600))
def test_values_are_counted_and_bounded(count: int) -> None:
    event: Json = {"input": ["x"] * count}

    if count + 1 > LIMITS.nodes_max:
        with pytest.raises(BadInput, match="TALLYARD_NODES_MAX"):
            read(event)
    else:
        assert read(event).fields == event
