"""Filters and rows for property tests. Few names and values, so that rows match."""

from __future__ import annotations

import json

from hypothesis import strategies as st

KEYS = ["a", "b", "0", "c d"]
STRINGS = [
    "",
    "a",
    "A",
    "b",
    "é",
    "É",
    "gpt-4o",
    "GPT-4O",
    "50% off",
    "a_b",
    "\\",
    "a\\b",
    "0",
    "5",
    "1.0",
    "-2e3",
    "true",
    "FALSE",
    "Refunds are issued.",
    "user-action",
    "one\ntwo",
    'say "hi"',
    "\t",
    "\u2014dash\u2014",
    "日本、語",
    "\U0001f600",
    "2026-06-14",
    "2026-06-14T18:30:00Z",
    "2026-06-14 18:30:00.1234567+02:00",
    "2026-02-30",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59.999999Z",
    "2024-02-29T23:59",
    "2026-06-14T24:00Z",
    '{"a": {"b": 1}, "c d": "x"}',
    '{"a"',
    "[1]",
    "\u007f",
    "x" * 300,
    "1e400",
    "1e-400",
    "9223372036854775808",
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    10,
    1000,
    0.0,
    0.1,
    0.2,
    0.3,
    0.5,
    1.0,
    1.5,
    2.5,
    -2.5,
    2.675,
    1e22,
    1e300,
    1e-200,
    5e-324,
    1.7e308,
    -1e150,
    2**53,
    2**53 + 1,
    2**60 + 1,
    float(2**60),
    2**63 - 1,
    -(2**63),
    1781461800.0,
    1781461802.123456,
    1e16,
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(STRINGS),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)
common = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(STRINGS))
values = st.recursive(
    st.one_of(common, common, scalars),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=5,
)
objects = st.one_of(
    st.none(),
    *[st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=4)] * 5,
)
rows = st.fixed_dictionaries(
    {
        "is_root": st.booleans(),
        "span_id": st.sampled_from(["a", "b", "é"]),
        "root_span_id": st.sampled_from(["a", "b"]),
        "created": st.sampled_from(
            [
                "2026-06-14T18:30:00.000Z",
                "2026-06-14T18:30:00.123456Z",
                "2026-06-15T12:00:00.000Z",
                "1969-12-31T23:59:59.999Z",
            ]
        ),
        "input": values,
        "output": values,
        "error": values,
        "scores": objects,
        "metadata": objects,
        "metrics": objects,
        "tags": st.none() | st.lists(st.sampled_from(STRINGS), max_size=3),
        "span_attributes": objects,
    }
)


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(value: object) -> str:
    return _string(value) if isinstance(value, str) else json.dumps(value)


steps = st.sampled_from([".a", ".b", '."0"', '."c d"', "[0]", "[-1]", "[1]"])
json_paths = st.one_of(
    st.builds(
        lambda column, inside: column + "".join(inside),
        st.sampled_from(["metadata", "scores", "metrics", "span_attributes"]),
        st.one_of(st.just([".a"]), st.just([".b"]), st.lists(steps, min_size=1, max_size=3)),
    ),
    st.builds(
        lambda column, inside: column + "".join(inside),
        st.sampled_from(["input", "output", "error", "tags"]),
        st.one_of(st.just([]), st.lists(steps, max_size=2)),
    ),
)
text_paths = st.sampled_from(
    [
        "span_id",
        "root_span_id",
        "_xact_id",
        "id",
        "_pagination_key",
        "project_id",
        "log_id",
        "experiment_id",
        "org_id",
    ]
)
string_literals = st.sampled_from(STRINGS).map(_string)
number_literals = st.sampled_from(NUMBERS).map(_literal)
literals = st.one_of(common.map(_literal), scalars.map(_literal))
lists = st.lists(literals, max_size=4).map(lambda items: f"({', '.join(items)})")
units = st.sampled_from(["year", "month", "week", "day", "hour", "minute", "second"])
periods = st.one_of(units, st.sampled_from(["15 minutes", "7 hours", "2 days", "90 seconds"]))
intervals = st.builds(
    lambda count, unit: f"interval {count} {unit}",
    st.integers(-3, 400) | st.sampled_from([90000, -5000]),
    st.sampled_from(
        [
            "year",
            "month",
            "week",
            "day",
            "hour",
            "minute",
            "second",
            "millisecond",
            "microsecond",
        ]
    ),
).filter(lambda text: ("90000 year" not in text and "90000 month" not in text) or "-" in text)
TIMES = [
    "2026-06-14",
    "2026-06-14T18:30:00Z",
    "2026-06-14T18:30:00.123Z",
    "2026-06-14T18:30:00.1235Z",
    "0001-01-01",
    "9999-12-31",
]
time_literals = st.sampled_from(TIMES).map(_string)


def _call(name: str, *args: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*args).map(lambda parts: f"{name}({', '.join(parts)})")


def _infix(
    left: st.SearchStrategy[str], signs: list[str], right: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    return st.builds(
        lambda a, sign, b: f"({a} {sign} {b})", left, st.sampled_from(signs), right
    )


times = st.deferred(
    lambda: st.one_of(
        *[st.sampled_from(["created", "now()", "current_date"])] * 4,
        _infix(times, ["+", "-"], intervals),
        _call("date_trunc", periods.map(_string), moments),
        _call("day", moments),
        _call("to_datetime", anything),
        _call("to_date", anything),
        _call("coalesce", times, moments),
        _call("greatest", moments, times),
    )
)
moments = st.one_of(times, json_paths, time_literals)
numbers = st.deferred(
    lambda: st.one_of(
        *[number_literals] * 3,
        *[json_paths] * 3,
        _infix(numbers, ["+", "-", "*", "/", "%"], numbers),
        numbers.map(lambda text: f"(-{text})"),
        _call("round", numbers, st.integers(-3, 16).map(str)),
        _call("round", numbers),
        _call("len", anything),
        _call("to_number", anything),
        _call("to_integer", anything),
        _infix(times, ["-"], moments),
    )
)
anything = st.deferred(
    lambda: st.one_of(
        *[json_paths] * 6,
        text_paths,
        *[literals] * 3,
        numbers,
        times,
        conditions.map(lambda text: f"({text})"),
        st.sampled_from(["['a', 1]", "{'a': 1}", "[]", "comments"]),
        _call("lower", anything),
        _call("upper", json_paths),
        _call("concat", anything, anything),
        _call("to_string", anything),
        _call("json_extract", json_paths, st.sampled_from(KEYS).map(_string)),
        _call("coalesce", json_paths, literals),
        _call("nullif", json_paths, json_paths),
        _call("least", json_paths, json_paths, literals),
        _call("greatest", json_paths, literals),
        st.builds(lambda c, a, b: f"({c} ? {a} : {b})", conditions, anything, anything),
    )
)
patterns = st.one_of(
    st.lists(
        st.sampled_from(
            ["%", "_", "a", "A", "\\", "\\%", "50", "é", "e", "\n", "off", '"', ": ", "[", "1"]
        ),
        max_size=5,
    ).map("".join),
    st.sampled_from(STRINGS),
).map(_string)
words = st.lists(
    st.sampled_from(
        ["a", "b", "GPT", "4o", "refunds", "user", "É", "dash", "日本", "two", "1", "hi"]
    ),
    min_size=1,
    max_size=2,
).map(lambda found: _string(" ".join(found)))
comparisons = ["=", "!=", "<", "<=", ">", ">=", "<=>", "<!=>", "IS", "IS NOT"]
predicates = st.one_of(
    _infix(json_paths, comparisons, literals),
    _infix(anything, comparisons, anything),
    _infix(numbers, comparisons, numbers),
    _infix(moments, comparisons, moments),
    _infix(times, comparisons, moments),
    _infix(
        text_paths,
        comparisons,
        st.sampled_from(
            ["'a'", "'1000000000000000001'", "5", "'p00000000000000000001'", "null"]
        ),
    ),
    _infix(anything, ["IN", "NOT IN"], lists),
    _infix(json_paths, ["IN", "NOT IN"], lists),
    _infix(
        times,
        ["IN"],
        st.lists(time_literals | st.just("null"), max_size=3).map(
            lambda items: f"({', '.join(items)})"
        ),
    ),
    _infix(anything, ["LIKE", "NOT LIKE", "ILIKE"], patterns),
    _infix(anything, ["MATCH", "NOT MATCH"], words),
    _infix(anything, ["INCLUDES", "NOT CONTAINS"], anything),
    _infix(anything, ["IS"], st.just("NULL")),
    _infix(numbers, ["BETWEEN"], st.just("0 AND 10")),
    _call("search", words),
    _call("to_boolean", anything),
)
conditions = st.deferred(
    lambda: st.one_of(
        *[predicates] * 8,
        st.just("is_root"),
        json_paths,
        conditions.map(lambda text: f"NOT {text}"),
        _infix(conditions, ["AND", "OR"], conditions),
    )
)
