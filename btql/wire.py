"""Reads filters in JSON: nodes `{op: ...}`, and text snippets `{btql: ...}` among them.

Unknown operators and unknown keys are refused, never skipped: a filter of which half is ignored
selects the wrong rows.
"""

from __future__ import annotations

from collections.abc import Callable

from btql.build import DEEPEST, MOST_PREDICATES, TreeBuilder
from btql.checks import interval, unit_of
from btql.errors import BtqlError
from btql.parse import check_text, parse_expression
from btql.tree import (
    NULL,
    TRUE,
    Branch,
    Comparison,
    Expr,
    Literal,
    LiteralKind,
    Operation,
)
from spans.json import Json, JsonObject

MOST_NODES = 4000  # enough for 1000 values after IN, and small enough to read in milliseconds
LARGEST_NUMBER = 1e308  # refuses infinity, and NaN, which is below no number
_COMPARISONS = {one.value: one for one in Comparison}
_OPERATIONS = {one.value: one for one in Operation}


def read_filter(value: Json) -> Expr:
    """The tree of a filter. A string is parsed as text; null is true for every row.

    Raises BtqlError with the path of the node that is wrong.
    """
    if value is None:
        return TRUE
    reader = TreeReader()
    return reader.condition(reader.expression(value, "filter"), "filter")


class TreeReader:
    """Reads the nodes of one filter or query, and counts them."""

    def __init__(self) -> None:
        self.build = TreeBuilder()
        self._nodes = 0

    def condition(self, expr: Expr, path: str) -> Expr:
        try:
            return self.build.condition(expr)
        except BtqlError as error:
            raise error.within(path) from None

    def expression(self, value: Json, path: str, depth: int = 1) -> Expr:
        """One node. A plain string is text of the language, as `{btql: ...}` is."""
        self._count(path, depth)
        try:
            return self._expression(value, path, depth)
        except BtqlError as error:
            raise error.within(path) from None

    def _expression(self, value: Json, path: str, depth: int) -> Expr:
        if isinstance(value, str):
            return parse_expression(value, self.build)
        if not isinstance(value, dict):
            raise BtqlError("an expression is an object with a key op or btql")
        if "btql" in value:
            check_keys(value, {"btql"}, path)
            return parse_expression(text_of(value["btql"], f"{path}.btql"), self.build)
        return self._read(value, path, depth)

    def literal(self, value: Json, path: str, depth: int = 1) -> Literal:
        """A constant from plain JSON."""
        self._count(path, depth)
        match value:
            case None:
                return NULL
            case bool():
                return Literal(kind=LiteralKind.BOOLEAN, value=value)
            case str():
                check_text(value)
                return Literal(kind=LiteralKind.STRING, value=value)
            case int() | float():
                if not abs(value) < LARGEST_NUMBER:
                    raise BtqlError("the number is too large", path=path)
                return Literal(kind=LiteralKind.NUMBER, value=value)
            case list():
                items = [
                    self.literal(item, f"{path}[{i}]", depth + 1)
                    for i, item in enumerate(value)
                ]
                return Literal(kind=LiteralKind.ARRAY, value=tuple(items))
            case dict():
                for key in value:
                    check_text(key)
                pairs = [
                    (key, self.literal(item, f"{path}.{key}", depth + 1))
                    for key, item in sorted(value.items())
                ]
                return Literal(kind=LiteralKind.OBJECT, value=tuple(pairs))

    def _read(self, node: JsonObject, path: str, depth: int) -> Expr:
        op = node.get("op")
        read = self._READERS.get(op) if isinstance(op, str) else None
        if read is None:
            known = ", ".join(self._READERS)
            raise BtqlError(f"there is no operator {op!r}; the operators are {known}")
        return read(self, node, path, depth)

    def _literal_node(self, node: JsonObject, path: str, depth: int) -> Expr:
        check_keys(node, {"value"}, path)
        return self.literal(node.get("value"), f"{path}.value", depth)

    def _interval(self, node: JsonObject, path: str, _depth: int) -> Expr:
        check_keys(node, {"value", "unit"}, path)
        count = node.get("value")
        if isinstance(count, bool) or not isinstance(count, int):
            raise BtqlError("an interval counts whole units", path=f"{path}.value")
        return interval(count, unit_of(text_of(node.get("unit"), f"{path}.unit"), None), None)

    def _ident_node(self, node: JsonObject, path: str, _depth: int) -> Expr:
        check_keys(node, {"name", "alias"}, path)
        pieces = list_of(node.get("name"), f"{path}.name")
        if not pieces:
            raise BtqlError("an ident needs a name")
        steps = [_step(piece, f"{path}.name[{i}]") for i, piece in enumerate(pieces)]
        return self.build.path(steps, None)

    def _function(self, node: JsonObject, path: str, depth: int) -> Expr:
        check_keys(node, {"name", "args", "alias"}, path)
        args = [
            self.expression(_unaliased(arg), f"{path}.args[{i}]", depth + 1)
            for i, arg in enumerate(list_of(node.get("args") or [], f"{path}.args"))
        ]
        return self.build.call(function_name(node.get("name"), f"{path}.name"), args, None)

    def _compare(self, node: JsonObject, path: str, depth: int) -> Expr:
        left, right = self._sides(node, path, depth)
        op = str(node["op"])
        if op == "ne":
            return self.build.negation(
                self.build.compare(Comparison.EQ, left, right, None), None
            )
        return self.build.compare(_COMPARISONS[op], left, right, None)

    def _like(self, node: JsonObject, path: str, depth: int) -> Expr:
        left, right = self._sides(node, path, depth)
        return self.build.like(left, right, None, ignore_case=node["op"] == "ilike")

    def _match(self, node: JsonObject, path: str, depth: int) -> Expr:
        left, right = self._sides(node, path, depth)
        return self.build.match(left, right, None)

    def _in(self, node: JsonObject, path: str, depth: int) -> Expr:
        left, right = self._sides(node, path, depth)
        if not isinstance(right, Literal) or right.kind is not LiteralKind.ARRAY:
            raise BtqlError("IN needs a literal array on its right", path=f"{path}.right")
        assert isinstance(right.value, tuple)  # noqa: S101 - what ARRAY means
        options = [item for item in right.value if isinstance(item, Literal)]
        return self.build.among(left, options, None)

    def _includes(self, node: JsonObject, path: str, depth: int) -> Expr:
        check_keys(node, {"haystack", "needle"}, path)
        haystack = self.expression(node.get("haystack"), f"{path}.haystack", depth + 1)
        needle = self.expression(node.get("needle"), f"{path}.needle", depth + 1)
        return self.build.includes(haystack, needle, None)

    def _logic(self, node: JsonObject, path: str, depth: int) -> Expr:
        children = [
            self.expression(child, where, depth + 1)
            for child, where in self._operands(node, path)
        ]
        build = self.build.all_of if node["op"] == "and" else self.build.any_of
        return build(children, None)

    def _operands(self, node: JsonObject, path: str) -> list[tuple[Json, str]]:
        """The operands of an AND or OR, with their paths.

        A chain that is written in pairs, each inside the other, gives one list: its nesting
        does not count as depth.
        """
        found: list[tuple[Json, str]] = []
        waiting: list[tuple[Json, str]] = [(node, path)]
        while waiting:
            one, where = waiting.pop()
            if not isinstance(one, dict) or one.get("op") != node["op"]:
                found.append((one, where))
                continue
            self._count(where, 1)
            if len(found) + len(waiting) > MOST_PREDICATES:
                raise BtqlError(f"a filter has at most {MOST_PREDICATES} predicates")
            check_keys(one, {"left", "right", "children"}, where)
            parts = [
                (one[side], f"{where}.{side}") for side in ("left", "right") if side in one
            ]
            children = list_of(one.get("children") or [], f"{where}.children")
            parts += [(child, f"{where}.children[{i}]") for i, child in enumerate(children)]
            waiting += reversed(parts)
        return found

    def _if(self, node: JsonObject, path: str, depth: int) -> Expr:
        check_keys(node, {"conds", "else"}, path)
        branches = []
        for i, cond in enumerate(list_of(node.get("conds"), f"{path}.conds")):
            where = f"{path}.conds[{i}]"
            if not isinstance(cond, dict):
                raise BtqlError("a branch is an object with cond and then", path=where)
            check_keys(cond, {"cond", "then"}, where)
            condition = self.expression(cond.get("cond"), f"{where}.cond", depth + 1)
            result = self.expression(cond.get("then"), f"{where}.then", depth + 1)
            branches.append(Branch(condition=condition, result=result))
        otherwise = self.expression(node.get("else"), f"{path}.else", depth + 1)
        return self.build.choice(branches, otherwise, None)

    def _unary(self, node: JsonObject, path: str, depth: int) -> Expr:
        check_keys(node, {"expr"}, path)
        item = self.expression(node.get("expr"), f"{path}.expr", depth + 1)
        match node["op"]:
            case "not":
                return self.build.negation(item, None)
            case "neg":
                return self.build.negative(item, None)
            case "isnull":
                return self.build.is_null(item, None)
            case "isnotnull":
                return self.build.negation(self.build.is_null(item, None), None)
            case _:  # a filter on any span of a trace: the row is the one span
                return self.build.condition(item)

    def _arithmetic(self, node: JsonObject, path: str, depth: int) -> Expr:
        left, right = self._sides(node, path, depth)
        return self.build.arithmetic(_OPERATIONS[str(node["op"])], left, right, None)

    _READERS: dict[str, Callable[[TreeReader, JsonObject, str, int], Expr]] = {  # noqa: RUF012
        "literal": _literal_node,
        "interval": _interval,
        "ident": _ident_node,
        "function": _function,
        **dict.fromkeys(["eq", "is", "ne", "lt", "le", "gt", "ge"], _compare),
        **dict.fromkeys(["like", "ilike"], _like),
        "match": _match,
        "in": _in,
        "includes": _includes,
        **dict.fromkeys(["and", "or"], _logic),
        "if": _if,
        **dict.fromkeys(["not", "neg", "isnull", "isnotnull"], _unary),
        **dict.fromkeys(["singlespanfilter", "matchingspansfilter"], _unary),
        **dict.fromkeys(["add", "sub", "mul", "div", "mod"], _arithmetic),
    }

    def _sides(self, node: JsonObject, path: str, depth: int) -> tuple[Expr, Expr]:
        check_keys(node, {"left", "right"}, path)
        left = self.expression(node.get("left"), f"{path}.left", depth + 1)
        return left, self.expression(node.get("right"), f"{path}.right", depth + 1)

    def _count(self, path: str, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise BtqlError(f"the filter has more than {MOST_NODES} nodes", path=path)
        if depth > DEEPEST:
            raise BtqlError(f"the filter nests deeper than {DEEPEST} levels", path=path)


def function_name(value: Json, path: str) -> str:
    """The name of a function: `{op: ident, name: [name]}`, or just the name."""
    if isinstance(value, dict):
        check_keys(value, {"name", "alias"}, path)
        value = value.get("name")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return text_of(value, path)


def check_keys(node: JsonObject, known: set[str], path: str) -> None:
    """Raises BtqlError for a key that the node cannot have, unless its value is null."""
    for key, value in node.items():
        if key not in known and key not in ("op", "loc") and value is not None:
            keys = ", ".join(sorted(known))
            raise BtqlError(f"there is no key {key!r} here; the keys are {keys}", path=path)


def text_of(value: Json, path: str) -> str:
    if not isinstance(value, str):
        raise BtqlError("a string is needed here", path=path)
    check_text(value)
    return value


def list_of(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list):
        raise BtqlError("a list is needed here", path=path)
    return value


def _step(piece: Json, path: str) -> str | int:
    if isinstance(piece, int) and not isinstance(piece, bool):
        return piece
    return text_of(piece, path)


def _unaliased(arg: Json) -> Json:
    """An argument may come as `{expr, alias}`."""
    return arg["expr"] if isinstance(arg, dict) and "expr" in arg and "op" not in arg else arg
