"""Queries from text in both syntaxes and from JSON."""

from __future__ import annotations

import pytest

from btql.clauses import SortKey
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.query import Field, parse_query, read_query
from btql.tree import Path
from spans.json import Json

STAR = Field(name="*", expr=None)
FROM: Json = {
    "op": "function",
    "name": {"op": "ident", "name": ["project_logs"]},
    "args": [{"op": "literal", "value": "p"}],
}


@pytest.mark.parametrize(
    "text",
    [
        "select: metadata.model as m, id | from: project_logs('p') | filter: is_root"
        " | sort: created desc, m | limit: 10 | cursor: 'abc'",
        "from: project_logs('p') spans\nLIMIT: 10\n  filter: is_root\nselect:\n"
        " metadata.model AS m,\n id\ncursor: 'abc' -- page 2\nsort: created DESC, m asc",
        "SELECT metadata.model AS m, id FROM project_logs('p', shape => 'spans') WHERE is_root"
        " ORDER BY created DESC, m LIMIT 10 OFFSET 'abc'",
        "-- mine\nselect metadata.model as m, id\nfrom project_logs('p')\nwhere is_root\n"
        "order by created desc, m asc\nlimit 10\noffset 'abc'",
    ],
)
def test_both_syntaxes_give_the_same_query(text: str) -> None:
    query = parse_query(text)
    assert query.object_type == "project_logs"
    assert query.object_ids == ("p",)
    assert query.select == (
        Field(name="m", expr=Path(column="metadata", keys=("model",))),
        Field(name="id", expr=Path(column="id")),
    )
    assert query.filter == parse_filter("is_root")
    assert query.sort == (
        SortKey(expr=Path(column="created"), descending=True),
        SortKey(expr=Path(column="metadata", keys=("model",)), descending=False),
    )
    assert (query.limit, query.cursor) == (10, "abc")


def test_a_name_of_a_field_may_stand_in_double_quotes() -> None:
    query = parse_query(
        'select scores.f as "My score" from dataset(\'d\') where "My score" > 0.5'
        ' order by "My score"'
    )
    score = Path(column="scores", keys=("f",))
    assert query.filter == parse_filter("scores.f > 0.5")
    assert query.sort == (SortKey(expr=score, descending=False),)


def test_a_query_needs_no_more_than_a_source() -> None:
    query = parse_query("from: experiment('a', 'b')")
    assert query.object_ids == ("a", "b")
    assert query.select == (STAR,)
    assert (query.sort, query.limit, query.cursor) == ((), None, None)
    assert query.filter == parse_filter("")


def test_bars_and_colons_in_strings_part_nothing() -> None:
    query = parse_query("from: dataset('d') | filter: metadata.a = 'x | limit: 3\nsort: y'")
    assert query.limit is None
    assert query.filter == parse_filter("metadata.a = 'x | limit: 3\nsort: y'")


def test_a_ternary_may_run_over_lines() -> None:
    query = parse_query("from: dataset('d')\nfilter: is_root\n ? is_root\n : true\nlimit: 1")
    assert query.filter == parse_filter("is_root ? is_root : true")


def test_a_json_query_is_the_query_of_a_text() -> None:
    tree: Json = {
        "select": [
            {"op": "star"},
            {"alias": "m", "expr": {"op": "ident", "name": ["metadata", "model"]}},
        ],
        "from": FROM,
        "filter": {"btql": "m = 'x'"},
        "sort": [{"expr": {"op": "ident", "name": ["created"]}, "dir": "desc"}],
        "limit": 5,
        "cursor": None,
        "sample": None,
    }
    assert read_query(tree) == parse_query(
        "select: *, metadata.model as m | from: project_logs('p')"
        " | filter: metadata.model = 'x' | sort: created desc | limit: 5"
    )
    assert read_query("from: dataset('d')") == parse_query("from: dataset('d')")


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("", 1, 1, "needs a clause from"),
        ("select: *", 1, 10, "needs a clause from"),
        ("fliter: is_root", 1, 1, "did you mean filter?"),
        ("is_root", 1, 1, "starts with its name"),
        ("from: dataset('d') | | is_root", 1, 24, "starts with its name"),
        ("from: dataset('d')\n| filter: is_root =", 2, 20, "a value is missing"),
        ("from: dataset('d') | from: dataset('d')", 1, 22, "two clauses from"),
        ("from: dataset('d')\ndimensions: id", 2, 1, "not supported yet: dimensions"),
        ("from: dataset('d') | measures: count(1) as n", 1, 22, "not supported yet: measures"),
        ("from: dataset('d') traces", 1, 7, "not supported yet: shape traces"),
        ("select * from project_logs('p', shape => 'summary')", 1, 15, "shape summary"),
        ("select id from dataset('d') group by 1", 1, 29, "not supported yet: GROUP"),
        ("select id from dataset('d') having x", 1, 29, "not supported yet: HAVING"),
        ("select id from prompt('d')", 1, 16, "not supported yet: from prompt"),
        ("select id from dataset('d') limit 'x'", 1, 35, "not expected"),
        ("select id from dataset('d') offset 5", 1, 36, "not expected"),
        ("select id from dataset(5)", 1, 24, "an id is a string"),
        ("select id, metadata.id from dataset('d')", 1, 12, "two fields are called 'id'"),
        ("select len(tags) from dataset('d')", 1, 8, "needs a name"),
        ("select count(*) from dataset('d')", 1, 14, "not expected"),
        ("from: dataset('d') | limit: 0", 1, 29, "from 1"),
        ("from: dataset('d') | limit: -1", 1, 29, "from 1"),
        ("from: dataset('d') | limit: 1e9", 1, 29, "from 1"),
        ("from: dataset('d') | limit: 9999999999", 1, 29, "from 1"),
        ("from: dataset('d') | cursor: 5", 1, 30, "a cursor is a string"),
        ("from: dataset('d') | sort: interval 1 day", 1, 28, "an interval stands only"),
        ("from: dataset('d') | filter: 5", 1, 30, "a condition is needed"),
        ('from: dataset(\'d\') | sort: "My score" desc', 1, 28, "the same for every row"),
        ("from: dataset('d') | sort: 'x'", 1, 28, "the same for every row"),
        ('select "My score" as s from dataset(\'d\')', 1, 8, "the same for every row"),
        ("from: dataset(" + ", ".join(["'d'"] * 33) + ")", 1, 7, "1 to 32 ids"),
        ("\n" * 8000 + "x:", 8001, 1, "no clause 'x'"),
    ],
)
def test_an_error_says_where_and_what(text: str, line: int, column: int, part: str) -> None:
    with pytest.raises(BtqlError) as raised:
        parse_query(text)
    assert part in raised.value.reason
    assert (raised.value.line, raised.value.column) == (line, column)


@pytest.mark.parametrize(
    ("change", "path", "part"),
    [
        ({"measures": []}, "query", "not supported yet: measures"),
        ({"what": 1}, "query", "no clause 'what'"),
        ({"from": None}, "from", "a function node"),
        ({"from": FROM | {"shape": "traces"}}, None, "shape traces"),
        ({"from": FROM | {"args": [{"op": "literal", "value": 5}]}}, None, "an id is a string"),
        ({"limit": 0}, "limit", "from 1"),
        ({"limit": True}, "limit", "from 1"),
        ({"cursor": 5}, "cursor", "a string"),
        ({"sort": [{"expr": "created", "dir": "up"}]}, "sort[0]", "asc or desc"),
        ({"select": [5]}, "select[0]", "{alias, expr}"),
        ({"filter": {"op": "nope"}}, "filter", "no operator"),
        ({"filter": {"op": "isnull", "expr": {"op": "literal", "value": "x"}}}, "filter",
         "the same for every row"),
        ({"filter": {"btql": '"My score" IS NOT NULL'}}, "filter", "the same for every row"),
    ],
)
def test_an_error_in_json_names_the_part(change: dict, path: str | None, part: str) -> None:
    with pytest.raises(BtqlError) as raised:
        read_query({"select": [{"op": "star"}], "from": FROM} | change)
    assert part in raised.value.reason
    assert raised.value.path == path


def test_a_fields_name_cannot_make_a_query_grow_without_bounds() -> None:
    doubled = "metadata.a as a, a + a as b"
    with pytest.raises(BtqlError, match="no column 'a'"):
        parse_query(f"select: {doubled} | from: dataset('d')")
    uses = " OR ".join(["a = 1"] * 17)
    with pytest.raises(BtqlError, match="at most 16 times"):
        parse_query(f"select: metadata.a as a | from: dataset('d') | filter: {uses}")


@pytest.mark.parametrize("value", [None, 5, [], True])
def test_what_is_no_query_is_refused(value: Json) -> None:
    with pytest.raises(BtqlError):
        read_query(value)
