"""Text to tree: precedence, the many ways to say one thing, errors with their place, bounds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from btql import columns_read, paths_read
from btql.errors import BtqlError
from btql.parse import parse_filter


@pytest.mark.parametrize(
    ("text", "explicit"),
    [
        ("is_root OR is_root AND NOT is_root", "is_root OR (is_root AND (NOT is_root))"),
        ("NOT tags INCLUDES 'x'", "NOT (tags INCLUDES 'x')"),
        ("NOT metadata.a = 1 AND is_root", "(NOT (metadata.a = 1)) AND is_root"),
        ("metadata.a + 2 * 3 = 7", "(metadata.a + (2 * 3)) = 7"),
        ("metadata.a - 1 - 2 = 0", "((metadata.a - 1) - 2) = 0"),
        ("-metadata.a * 2 < 0", "((-metadata.a) * 2) < 0"),
        (
            "is_root ? is_root : is_root ? is_root : is_root",
            "is_root ? is_root : (is_root ? is_root : is_root)",
        ),
        (
            "metadata.a = 1 OR is_root ? is_root : NOT is_root",
            "((metadata.a = 1) OR is_root) ? is_root : (NOT is_root)",
        ),
        ("metadata.a BETWEEN 1 AND 2 AND is_root", "(metadata.a BETWEEN 1 AND 2) AND is_root"),
    ],
)
def test_operators_bind_as_if_in_these_parentheses(text: str, explicit: str) -> None:
    assert parse_filter(text) == parse_filter(explicit)


@pytest.mark.parametrize(
    "ways",
    [
        ["metadata.a != 1", "metadata.a <> 1", "NOT metadata.a = 1", "NOT (1 = metadata.a)"],
        ["metadata.a <=> 1", "metadata.a IS 1", "metadata.a is 1"],
        ["metadata.a <!=> 1", "metadata.a IS NOT 1", "NOT metadata.a IS 1"],
        ["error IS NULL", "ISNULL error", "isnull(error)", "error <=> NULL", "error IS null"],
        ["error IS NOT NULL", "ISNOTNULL error", "NOT error IS NULL"],
        [
            "tags INCLUDES 'x'",
            "tags CONTAINS 'x'",
            "contains(tags, 'x')",
            "INCLUDES(tags, 'x')",
        ],
        ["metadata.a BETWEEN 1 AND 2", "metadata.a >= 1 AND metadata.a <= 2"],
        ["metadata.a NOT BETWEEN 1 AND 2", "NOT (metadata.a >= 1 AND metadata.a <= 2)"],
        ["metadata.a > 5", "5 < metadata.a"],
        ["metadata.a IN ('x', 'y')", "metadata.a in ['x', 'y']", 'metadata.a IN ("x", "y")'],
        ["metadata.a = 'gpt'", 'metadata.a = "gpt"', "metadata.a='gpt'--ok"],
        ["metadata.a", 'metadata."a"', '"metadata".a', '"metadata"."a"'],
        [
            "is_root AND is_root AND is_root",
            "(is_root AND is_root) AND is_root",
            "is_root AND (is_root AND is_root)",
        ],
        ["CASE WHEN is_root THEN 1 ELSE 2 END = 1", "(is_root ? 1 : 2) = 1"],
        ["CASE WHEN is_root THEN 1 END = 1", "(is_root ? 1 : null) = 1"],
        [
            "created > now() - interval 7 day",
            "created > NOW() - INTERVAL '7 days'",
            "created > current_timestamp - interval 7 days",
            "created > now() - to_interval('7 day')",
            "created > now() - interval 1 week",
        ],
        ["created > current_date()", "created > CURRENT_DATE"],
        ["day(created) = '2026-01-01'", "date_trunc('day', created) = '2026-01-01'"],
        ["any_span(is_root)", "FILTER_SPANS(is_root)", "is_root"],
        ["estimated_cost() > 1", "metrics.estimated_cost > 1"],
        ["output MATCH 'Two words'", "output MATCH 'words, TWO two'"],
        ["metadata.a = -1", "metadata.a = - 1"],
        ["", "  -- nothing\n", "true"],
    ],
)
def test_these_say_the_same(ways: list[str]) -> None:
    first, *others = map(parse_filter, ways)
    assert [str(one) for one in others] == [str(first)] * len(others)
    assert {hash(one) for one in others} <= {hash(first)}


def test_types_of_constants_are_kept_apart() -> None:
    assert parse_filter("metadata.a = 1") != parse_filter("metadata.a = true")
    assert parse_filter("metadata.a = 1") != parse_filter("metadata.a = '1'")


def test_words_of_the_language_are_keys_behind_a_dot() -> None:
    text = "metrics.end > 1 AND metadata.in = 2 AND metadata.case = 3 AND error.match IS NULL"
    assert columns_read(parse_filter(text)) == {"metrics", "metadata", "error"}


def test_a_quoted_name_is_a_column_where_there_is_one() -> None:
    assert paths_read(parse_filter('"is_root"')) == {("is_root",)}
    assert paths_read(parse_filter('metadata.a = "is_not_one"')) == {("metadata", "a")}


@pytest.mark.parametrize(
    ("text", "column", "name"),
    [
        ('"My score" IS NOT NULL', 1, "My score"),
        ('"My score" IS NULL', 1, "My score"),
        ('ISNULL "My score"', 8, "My score"),
        ('"My score" > 0.5', 1, "My score"),
        ('0.5 < "My score"', 7, "My score"),
        ('is_root AND "My score" BETWEEN 0 AND 1', 13, "My score"),
        ('"Metadata" = \'x\'', 1, "Metadata"),
        ('"a" = "a"', 1, "a"),
        ('NOT "env" IN (\'prod\', \'test\')', 5, "env"),
        ('"env" LIKE \'%p%\'', 1, "env"),
        ('"env" MATCH \'prod\'', 1, "env"),
        ('"tag s" INCLUDES \'x\'', 1, "tag s"),
        ('coalesce("My score", 0) > 0.5', 10, "My score"),
        ("'metadata.env' IS NOT NULL", 1, "metadata.env"),
        ("'x' IS NULL", 1, "x"),
        ("'a' = 'b'", 1, "a"),
        ("'a' < 5", 1, "a"),
        ("'a' LIKE 'a%'", 1, "a"),
        ("'a' IN ('a', 'b')", 1, "a"),
    ],
)
def test_a_string_that_decides_nothing_is_refused_where_it_stands(
    text: str, column: int, name: str
) -> None:
    with pytest.raises(BtqlError, match="the same for every row") as raised:
        parse_filter(text)
    assert raised.value.column == column
    assert f'scores."{name}"' in raised.value.reason


@pytest.mark.parametrize(
    "text",
    [
        '"gpt-5" = metadata.model', 'metadata.a IN ("x", "y")', '"is_root"', "1 = 1", "0 = 1",
        "true", "null", "now() > '2026-01-01'", '"2026-01-01" < created', "1 IN (1, 2)",
        '"metadata" IS NOT NULL', "lower('A') = 'a'", 'search("x")',
        'metadata.n > (metadata.model = "gpt-5" ? 1 : 2)',
    ],
)
def test_a_string_beside_the_row_and_plain_constants_are_taken(text: str) -> None:
    parse_filter(text)


def test_paths_keep_keys_and_indexes_apart() -> None:
    found = paths_read(parse_filter('metadata."a.b"[0]."0"[-1] = 1 AND tags[2] = \'x\''))
    assert found == {("metadata", "a.b", 0, "0", -1), ("tags", 2)}


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        ("scores.Factuality >", 1, 20, "a value is missing"),
        ("(is_root", 1, 9, "parenthesis is not closed"),
        ("is_root)", 1, 8, "')' is not expected"),
        ("is_root\nAND nosuchfn(1)", 2, 5, "no function 'nosuchfn'"),
        ("is_root AND\n  creatd > now()", 2, 3, "did you mean created?"),
        ("model = 'x'", 1, 1, "metadata.model"),
        ("metadata.a = 'open", 1, 14, "not closed"),
        ("metadata.a = 1 = 2", 1, 16, "'=' is not expected"),
        ("metadata.a # 1", 1, 12, "'#' has no meaning"),
        ("is_root ? 1", 1, 12, "needs a :"),
        ("is_root.x = 1", 1, 1, "is_root has no fields"),
        ("created > 'yesterday'", 1, 11, "is no time"),
        ("created > 5", 1, 11, "a time is needed"),
        ("created IN ('2026-01-01', 'x')", 1, 27, "is no time"),
        ("is_root AND 'x'", 1, 13, "a condition is needed"),
        ("metadata.a", 1, 1, None),
        ("'a' + 1 = 2", 1, 1, "arithmetic takes numbers"),
        ("interval 1 day = metadata.a", 1, 16, None),
        ("interval 1 day", 1, 1, "a condition is needed"),
        ("coalesce(interval 1 day, 1) = 1", 1, 10, "an interval stands only"),
        ("created + created = 1", 1, 9, "only be subtracted"),
        ("metadata.a * interval 1 day = 1", 1, 12, "only be added"),
        ("created > now() - interval 1 fortnight", 1, 30, "no unit 'fortnight'"),
        ("created > now() - interval 1.5 day", 1, 28, "whole units"),
        ("created > now() - interval 99999 year", 1, 19, "10000 years"),
        ("date_trunc('2 weeks', created) = now()", 1, 12, "takes no count"),
        ("date_trunc(metadata.u, created) = now()", 1, 12, "a string constant"),
        ("len(1, 2) = 1", 1, 1, "1 argument, not 2"),
        ("round() = 1", 1, 1, "1 to 2 arguments"),
        ("count(1) > 2", 1, 1, "many rows"),
        ("lowr(metadata.a) = 'x'", 1, 1, "did you mean lower?"),
        ("metadata.a IN (metadata.b)", 1, 16, "constants only"),
        ("metadata.a IN 'x'", 1, 15, "'x'"),
        ("metadata.a LIKE metadata.b", 1, 17, "must be a string"),
        ("output MATCH '!!'", 1, 14, "at least one word"),
        ("metadata.a = 1e999", 1, 14, "larger than a number"),
        ("metadata.a = " + "1" * 41, 1, 14, "40 digits"),
        ("metadata.a = 'x\0y'", 1, 16, "not allowed"),
        ("metadata.a = '\ud800'", 1, 15, "not allowed"),
        ("metadata.a[1.5] = 1", 1, 12, "whole number"),
        ("metadata.a[99999999999] = 1", 1, 1, "no usable index"),
        ("metadata.x = 1; drop table span", 1, 15, "';'"),
        ("metadata.x = 1 UNION SELECT 1", 1, 16, "not supported yet: UNION"),
        ("pg_sleep(10) = 1", 1, 1, "no function 'pg_sleep'"),
        ("pg_catalog.pg_user = 1", 1, 1, "no column 'pg_catalog'"),
        ("tags CONTAINS NOT (is_root)", 1, 15, "NOT is not expected"),
    ],
)
def test_an_error_says_where_and_what(
    text: str, line: int, column: int, part: str | None
) -> None:
    if part is None:
        parse_filter(text)
        return
    with pytest.raises(BtqlError) as raised:
        parse_filter(text)
    assert part in raised.value.reason
    assert (raised.value.line, raised.value.column) == (line, column)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (" OR ".join(["metadata.a = 1"] * 101), "100 predicates"),
        (" AND ".join(["is_root"] * 101), "100 predicates"),
        ("metadata.a IN (" + ", ".join(["1"] * 1001) + ")", "1000 values"),
        ("(" * 32 + "is_root" + ")" * 32, "32 levels"),
        ("NOT " * 32 + "is_root", "32 levels"),
        ("- " * 32 + "metadata.a = 1", "32 levels"),
        ("metadata.a" + " + 1" * 40 + " = 1", "32 levels"),
        ("lower(" * 40 + "metadata.a" + ")" * 40 + " = 'x'", "32 levels"),
        ("metadata.a = " + "[" * 40 + "]" * 40, "32 levels"),
        ("is_root ? 1 : " * 40 + "1 = 1", "32 levels"),
        ("metadata" + ".a" * 33 + " = 1", "32 steps"),
        ("metadata.a = '" + "x" * 16_384 + "'", "16384 bytes"),
        ("metadata.a = '" + "é" * 8_192 + "'", "16384 bytes"),
        ("x" * 1_000_000, "16384 bytes"),
        ("(" * 16_000, "missing"),
        ("[" * 16_000, "missing"),
    ],
)
def test_a_text_beyond_a_limit_is_refused(text: str, part: str) -> None:
    with pytest.raises(BtqlError, match=part) as raised:
        parse_filter(text)
    assert raised.value.line is not None


@pytest.mark.parametrize(
    "text",
    [
        " OR ".join(["metadata.a = 1"] * 100),
        "metadata.a IN (" + ", ".join(["1"] * 1000) + ")",
        "(" * 30 + "is_root" + ")" * 30,
        "metadata" + ".a" * 32 + " = 1",
    ],
)
def test_a_text_at_a_limit_is_read(text: str) -> None:
    parse_filter(text)


def test_importing_the_language_does_not_import_the_parser() -> None:
    code = "import btql, btql.parse, btql.closure, sys; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
