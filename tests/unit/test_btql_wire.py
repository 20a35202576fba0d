"""The JSON form gives the trees that text gives, or says which node is wrong."""

from __future__ import annotations

import pytest

from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.wire import read_filter
from spans.json import Json


def ident(*name: str | int) -> dict[str, Json]:
    return {"op": "ident", "name": list(name)}


def literal(value: Json) -> dict[str, Json]:
    return {"op": "literal", "value": value}


A = ident("metadata", "a")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (None, ""),
        ("is_root", "is_root"),
        ({"btql": "is_root OR true"}, "is_root OR true"),
        ({"op": "eq", "left": A, "right": literal(1), "loc": None}, "metadata.a = 1"),
        ({"op": "ne", "left": A, "right": literal("x")}, "metadata.a != 'x'"),
        ({"op": "is", "left": A, "right": literal(None)}, "metadata.a IS NULL"),
        ({"op": "ge", "left": ident("tags", -1), "right": literal(2)}, "tags[-1] >= 2"),
        ({"op": "in", "left": A, "right": literal(["x", 1])}, "metadata.a IN ('x', 1)"),
        ({"op": "ilike", "left": A, "right": literal("x%")}, "metadata.a ILIKE 'x%'"),
        ({"op": "match", "left": A, "right": literal("x")}, "metadata.a MATCH 'x'"),
        (
            {"op": "includes", "haystack": ident("tags"), "needle": literal("x")},
            "tags INCLUDES 'x'",
        ),
        ({"op": "not", "expr": {"op": "isnull", "expr": A}}, "metadata.a IS NOT NULL"),
        ({"op": "isnotnull", "expr": A}, "metadata.a IS NOT NULL"),
        (
            {
                "op": "and",
                "left": "is_root",
                "right": {"op": "and", "children": ["is_root", A]},
            },
            "is_root AND is_root AND metadata.a",
        ),
        ({"op": "or", "children": ["is_root"]}, "is_root"),
        ({"op": "and", "children": []}, "true"),
        (
            {"op": "if", "conds": [{"cond": "is_root", "then": literal(1)}], "else": literal(2)}
            | {},
            None,
        ),
        (
            {
                "op": "eq",
                "left": {
                    "op": "if",
                    "conds": [{"cond": "is_root", "then": literal(1)}],
                    "else": literal(2),
                },
                "right": literal(1),
            },
            "(is_root ? 1 : 2) = 1",
        ),
        (
            {"op": "lt", "left": {"op": "neg", "expr": A}, "right": literal(0)},
            "-metadata.a < 0",
        ),
        (
            {
                "op": "gt",
                "left": {"op": "mod", "left": A, "right": literal(2)},
                "right": literal(0),
            },
            "metadata.a % 2 > 0",
        ),
        (
            {
                "op": "ge",
                "left": ident("created"),
                "right": {
                    "op": "sub",
                    "left": {"op": "function", "name": ident("now"), "args": []},
                    "right": {"op": "interval", "value": 1, "unit": "day"},
                },
            },
            "created >= now() - interval 1 day",
        ),
        ({"op": "singlespanfilter", "expr": "is_root"}, "is_root"),
        (
            {
                "op": "and",
                "children": [
                    {"btql": "created >= NOW() - INTERVAL 86400 SECOND"},
                    {"btql": "metadata.topic = 'test'"},
                ],
            },
            "created >= now() - interval 1 day AND metadata.topic = 'test'",
        ),
    ],
)
def test_a_json_tree_is_the_tree_of_a_text(tree: Json, text: str | None) -> None:
    if text is None:
        with pytest.raises(BtqlError, match="a condition is needed"):
            read_filter(tree)
        return
    assert read_filter(tree) == parse_filter(text)


@pytest.mark.parametrize(
    ("tree", "path", "part"),
    [
        (5, "filter", "an object"),
        ([], "filter", "an object"),
        ({"op": "xor"}, "filter", "no operator 'xor'"),
        ({"op": []}, "filter", "no operator"),
        ({"op": "eq", "left": A, "right": literal(1), "extra": 1}, "filter", "no key 'extra'"),
        ({"op": "eq", "left": ident("nope"), "right": literal(1)}, "filter.left", "no column"),
        (
            {"op": "and", "children": ["is_root", {"op": "eq", "left": A}]},
            "filter.children[1].right",
            "an object",
        ),
        ({"op": "and", "children": [{"btql": "is_root ="}]}, "filter.children[0]", "missing"),
        ({"op": "in", "left": A, "right": literal("x")}, "filter.right", "literal array"),
        ({"op": "ident", "name": []}, "filter", "needs a name"),
        ({"op": "ident", "name": [True]}, "filter.name[0]", "string"),
        ({"op": "function", "name": ident("nope"), "args": []}, "filter", "no function"),
        ({"op": "interval", "value": 1.5, "unit": "day"}, "filter.value", "whole units"),
        ({"op": "eq", "left": A, "right": literal("a\0")}, "filter.right", "not allowed"),
        (
            {"op": "eq", "left": A, "right": literal(float("inf"))},
            "filter.right.value",
            "large",
        ),
        ({"op": "eq", "left": A, "right": literal(10**400)}, "filter.right.value", "large"),
    ],
)
def test_an_error_names_the_node(tree: Json, path: str, part: str) -> None:
    with pytest.raises(BtqlError) as raised:
        read_filter(tree)
    assert raised.value.path == path
    assert part in raised.value.reason


def test_a_snippets_error_has_its_place_in_the_snippet() -> None:
    with pytest.raises(BtqlError) as raised:
        read_filter({"op": "not", "expr": {"btql": "metadata.a @ 1"}})
    assert (raised.value.path, raised.value.line, raised.value.column) == ("filter.expr", 1, 12)


def nested(op: str, key: str, depth: int) -> Json:
    tree: Json = "is_root"
    for _ in range(depth):
        tree = (
            {"op": op, key: tree} if op == "not" else {"op": op, key: tree, "right": "is_root"}
        )
    return tree


@pytest.mark.parametrize(
    ("tree", "part"),
    [
        (nested("not", "expr", 5000), "32 levels"),
        (nested("and", "left", 5000), "100 predicates"),
        ({"op": "or", "children": ["is_root"] * 101}, "100 predicates"),
        ({"op": "in", "left": A, "right": literal([1] * 1001)}, "1000 values"),
        ({"op": "in", "left": A, "right": literal([1] * 100_000)}, "4000 nodes"),
    ],
)
def test_a_tree_beyond_a_limit_is_refused(tree: Json, part: str) -> None:
    with pytest.raises(BtqlError, match=part):
        read_filter(tree)


def test_a_long_chain_written_in_pairs_is_one_level() -> None:
    assert read_filter(nested("and", "left", 99)) == parse_filter(
        " AND ".join(["is_root"] * 100)
    )
