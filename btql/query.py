"""Reads queries, from text or JSON: which rows, which of their fields, in which order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from btql.build import TreeBuilder
from btql.checks import check_reads_row, check_value, is_string
from btql.clauses import Argument, FromClause, Item, SortKey
from btql.errors import BtqlError, Position
from btql.functions import MOST_ARGUMENTS
from btql.parse import check_text, parse_clause, parse_expression, position_of
from btql.tree import TRUE, Expr, Literal, LiteralKind, Path
from btql.wire import TreeReader, check_keys, function_name, list_of, text_of
from spans.json import Json, JsonObject

OBJECT_TYPES = ("project_logs", "experiment", "dataset", "playground_logs")
CLAUSES = ("select", "from", "filter", "sort", "limit", "cursor")
# Clauses that clients know and Tallyard lacks: they get "not supported yet", not "unknown".
OTHER_CLAUSES = (
    "dimensions",
    "measures",
    "pivot",
    "unpivot",
    "infer",
    "sample",
    "preview_length",
    "inference_budget",
    "comparison_key",
    "weighted_scores",
    "custom_columns",
    "span_filter",
    "trace_filter",
    "final_filter",
    "final_dimensions",
    "final_measures",
)
MOST_FIELDS = 100
MOST_SORT_KEYS = 8
_SQL = re.compile(r"\s*(?:--[^\n]*\n\s*)*(?:select|with)\s", re.IGNORECASE)
_PIECE = re.compile(
    r"""(?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*)|(?P<bar>\|)|(?P<line>\n\s*)|[^'"|\n-]+|.""",
    re.DOTALL,
)
_HEADER = re.compile(r"\s*([A-Za-z_]+)\s*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of the answer. `expr` is None for the star: every column of the row."""

    name: str
    expr: Expr | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query that has been read and checked, except for its ids.

    `object_ids` are texts as the client sent them. An empty `sort` means newest first; `limit`
    None means the largest page that the service gives.
    """

    object_type: str
    object_ids: tuple[str, ...]
    select: tuple[Field, ...]
    filter: Expr = TRUE
    sort: tuple[SortKey, ...] = ()
    limit: int | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objects:
    object_type: str
    object_ids: tuple[str, ...]


def read_query(value: Json) -> Query:
    """The query in the JSON of a request: a string in either syntax, or a tree."""
    if isinstance(value, str):
        return parse_query(value)
    if not isinstance(value, dict):
        raise BtqlError("a query is a string or an object", path="query")
    return _from_tree(value)


def parse_query(text: str) -> Query:
    """The query in a text: SQL if it starts with SELECT, else clauses (`from: ... | limit: 5`).

    Raises BtqlError with a position, as `btql.parse.parse_filter` does.
    """
    check_text(text)
    return _from_sql(text) if _SQL.match(text) else _from_clauses(text)


def _from_sql(text: str) -> Query:
    build = TreeBuilder()
    clause = parse_clause(text, "sql", build)
    assert clause.source is not None  # noqa: S101 - the grammar asks for FROM
    objects = _objects(clause.source)
    at = clause.source.at or Position(line=1, column=1)
    return Query(
        select=_fields(clause.items),
        filter=build.condition(clause.expr),
        sort=_sort(clause.order),
        limit=None if clause.limit is None else _limit(clause.limit, at),
        cursor=clause.cursor,
        object_type=objects.object_type,
        object_ids=objects.object_ids,
    )


def _from_clauses(text: str) -> Query:
    found: dict[str, str] = {}
    for name, padded, at in _clauses(text):
        if name in found:
            raise BtqlError(f"there are two clauses {name}:", at=at)
        found[name] = padded
    end = position_of(text, len(text))
    build = TreeBuilder()
    items = parse_clause(found["select"], "items", build).items if "select" in found else ()
    if "from" not in found:
        raise BtqlError("a query needs a clause from: project_logs('id')", at=end)
    source = parse_clause(found["from"], "source", build).source
    assert source is not None  # noqa: S101 - what that rule gives
    objects = _objects(source)
    where = parse_expression(found["filter"], build) if "filter" in found else TRUE
    order = parse_clause(found["sort"], "order", build).order if "sort" in found else ()
    limit, cursor = found.get("limit"), found.get("cursor")
    return Query(
        select=_fields(items),
        filter=build.condition(where),
        sort=_sort(order),
        limit=None if limit is None else _limit(limit.strip(), _start(limit)),
        cursor=None if cursor is None else _cursor(cursor, build),
        object_type=objects.object_type,
        object_ids=objects.object_ids,
    )


def _clauses(text: str) -> Iterator[tuple[str, str, Position]]:
    """The name, body and place of each clause.

    Whatever comes before a body is replaced by spaces, so that a position in the body is one in
    the whole text. A clause starts at the beginning, after a bar, or on a new line that begins
    with the name of a clause and a colon.
    """
    starts = [(0, 0)]  # where a clause may start, and where the clause before it ends
    for piece in _PIECE.finditer(text):
        header = _HEADER.match(text, piece.end())
        is_known = header is not None and header[1].lower() in (*CLAUSES, *OTHER_CLAUSES)
        if piece["bar"] or (piece["line"] and is_known):
            starts.append((piece.end(), piece.start()))
    ends = [end for _, end in starts[1:]] + [len(text)]
    for (start, _), end in zip(starts, ends, strict=True):
        if not text[start:end].strip():
            continue
        header = _HEADER.match(text, start, end)
        first = start + len(text[start:end]) - len(text[start:end].lstrip())
        at = position_of(text, first)
        if header is None:
            raise BtqlError("a clause starts with its name and a colon, as in filter:", at=at)
        yield _clause_name(header[1].lower(), at), _blank(text, header.end(), end), at


def _clause_name(name: str, at: Position | None) -> str:
    if name in OTHER_CLAUSES:
        raise BtqlError(f"not supported yet: {name}", at=at)
    if name not in CLAUSES:
        close = get_close_matches(name, CLAUSES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the clauses are {', '.join(CLAUSES)}"
        raise BtqlError(f"there is no clause {name!r}; {hint}", at=at)
    return name


def _blank(text: str, start: int, end: int) -> str:
    return "".join("\n" if one == "\n" else " " for one in text[:start]) + text[start:end]


def _start(body: str) -> Position:
    return position_of(body, len(body) - len(body.lstrip()))


def _limit(digits: str, at: Position) -> int:
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 9 or int(digits) < 1:
        raise BtqlError("a limit is a whole number from 1", at=at)
    return int(digits)


def _cursor(body: str, build: TreeBuilder) -> str:
    cursor = parse_expression(body, build)
    if not isinstance(cursor, Literal) or cursor.kind is not LiteralKind.STRING:
        raise BtqlError("a cursor is a string: that of the page before", at=_start(body))
    return str(cursor.value)


def _fields(items: tuple[Item, ...]) -> tuple[Field, ...]:
    """The fields with their names; without any item, the star."""
    if len(items) > MOST_FIELDS:
        raise BtqlError(f"a query selects at most {MOST_FIELDS} fields", at=items[0].at)
    fields = [_field(item) for item in items] or [Field(name="*", expr=None)]
    seen: set[str] = set()
    for field, item in zip(fields, items, strict=False):
        if field.name in seen:
            raise BtqlError(f"two fields are called {field.name!r}", at=item.at)
        seen.add(field.name)
    return tuple(fields)


def _field(item: Item) -> Field:
    if item.expr is None:
        return Field(name="*", expr=None)
    check_value(item.expr)
    if is_string(item.expr) and item.expr.is_quoted:
        check_reads_row(item.expr)
    if item.alias is not None:
        return Field(name=item.alias, expr=item.expr)
    pieces = (item.expr.column, *item.expr.keys) if isinstance(item.expr, Path) else ()
    names = [piece for piece in pieces if isinstance(piece, str)]
    if not names:
        raise BtqlError("this field needs a name: ... AS name", at=item.at)
    return Field(name=names[-1], expr=item.expr)


def _sort(keys: tuple[SortKey, ...]) -> tuple[SortKey, ...]:
    if len(keys) > MOST_SORT_KEYS:
        at = keys[0].expr.at
        raise BtqlError(f"a query sorts by at most {MOST_SORT_KEYS} values", at=at)
    for key in keys:
        check_value(key.expr)
        check_reads_row(key.expr)
    return keys


def _objects(source: FromClause) -> _Objects:
    """The object type and ids that FROM names. Only the shape `spans` is supported."""
    object_type = source.name.lower()
    if object_type not in OBJECT_TYPES:
        known = ", ".join(OBJECT_TYPES)
        raise BtqlError(f"not supported yet: from {source.name}; use {known}", at=source.at)
    shapes = [source.shape] if source.shape else []
    ids: list[str] = []
    for argument in source.arguments:
        text = _argument_text(argument, source.at)
        if argument.name == "shape":
            shapes.append(text)
        elif argument.name is None:
            ids.append(text)
        else:
            raise BtqlError(f"{source.name} takes no {argument.name!r}", at=source.at)
    for shape in shapes:
        if shape.lower() != "spans":
            raise BtqlError(f"not supported yet: shape {shape}", at=source.at)
    if not 1 <= len(ids) <= MOST_ARGUMENTS:
        raise BtqlError(f"{source.name} takes 1 to {MOST_ARGUMENTS} ids", at=source.at)
    return _Objects(object_type=object_type, object_ids=tuple(ids))


def _argument_text(argument: Argument, at: Position | None) -> str:
    value = argument.value
    if not isinstance(value, Literal) or value.kind is not LiteralKind.STRING:
        raise BtqlError("an id is a string: project_logs('...')", at=value.at or at)
    return str(value.value)


def _from_tree(tree: JsonObject) -> Query:
    for name, value in tree.items():
        if value is not None:
            _clause_key(name)
    reader = TreeReader()
    items = _tree_items(reader, tree.get("select"))
    objects = _objects(_tree_source(reader, tree.get("from")))
    where = tree.get("filter")
    expr = TRUE if where is None else reader.expression(where, "filter")
    limit, cursor = tree.get("limit"), tree.get("cursor")
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int) or limit < 1
    ):
        raise BtqlError("a limit is a whole number from 1", path="limit")
    return Query(
        object_type=objects.object_type,
        object_ids=objects.object_ids,
        select=_fields(items),
        filter=reader.condition(expr, "filter"),
        sort=_sort(_tree_sort(reader, tree.get("sort"))),
        limit=limit,
        cursor=None if cursor is None else text_of(cursor, "cursor"),
    )


def _clause_key(name: str) -> None:
    try:
        _clause_name(name, None)
    except BtqlError as error:
        raise error.within("query") from None


def _tree_items(reader: TreeReader, value: Json) -> tuple[Item, ...]:
    items = []
    for i, one in enumerate(list_of(value or [], "select")):
        path = f"select[{i}]"
        if not isinstance(one, dict):
            raise BtqlError("a field is {alias, expr} or {op: star}", path=path)
        if one.get("op") == "star":
            check_keys(one, set(), path)
            items.append(Item(expr=None, alias=None))
            continue
        alias = one.get("alias")
        inner = one.get("expr") if "expr" in one and "op" not in one else one
        expr = reader.expression(inner, path)
        name = None if alias is None else text_of(alias, f"{path}.alias")
        items.append(Item(expr=expr, alias=name))
    reader.build.name_fields(items)
    return tuple(items)


def _tree_source(reader: TreeReader, value: Json) -> FromClause:
    if not isinstance(value, dict) or value.get("op") != "function":
        raise BtqlError("from must be a function node: project_logs with an id", path="from")
    check_keys(value, {"name", "args", "shape"}, "from")
    arguments = [
        Argument(name=None, value=reader.expression(arg, f"from.args[{i}]"))
        for i, arg in enumerate(list_of(value.get("args") or [], "from.args"))
    ]
    shape = value.get("shape")
    return FromClause(
        name=function_name(value.get("name"), "from.name"),
        arguments=tuple(arguments),
        shape=None if shape is None else text_of(shape, "from.shape"),
    )


def _tree_sort(reader: TreeReader, value: Json) -> tuple[SortKey, ...]:
    keys = []
    for i, one in enumerate(list_of(value or [], "sort")):
        path = f"sort[{i}]"
        if not isinstance(one, dict) or one.get("dir", "asc") not in ("asc", "desc"):
            raise BtqlError("a sort key is {expr, dir: asc or desc}", path=path)
        check_keys(one, {"expr", "dir"}, path)
        expr = reader.expression(one.get("expr"), f"{path}.expr")
        keys.append(SortKey(expr=expr, descending=one.get("dir") == "desc"))
    return tuple(keys)
