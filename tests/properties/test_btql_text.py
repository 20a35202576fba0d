"""Any text parses, or gives an error with its position; no other exception is raised."""

from __future__ import annotations

from collections.abc import Callable

from btql_strategies import conditions, rows
from hypothesis import given
from hypothesis import strategies as st

from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.query import parse_query, read_query
from btql.wire import read_filter

TOKENS = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ":",
    "?",
    "|",
    "*",
    "-",
    "=",
    "<=>",
    "!=",
    "%",
    " ",
    "\n",
    "--",
    "'",
    '"',
    "\\",
    "NOT",
    "AND",
    "IN",
    "IS",
    "NULL",
    "BETWEEN",
    "LIKE",
    "MATCH",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "interval 1 day",
    "5",
    "1e5",
    "'x'",
    '"x"',
    "metadata",
    ".a",
    "is_root",
    "created",
    "now()",
    "len(",
    "select: ",
    "from: project_logs('p')",
    "SELECT",
    "FROM",
    "WHERE",
    "ORDER BY",
    "LIMIT",
    "filter:",
    "\0",
    "é",
    "\ud800",
]
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(TOKENS), max_size=30).map("".join),
    st.lists(st.sampled_from(TOKENS), max_size=30).map(" ".join),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid filter with a piece taken out, doubled, or put in."""
    text = draw(conditions)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 10)))
    middle = draw(st.sampled_from(["", text[start:end] * 2, *TOKENS]))
    return text[:start] + middle + text[end:]


def error_of(read: Callable[[str], object], text: str) -> BtqlError | None:
    try:
        read(text)
    except BtqlError as error:
        return error
    return None


def is_within(error: BtqlError, text: str) -> bool:
    """Whether the error's place is one of the text, its end included."""
    lines = text.split("\n")
    if error.line is None or error.column is None or not 1 <= error.line <= len(lines):
        return False
    return 1 <= error.column <= len(lines[error.line - 1]) + 1


@given(texts | mutated())
def test_any_text_is_a_filter_or_an_error_with_its_place(text: str) -> None:
    error = error_of(parse_filter, text)
    assert error is None or is_within(error, text)


@given(
    texts
    | texts.map(lambda text: f"from: dataset('d') | filter: {text}")
    | texts.map(lambda text: f"SELECT * FROM dataset('d') WHERE {text}")
)
def test_any_text_is_a_query_or_an_error_with_its_place(text: str) -> None:
    error = error_of(parse_query, text)
    assert error is None or is_within(error, text)


OPS = [
    "eq",
    "and",
    "or",
    "not",
    "in",
    "ident",
    "literal",
    "function",
    "if",
    "includes",
    "interval",
    "star",
    "add",
]
KEYS = [
    "op",
    "btql",
    "left",
    "right",
    "children",
    "expr",
    "name",
    "value",
    "args",
    "conds",
    "else",
    "unit",
    "select",
    "from",
    "filter",
    "sort",
]
trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*OPS, "metadata", "is_root", "now"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
        | st.fixed_dictionaries(
            {"op": st.sampled_from(OPS)}, optional=dict.fromkeys(KEYS[1:], inner)
        )
    ),
    max_leaves=12,
)


@given(trees)
def test_any_json_is_a_filter_or_an_error(tree: object) -> None:
    for read in (read_filter, read_query):
        error = error_of(read, tree)
        assert error is None or error.reason


@given(conditions, rows)
def test_a_filter_that_is_read_never_raises_for_a_row(text: str, row: dict) -> None:
    try:
        tree = parse_filter(text)
    except BtqlError:
        return
    assert compile_filter(tree)(row) in (True, False, None)
    assert compile_filter(tree)({}) in (True, False, None)
