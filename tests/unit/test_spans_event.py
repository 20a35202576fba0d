"""Values that cannot be stored: mended with a warning, or refused by their path."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from spans.errors import BadInput
from spans.event import EventLimits, read_event
from spans.ids import ProjectId
from spans.json import Json
from spans.merge import apply, is_same
from spans.repair.faults import AND_MORE, INGEST_WARNINGS, WARNINGS_MAX, Faults
from spans.repair.json_text import read_tolerantly
from spans.repair.values import NO_CHARACTER, BodyText, InexactIntegers
from spans.row import Row, RowWrite, project_logs

LOGS = project_logs(ProjectId(uuid.UUID(int=1)))
LIMITS = EventLimits(depth_max=8, nodes_max=500)


def mended(event: bytes | str | Json) -> RowWrite:
    """The event, or its JSON text, as `/logs3` reads what a strict parser refuses."""
    if isinstance(event, bytes):
        body = event
    else:
        body = (event if isinstance(event, str) else json.dumps(event)).encode()
    return read_event(
        read_tolerantly(body), LOGS, LIMITS, new_id=lambda: "made up",
        body=BodyText(body, is_exact=True), faults=Faults(is_strict=False),
    )


def strict(event: Json) -> RowWrite:
    body = BodyText(json.dumps(event).encode())
    return read_event(event, LOGS, LIMITS, new_id=lambda: "made up", body=body)


NOT_A_METRIC = "must be a number or null, not"
NOT_SECONDS = "must be in unix seconds, not"
NOT_A_SCORE = "must be a number from 0 to 1 or null, not"
NOT_AN_OBJECT = "must be an object or null, not"
TAGS = "must be a list of up to 100 strings of up to 128 characters"
DEEP = "nested too deep (TALLYARD_DEPTH_MAX)"

# The text of a field, what is stored of it (`...`: nothing), and the warning.
MENDED: dict[str, tuple[str, Any, str]] = {
    "NaN": ("NaN", "NaN", "output: NaN is no number that can be stored; stored as text"),
    "-Infinity": ("-Infinity", "-Infinity",
                  "output: -Infinity is no number that can be stored; stored as text"),
    "1e999": ('{"a": [1, 1e999]}', {"a": [1, "1e999"]},
              "output.a[1]: 1e999 is no number that can be stored; stored as text"),
    "2^64": ("[18446744073709551616]", ["18446744073709551616"],
             "output[0]: 18446744073709551616 is an integer beyond 64 bits; stored as text"),
    "5 000 digits": ("9" * 5000, "9" * 5000,
                     f"output: {'9' * 37}... is an integer beyond 64 bits; stored as text"),
    "half a pair": (r'"a\ud83d"', "a\ufffd",
                    f"output: {NO_CHARACTER}; replaced by U+FFFD"),
    "half a pair in a key": (r'{"\udc00": 1}', {"\ufffd": 1},
                             f"output: {NO_CHARACTER}; "
                             "replaced by U+FFFD"),
    "NUL": (r'{"a\u0000": {"b": "\u0000"}}', {"a\ufffd": {"b": "\ufffd"}},
            "output: NUL cannot be stored; replaced by U+FFFD"),
    "names that differ by what is replaced": (
        r'{"\ud800": 1, "\ud801": 2}', {"\ufffd": 2},
        "output: mended names are the same; the last of their values is stored"),
    "too deep": ("[" * 9 + "1" + "]" * 9, [[[[[[["[[1]]"]]]]]]],
                 f"output{'[0]' * 7}: {DEEP}; stored as JSON text"),
    "deeper than JSON is written": (
        '{"a":' + "[" * 400 + "]" * 400 + "}", {"a": [[[[[[f"({DEEP})"]]]]]]},
        f"output.a{'[0]' * 6}: {DEEP}; left out"),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_value_of_any_field_is_mended_and_never_absent(name: str) -> None:
    text, stored, warning = MENDED[name]

    fields = mended(f'{{"id": "a", "output": {text}}}').fields

    assert fields["output"] == stored
    assert warning in fields[INGEST_WARNINGS]


FIELDS: list[tuple[str, str, Any, str]] = [
    # metrics
    ("metrics", '{"tps": NaN, "end": 2}', {"end": 2},
     f"metrics.tps: {NOT_A_METRIC} NaN; left out"),
    ("metrics", '{"a": true}', {"a": 1}, f"metrics.a: {NOT_A_METRIC} true; stored as 1"),
    ("metrics", '{"a": "7.5"}', {"a": 7.5},
     f'metrics.a: {NOT_A_METRIC} "7.5"; stored as 7.5'),
    ("metrics", '{"a": "fast"}', {}, f'metrics.a: {NOT_A_METRIC} "fast"; left out'),
    ("metrics", '{"a": [1]}', {}, f"metrics.a: {NOT_A_METRIC} [1]; left out"),
    ("metrics", '{"a": 18446744073709551616}', {"a": 2.0**64},
     f"metrics.a: {NOT_A_METRIC} 18446744073709551616; stored as {2.0**64}"),
    ("metrics", "7", ..., "metrics: must be an object of names and numbers, not 7; left out"),
    ("metrics", '{"end": 1763628000500}', {"end": 1763628000.5},
     f"metrics.end: {NOT_SECONDS} 1763628000500; read as milliseconds, stored as 1763628000.5"),
    ("metrics", '{"start": 1763628000000000000}', {"start": 1763628000.0},
     f"metrics.start: {NOT_SECONDS} 1763628000000000000; "
     "read as nanoseconds, stored as 1763628000.0"),
    ("metrics", '{"end": "1763628000"}', {"end": 1763628000},
     f'metrics.end: {NOT_SECONDS} "1763628000"; read as seconds, stored as 1763628000'),
    ("metrics", '{"end": "2025-11-20T08:40:00Z"}', {"end": 1763628000.0},
     f'metrics.end: {NOT_SECONDS} "2025-11-20T08:40:00Z"; '
     "read as an ISO 8601 instant, stored as 1763628000.0"),
    *(
        ("metrics", f'{{"end": "{at}"}}', {},
         f'metrics.end: {NOT_SECONDS} "{at}"; left out, so this write does not end the span')
        for at in ("0001-01-01T00:00:00Z", "1969-12-31T23:00:00Z", "9999-12-31T00:00:00Z")
    ),
    ("metrics", '{"start": "9999-12-31T23:59:59-23:59"}', {},
     f'metrics.start: {NOT_SECONDS} "9999-12-31T23:59:59-23:59"; left out'),
    ("metrics", f'{{"start": {"1" * 5000}}}', {},
     f"metrics.start: {NOT_SECONDS} {'1' * 37}...; left out"),
    ("metrics", '{"end": {"at": 5}}', {},
     f'metrics.end: {NOT_SECONDS} {{"at":5}}; left out, so this write does not end the span'),
    ("metrics", '{"caller_lineno": NaN, "caller_filename": "a"}', {"caller_filename": "a"},
     f"metrics.caller_lineno: {NOT_A_METRIC} NaN; left out"),
    ("comment", '"hm"', ..., "comment: must name its row in origin.id; left out"),
    ("metrics", '{"end": -1}', {},
     f"metrics.end: {NOT_SECONDS} -1; left out, so this write does not end the span"),
    ("metrics", '{"end": NaN}', {},
     f"metrics.end: {NOT_SECONDS} NaN; left out, so this write does not end the span"),
    ("metrics", '{"end": true}', {},
     f"metrics.end: {NOT_SECONDS} true; left out, so this write does not end the span"),
    # scores
    ("scores", '{"s": NaN, "t": 1}', {"t": 1}, f"scores.s: {NOT_A_SCORE} NaN; left out"),
    ("scores", '{"s": 1.5}', {}, f"scores.s: {NOT_A_SCORE} 1.5; left out"),
    ("scores", '{"s": "0.5"}', {"s": 0.5}, f'scores.s: {NOT_A_SCORE} "0.5"; stored as 0.5'),
    ("scores", '{"s": "good"}', {}, f'scores.s: {NOT_A_SCORE} "good"; left out'),
    ("scores", "0.5", ...,
     "scores: must be an object of names and numbers from 0 to 1, not 0.5; left out"),
    ("scores", '{"%s": 1}' % ("a" * 101), {"a" * 100: 1},
     "scores: a score's name must have 1 to 100 printable characters; "
     f'stored as "{"a" * 36}...'),
    ("scores", r'{"a\nb": 1}', {"a\ufffdb": 1},
     "scores: a score's name must have 1 to 100 printable characters; "
     'stored as "a\ufffdb"'),
    ("scores", json.dumps({"a" * 101: 1, f"{'a' * 100}b": 0}), {"a" * 100: 1},
     "scores: a score's name must have 1 to 100 printable characters, "
     f'not "{"a" * 36}...; left out'),
    ("scores", r'{"a\nb": 1, "a\tb": 0}', {"a\ufffdb": 1},
     "scores: a score's name must have 1 to 100 printable characters, "
     r'not "a\tb"; left out'),
    ("scores", '{"": 1}', {},
     'scores: a score\'s name must have 1 to 100 printable characters, not ""; left out'),
    # tags
    ("tags", '"one"', ["one"], f'tags: {TAGS}, not "one"; stored as one tag'),
    ("tags", '{"a": 1}', ..., f'tags: {TAGS}, not {{"a":1}}; left out'),
    ("tags", '[1, null, "a", true]', ["1", "a", "true"],
     f"tags: {TAGS}, which null is not; left out"),
    ("tags", json.dumps(["b" * 200]), ["b" * 128],
     f'tags: {TAGS}, which "{"b" * 36}... is not; stored as "{"b" * 36}...'),
    ("tags", json.dumps([str(n) for n in range(101)]), [str(n) for n in range(100)],
     f"tags: {TAGS}, not 101; the first 100 are stored"),
    # other fields
    ("metadata", "[1]", {"value": [1]},
     f"metadata: {NOT_AN_OBJECT} [1]; stored under the key `value`"),
    ("span_attributes", '"answer"', {"name": "answer"},
     f'span_attributes: {NOT_AN_OBJECT} "answer"; stored as the span\'s name'),
    ("context", '"a"', ..., f'context: {NOT_AN_OBJECT} "a"; left out'),
    ("span_parents", '"p"', ["p"],
     'span_parents: must be a list of span ids or null, not "p"; stored as ["p"]'),
    ("span_parents", "[7]", ["7"],
     'span_parents: must be a list of span ids or null, not [7]; stored as ["7"]'),
    ("span_parents", '{"a": 1}', ...,
     'span_parents: must be a list of span ids or null, not {"a":1}; left out'),
    ("span_id", "7", "7",
     "span_id: must be a string of 1 to 256 characters, not 7; stored as text"),
    ("root_span_id", '""', ...,
     'root_span_id: must be a string of 1 to 256 characters, not ""; left out'),
    ("created", "1763628000000", "2025-11-20T08:40:00+00:00",
     "created: must be an ISO 8601 instant, not 1763628000000; "
     "read as unix milliseconds, stored as 2025-11-20T08:40:00+00:00"),
    ("created", '"yesterday"', ...,
     'created: must be an ISO 8601 instant, not "yesterday"; left out'),
]


@pytest.mark.parametrize(("field", "text", "stored", "warning"), FIELDS)
def test_a_field_of_the_wrong_kind_is_mended_or_left_out(
    field: str, text: str, stored: Any, warning: str
) -> None:
    fields = mended(f'{{"id": "a", "output": "stays", "{field}": {text}}}').fields

    assert fields.get(field, ...) == stored
    assert warning in fields[INGEST_WARNINGS]
    assert fields["output"] == "stays"


INSTRUCTIONS: list[tuple[Json, str, Any, str]] = [
    ({"_is_merge": "true"}, "is_merge", True,
     '_is_merge: must be true or false, not "true"; read as true'),
    ({"_is_merge": 1}, "is_merge", True,
     "_is_merge: must be true or false, not 1; read as true"),
    ({"_object_delete": "maybe"}, "is_delete", False,
     '_object_delete: must be true or false, not "maybe"; left out'),
    ({"_is_merge": True, "_merge_paths": ["a", ["b"]]}, "merge_paths", (("b",),),
     '_merge_paths: a path must be a list of field names, not "a"; left out'),
    ({"_is_merge": True, "_merge_paths": "a"}, "merge_paths", (),
     '_merge_paths: must be a list of paths, not "a"; left out'),
    ({"_array_delete": {"path": ["tags"], "delete": ["a"]}}, "array_deletes", (),
     "_array_delete: must be a list of {path, delete: [values]}, "
     'not {"path":["tags"],"delete":["a"]}; left out'),
    ({"_is_merge": True, "_parent_id": "p"}, "parent_id", None,
     "_parent_id: cannot be used with _is_merge; left out"),
    ({"_parent_id": 7}, "parent_id", "7",
     "_parent_id: must be a string of at most 256 characters, not 7; read as text"),
    ({"_async_scoring_control": {"kind": "x"}}, "reselect", False,
     '_async_scoring_control: unknown kind "x"; use state_override or state_force_reselect; '
     "left out"),
    ({"_async_scoring_control": {"kind": "state_override", "state": "disabled"}},
     "scoring_state", None,
     '_async_scoring_control: state must be an object or null, not "disabled"; left out'),
]


@pytest.mark.parametrize(("event", "name", "meant", "warning"), INSTRUCTIONS)
def test_an_instruction_that_is_not_understood_costs_no_content(
    event: dict[str, Json], name: str, meant: Any, warning: str
) -> None:
    write = mended({"id": "a", "output": "stays", **event})

    assert getattr(write, name) == meant
    assert write.fields == {"output": "stays", INGEST_WARNINGS: [warning]}


@pytest.mark.parametrize(
    "event",
    [
        {"output": json.loads(MENDED["too deep"][0])},
        *(
            {"output": "stays", field: read_tolerantly(text.encode())}
            for field, text, *_ in FIELDS if "NaN" not in text
        ),
        *(event for event, *_ in INSTRUCTIONS),
    ],
)
def test_a_strict_request_is_refused_by_the_path_of_the_same_fault(event: Json) -> None:
    (warning, *_) = mended(event).fields[INGEST_WARNINGS]
    path = str(warning).partition(":")[0]

    with pytest.raises(BadInput) as refused:
        strict(event)

    assert refused.value.path == path


BYTES = {
    "latin-1": (b'"caf\xe9"', "caf\ufffd", True),
    "half a pair as bytes": (b'"a\xed\xa0\x80"', "a\ufffd\ufffd\ufffd", True),
    "cut in a character": (b'["a\xe2\x82"]', ["a\ufffd\ufffd"], True),
    "a key": (b'{"\xff": 1}', {"\ufffd": 1}, True),
    "a line break": (b'"a\nb\tc\x1b"', "a\nb\tc\x1b", False),
    "NUL": (b'"a\0"', "a\ufffd", True),
}


@pytest.mark.parametrize("case", BYTES)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_no_json_text_cost_characters_and_not_the_row(
    case: str, mark: bytes
) -> None:
    text, stored, is_told = BYTES[case]

    fields = mended(mark + b'{"id": "a", "output": ' + text + b"}").fields

    assert fields["output"] == stored
    assert (INGEST_WARNINGS in fields) == is_told


def test_a_comment_of_no_row_is_refused_by_its_path() -> None:
    for event in ({"comment": {"text": "hm"}}, {"comment": {}, "origin": {"id": []}}):
        for read in (mended, strict):
            with pytest.raises(BadInput, match=r"^origin\.id: "):
                read({"id": "a", "created": "2025-11-20T08:40:00Z", **event})


@pytest.mark.parametrize(
    ("number", "warning"),
    [
        ("7", "id: must be a string, not 7; stored as text"),
        ("-1.5", "id: must be a string, not -1.5; stored as text"),
        (str(2**127), f"id: {2**127} is an integer beyond 64 bits; stored as text"),
    ],
)
def test_a_number_as_an_id_is_its_text(number: str, warning: str) -> None:
    write = mended(f'{{"id": {number}}}')

    assert write.key.id == number
    assert write.fields == {INGEST_WARNINGS: [warning]}


@pytest.mark.parametrize("row_id", ["NaN", "Infinity", "1e999"])
def test_what_is_no_number_is_no_id_that_rows_could_share(row_id: str) -> None:
    with pytest.raises(BadInput, match=r"^id: "):
        mended(f'{{"id": {row_id}, "output": 1}}')


@pytest.mark.parametrize(
    ("created", "stored"),
    [
        ("2026-01-01T00:00:00+20:00", "2025-12-31T04:00:00+00:00"),   # PostgreSQL takes 15:59
        ("2026-01-01T00:00:00+00:00:01.5", "2025-12-31T23:59:58.500000+00:00"),
        ("2026-01-01T00:00:00.25-02:30", "2026-01-01T02:30:00.250000+00:00"),
        ("2026-01-01", "2026-01-01T00:00:00+00:00"),
    ],
)
def test_an_instant_is_in_utc_whatever_its_offset(created: str, stored: str) -> None:
    for reader in (mended, strict):
        assert reader({"id": "a", "created": created}).fields == {"created": stored}


@pytest.mark.parametrize(
    ("created", "stored"),
    [
        ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59-23:00", "2200-01-01T00:00:00+00:00"),
    ],
)
def test_an_instant_outside_the_range_is_changed_with_a_warning(
    created: str, stored: str
) -> None:
    for reader in (mended, strict):
        assert reader({"id": "a", "created": created}).fields == {
            "created": stored,
            INGEST_WARNINGS: [
                f'created: must be from 1970 to 2199, not "{created}"; stored as {stored}'
            ],
        }


@pytest.mark.parametrize("row_id", ["", "a\0", "a\nb", True, [], {}, "a" * 257])
def test_an_event_without_a_usable_id_is_refused(row_id: Json) -> None:
    with pytest.raises(BadInput, match=r"^id: "):
        mended({"id": row_id, "output": 1})


@pytest.mark.parametrize("row_id", [b'"\\ud800"', b'"caf\xe9"'])
def test_ids_that_would_become_equal_are_refused(row_id: bytes) -> None:
    with pytest.raises(BadInput, match=r"^id: "):
        mended(b'{"id": ' + row_id + b', "output": 1}')


def test_faults_of_a_refused_event_are_not_told_of_the_next_one() -> None:
    faults = Faults(is_strict=False)
    body = BodyText(b"")
    with pytest.raises(BadInput, match="TALLYARD_NODES_MAX"):
        read_event({"id": 7, "input": [1] * 501}, LOGS, LIMITS, new_id=str, body=body,
                   faults=faults)

    after = read_event({"id": "a"}, LOGS, LIMITS, new_id=str, body=body, faults=faults)

    assert INGEST_WARNINGS not in after.fields


def test_a_rounded_integer_makes_the_text_be_read_more_exactly() -> None:
    body = b'{"output": 123456789012345678901234567890}'
    with pytest.raises(InexactIntegers):
        read_event({"output": 1.2345678901234568e29}, LOGS, LIMITS, new_id=lambda: "a",
                   body=BodyText(body), faults=Faults(is_strict=False))


def test_a_rounded_id_makes_the_text_be_read_more_exactly() -> None:
    with pytest.raises(InexactIntegers):
        read_event({"id": float(2**127)}, LOGS, LIMITS, new_id=str,
                   body=BodyText(b'{"id": %d}' % 2**127), faults=Faults(is_strict=False))


def test_a_client_sets_no_warnings_itself() -> None:
    for reader in (mended, strict):
        write = reader({"id": "a", INGEST_WARNINGS: ["mine"], "output": 1})
        assert write.fields == {"output": 1}


def test_warnings_are_bounded_in_number_and_length() -> None:
    metrics: Json = {f"{number} {'long ' * 100}": "x" * 99 for number in range(60)}
    write = mended({"id": "a", "metrics": metrics})

    warnings = write.fields[INGEST_WARNINGS]
    assert isinstance(warnings, list)
    assert len(warnings) == WARNINGS_MAX
    assert warnings[-1] == AND_MORE
    assert max(len(str(one)) for one in warnings) < 400


# --- merging


def test_a_merge_adds_its_warnings_once() -> None:
    base = apply(None, mended('{"id": "a", "output": 1, "metrics": {"tps": NaN}}'))
    merge = mended('{"id": "a", "_is_merge": true, "metrics": {"end": 2, "cost": "none"}}')

    merged = apply(base, merge)

    assert merged.fields["metrics"] == {"end": 2}
    assert merged.fields[INGEST_WARNINGS] == [
        f"metrics.tps: {NOT_A_METRIC} NaN; left out",
        f'metrics.cost: {NOT_A_METRIC} "none"; left out',
    ]
    assert is_same(merged, apply(merged, merge))


def test_a_replace_leaves_only_its_own_warnings() -> None:
    row = apply(None, mended('{"id": "a", "output": NaN}'))

    assert apply(row, mended({"id": "a", "output": 1})).fields == {"output": 1}


def test_a_base_below_merges_keeps_the_warnings_of_both() -> None:
    merge = apply(None, mended('{"id": "a", "_is_merge": true, "scores": {"s": 7}}'))

    row = apply(merge, mended('{"id": "a", "output": NaN}'))

    assert row.fields[INGEST_WARNINGS] == [
        "output: NaN is no number that can be stored; stored as text",
        f"scores.s: {NOT_A_SCORE} 7; left out",
    ]


def test_no_merge_takes_warnings_away() -> None:
    row = apply(None, mended('{"id": "a", "output": NaN}'))
    deleting = {"id": "a", "_is_merge": True, "_merge_paths": [[INGEST_WARNINGS]],
                "_array_delete": [{"path": [INGEST_WARNINGS],
                                   "delete": row.fields[INGEST_WARNINGS]}]}

    assert apply(row, mended(deleting)) == row


def test_warnings_of_many_merges_stay_bounded() -> None:
    row: Row | None = None
    for number in range(3 * WARNINGS_MAX):
        row = apply(row, mended({"id": "a", "_is_merge": True, "scores": {f"s{number}": 7}}))
    assert row is not None
    warnings = row.fields[INGEST_WARNINGS]

    assert isinstance(warnings, list)
    assert (len(warnings), warnings[-1]) == (WARNINGS_MAX, AND_MORE)
