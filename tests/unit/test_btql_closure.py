"""The results of filters in memory. tests/properties shows that SQL gives the same."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import orjson
import pytest

from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from spans.json import Json

CONFORMANCE = orjson.loads(
    (Path(__file__).parents[1] / "data" / "btql_conformance.json").read_bytes()
)
NOW = datetime.fromisoformat(CONFORMANCE["clock"])
ANSWERS = {True: "true", False: "false", None: "null"}


def value_of(text: str, row: dict[str, Json], tz_offset: int = 0) -> bool | None:
    return compile_filter(parse_filter(text), now=lambda: NOW, tz_offset=tz_offset)(row)


@pytest.mark.parametrize("case", CONFORMANCE["cases"], ids=lambda case: str(case["n"]))
def test_a_filter_has_its_published_value_in_memory(case: dict) -> None:
    if case["value"] == "error":
        with pytest.raises(BtqlError):
            parse_filter(case["filter"])
        return
    answer = ANSWERS[value_of(case["filter"], CONFORMANCE["row"])]
    assert answer == case["value"] or (case["value"] == "not true" and answer != "true")


ROW: dict[str, Json] = {
    "id": "r",
    "is_root": True,
    "_xact_id": "3553000000000000001",
    "created": "2026-06-14T18:30:00.000Z",
    "output": "Stra\u00dfe in \u00c9tretat",
    "tags": ["a", "B"],
    "metadata": {
        "n": 5,
        "s": "5",
        "yes": True,
        "obj": {"k": "v"},
        "list": [1, "x", None],
        "big": 2**53 + 1,
        "when": "2026-06-14 20:30:00+02:00",
        "month_end": "2026-01-31",
        "neg": -7.5,
        "lines": ["one\ntwo", {"deep": "three"}],
        "key_only": {"four": 1},
        "tiny": 1e-140,
    },
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # types
        ("metadata.n = '5'", False),
        ("metadata.s = 5", False),
        ("metadata.n < 'x'", None),
        ("metadata.yes = 1", False),
        ("metadata.yes = true", True),
        ("metadata.obj = {'k': 'v'}", True),
        ("metadata.list = [1, 'x', null]", True),
        ("metadata.list = [true, 'x', null]", False),
        ("metadata.obj < 5", None),
        ("metadata.obj.k.deeper IS NULL", True),
        ("metadata.obj[0] IS NULL", True),
        ("metadata.n", None),
        ("metadata.yes", True),
        # numbers
        ("metadata.big = 9007199254740992", False),
        ("metadata.big = 9007199254740993", True),
        ("0.1 + 0.2 = 0.3", False),
        ("metadata.n / 0 IS NULL", True),
        ("metadata.n % 0 IS NULL", True),
        ("metadata.neg % 2 = -1.5", True),
        ("metadata.tiny * metadata.tiny IS NULL", True),
        ("metadata.s + 1 IS NULL", True),
        ("round(2.675, 2) = 2.68", True),
        ("round(-2.5) = -3", True),
        ("round(1234, -2) = 1200", True),
        ("to_number('1e3') = 1000", True),
        ("to_number('five') IS NULL", True),
        ("to_integer('-7.9') = -7", True),
        ("to_boolean('TRUE')", True),
        ("to_boolean(0)", False),
        ("to_string(5.0) = '5'", True),
        ('to_string(metadata.obj) = \'{"k": "v"}\'', True),
        # strings
        ("concat('B') < 'a'", True),
        ("lower(output) = 'stra\u00dfe in \u00c9tretat'", True),
        ("output ILIKE 'STRA\u00dfE%'", True),
        ("output ILIKE '%\u00e9tretat'", False),
        ("output LIKE 'Stra_e%'", True),
        ("metadata.n LIKE '5'", True),
        ('metadata.obj LIKE \'%"k": "v"%\'', True),
        ("concat('50%') LIKE '50\\%'", True),
        ("concat('505') LIKE '50\\%'", False),
        ("concat('a\\') LIKE 'a\\'", True),
        ("concat('a', null, 1, true) = 'a1true'", True),
        ("len('\u00e9\u00e9') = 2", True),
        ("len(metadata.obj) = 1", True),
        ("len(5) IS NULL", True),
        # words
        ("output MATCH 'in'", True),
        ("output MATCH '\u00c9tretat in'", True),
        ("output MATCH 'in there'", False),
        ("metadata.lines MATCH 'two three'", True),
        ("metadata.lines MATCH 'deep'", False),
        ("metadata.key_only MATCH 'four'", False),
        ("metadata.absent MATCH 'x'", None),
        # lists
        ("tags IN ('b', 'B')", True),
        ("tags NOT IN ('b')", True),
        ("metadata.n IN (5.0, 6)", True),
        ("metadata.n IN (6, null)", None),
        ("metadata.n IN ()", False),
        ("metadata.absent IN ()", None),
        ("metadata.obj INCLUDES 'v'", True),
        ("metadata.obj INCLUDES 'k'", False),
        ("output INCLUDES 'in'", False),
        ("tags INCLUDES null", None),
        # null
        ("coalesce(metadata.absent, metadata.n) = 5", True),
        ("nullif(metadata.n, 5) IS NULL", True),
        ("least(3, metadata.n, metadata.absent) = 3", True),
        ("greatest(3, 'x') IS NULL", True),
        ("metadata.absent ? true : false", False),
        # times
        ("_xact_id > 5", True),
        ("_xact_id = '3553000000000000001'", True),
        ("created = metadata.when", True),
        ("created < metadata.n", None),
        ("created LIKE '2026-06-14T%'", True),
        ("now() - created > interval 17 hours", True),
        ("now() - created = 63000", True),
        ("metadata.month_end + interval 1 month = '2026-02-28'", True),
        ("to_datetime(metadata.month_end) + interval 1 month = '2026-02-28'", True),
        ("week(created) = '2026-06-08'", True),
        ("month(created) = '2026-06-01'", True),
        ("date_trunc('15 minutes', created) = created", True),
        ("date_trunc('7 hours', created) <= created", True),
        ("to_datetime(0) = '1970-01-01'", True),
        ("to_datetime('2026-02-30') IS NULL", True),
        ("created + interval 9000 year IS NULL", True),
        ("json_extract('{\"a.b\": 1}', 'a.b') = 1", True),
        ("json_extract(metadata.obj, 'k') = 'v'", True),
    ],
)
def test_a_filter_has_this_value(text: str, value: bool | None) -> None:
    assert value_of(text, ROW) is value


def test_local_days_begin_where_the_offset_says() -> None:
    text = "current_date() = '2026-06-15T08:00:00Z' AND day(created) = '2026-06-14T08:00:00Z'"
    assert value_of(text, ROW, tz_offset=480) is True
    assert value_of(text, ROW, tz_offset=0) is False


@pytest.mark.parametrize(
    "text",
    [
        "metadata.a = 1",
        "metadata.a LIKE 'x%'",
        "created > now()",
        "tags INCLUDES 'x'",
        "metadata.a.b[0] > 'x'",
        "_xact_id > 5",
        "search('x')",
        "is_root",
    ],
)
@pytest.mark.parametrize(
    "row", [{}, {"metadata": 5, "tags": {}, "created": "?", "_xact_id": None}]
)
def test_a_row_of_an_unusual_shape_is_no_error(text: str, row: dict[str, Json]) -> None:
    assert value_of(text, row) in (None, False)


def test_a_pattern_of_many_runs_takes_no_time() -> None:
    row = {"output": "a" * 20_000}
    assert value_of("output LIKE '" + "%a" * 100 + "%b'", row) is False
    assert value_of("output LIKE '" + "%_a" * 100 + "%b%'", row) is False
