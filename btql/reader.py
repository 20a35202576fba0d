"""Turns lark's tree into ours. Only `btql.parse` imports this module: lark imports slowly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from lark import Token
from lark.visitors import Transformer_NonRecursive

from btql.build import DEEPEST, TreeBuilder
from btql.checks import interval, interval_of, unit_of
from btql.clauses import Argument, Clause, FromClause, Item, SortKey
from btql.errors import BtqlError, Position
from btql.tree import TRUE, Branch, Comparison, Expr, Literal, LiteralKind, Operation, Scalar

# An IEEE double needs 17 digits, a 64-bit integer 19.
MOST_DIGITS = 40
_COMPARISONS = {
    "=": (Comparison.EQ, False),
    "!=": (Comparison.EQ, True),
    "<>": (Comparison.EQ, True),
    "<=>": (Comparison.IS, False),
    "<!=>": (Comparison.IS, True),
    "<": (Comparison.LT, False),
    "<=": (Comparison.LE, False),
    ">": (Comparison.GT, False),
    ">=": (Comparison.GE, False),
}
_OPERATIONS = {
    "+": Operation.ADD,
    "-": Operation.SUB,
    "*": Operation.MUL,
    "/": Operation.DIV,
    "%": Operation.MOD,
}


@dataclass(frozen=True, slots=True)
class Sub:
    """An expression, and how many levels deep the text nests in it."""

    expr: Expr
    depth: int = 1


@dataclass(frozen=True, slots=True)
class ObjectPair:
    key: str
    value: Literal


@dataclass(frozen=True, slots=True)
class OptionList:
    items: tuple[Literal, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class When:
    branch: Branch
    depth: int


@dataclass(frozen=True, slots=True)
class Step:
    key: str | int


Part: TypeAlias = (
    Sub
    | ObjectPair
    | OptionList
    | When
    | Step
    | Item
    | SortKey
    | Argument
    | FromClause
    | Clause
    | Token
    | None
)
Parts: TypeAlias = list[Part]
_T = TypeVar("_T")


class Reader(Transformer_NonRecursive[Token, Part]):
    """Reads one text, with a method for each rule of the grammar. Each text needs its own."""

    def __init__(self, build: TreeBuilder) -> None:
        super().__init__()
        self._build = build

    def filter(self, parts: Parts) -> Clause:
        subs = _all(parts, Sub)
        return Clause(expr=subs[0].expr if subs else TRUE)

    def items(self, parts: Parts) -> Clause:
        items = tuple(_all(parts, Item))
        self._build.name_fields(items)
        return Clause(items=items)

    def order(self, parts: Parts) -> Clause:
        return Clause(order=tuple(_all(parts, SortKey)))

    def sql(self, parts: Parts) -> Clause:
        clauses, tokens = _all(parts, Clause), _all(parts, Token)
        subs = _all(parts, Sub)
        return Clause(
            expr=self._build.condition(subs[0].expr) if subs else TRUE,
            items=clauses[0].items,
            order=clauses[1].order if len(clauses) > 1 else (),
            source=_all(parts, FromClause)[0],
            limit=next((str(one) for one in tokens if one.type == "NUMBER"), None),
            cursor=next((_string(one) for one in tokens if one.type == "STRING"), None),
        )

    def source(self, parts: Parts) -> FromClause:
        name, *rest = _all(parts, Token)
        return FromClause(
            name=_name(name),
            arguments=tuple(_all(parts, Argument)),
            shape=str(rest[0]) if rest else None,
            at=_at(name),
        )

    def argument(self, parts: Parts) -> Argument:
        names = _all(parts, Token)
        return Argument(
            name=names[0].lower() if names else None, value=_all(parts, Sub)[0].expr
        )

    def star(self, _parts: Parts) -> Item:
        return Item(expr=None, alias=None)

    def item(self, parts: Parts) -> Item:
        expr = _all(parts, Sub)[0].expr
        names = _all(parts, Token)
        return Item(expr=expr, alias=_name(names[0]) if names else None, at=expr.at)

    def sort_key(self, parts: Parts) -> SortKey:
        descending = any(one.type == "DESC" for one in _all(parts, Token))
        return SortKey(expr=_all(parts, Sub)[0].expr, descending=descending)

    def ternary(self, parts: Parts) -> Sub:
        condition, then, otherwise = _all(parts, Sub)
        at = _at(_all(parts, Token)[0])
        branch = Branch(condition=condition.expr, result=then.expr)
        return _deeper(
            self._build.choice([branch], otherwise.expr, at), at, condition, then, otherwise
        )

    def or_expr(self, parts: Parts) -> Sub:
        return _chain(self._build.any_of, parts)

    def and_expr(self, parts: Parts) -> Sub:
        return _chain(self._build.all_of, parts)

    def negation(self, parts: Parts) -> Sub:
        item, at = _all(parts, Sub)[0], _at(_all(parts, Token)[0])
        return _deeper(self._build.negation(item.expr, at), at, item)

    def compare(self, parts: Parts) -> Sub:
        op, negated = _COMPARISONS[_all(parts, Token)[0]]
        return self._compared(op, parts, negated=negated)

    def is_(self, parts: Parts) -> Sub:
        return self._compared(Comparison.IS, parts, negated=False)

    def is_not(self, parts: Parts) -> Sub:
        return self._compared(Comparison.IS, parts, negated=True)

    def like(self, parts: Parts) -> Sub:
        word = _all(parts, Token)[-1]
        item, pattern = _all(parts, Sub)
        ignore_case = word[0] in "iI"
        found = self._build.like(item.expr, pattern.expr, _at(word), ignore_case=ignore_case)
        return self._signed(found, parts)

    def match(self, parts: Parts) -> Sub:
        item, query = _all(parts, Sub)
        return self._signed(
            self._build.match(item.expr, query.expr, _at(_all(parts, Token)[-1])), parts
        )

    def includes(self, parts: Parts) -> Sub:
        haystack, needle = _all(parts, Sub)
        return self._signed(
            self._build.includes(haystack.expr, needle.expr, _at(_all(parts, Token)[-1])), parts
        )

    def among(self, parts: Parts) -> Sub:
        item, options = _all(parts, Sub)[0], _options(parts)
        return self._signed(
            self._build.among(item.expr, options, _at(_all(parts, Token)[-1])), parts
        )

    def between(self, parts: Parts) -> Sub:
        item, low, high = _all(parts, Sub)
        at = _at(_all(parts, Token)[0])
        return self._signed(self._build.between(item.expr, low.expr, high.expr, at), parts)

    def isnull(self, parts: Parts) -> Sub:
        word = _all(parts, Token)[0]
        item = _all(parts, Sub)[0]
        found = self._build.is_null(item.expr, _at(word))
        if word.lower() == "isnotnull":
            found = self._build.negation(found, _at(word))
        return _deeper(found, _at(word), item)

    def options(self, parts: Parts) -> OptionList:
        subs = _all(parts, Sub)
        return OptionList(tuple(_literal(sub.expr) for sub in subs), _depth(subs))

    def arithmetic(self, parts: Parts) -> Sub:
        sign = _all(parts, Token)[0]
        left, right = _all(parts, Sub)
        expr = self._build.arithmetic(_OPERATIONS[sign], left.expr, right.expr, _at(sign))
        return _deeper(expr, _at(sign), left, right)

    def negative(self, parts: Parts) -> Sub:
        item, at = _all(parts, Sub)[0], _at(_all(parts, Token)[0])
        return _deeper(self._build.negative(item.expr, at), at, item)

    def parentheses(self, parts: Parts) -> Sub:
        item = _all(parts, Sub)[0]
        return _deeper(item.expr, item.expr.at, item)

    def string(self, parts: Parts) -> Sub:
        token = _all(parts, Token)[0]
        return _constant(LiteralKind.STRING, _string(token), _at(token))

    def number(self, parts: Parts) -> Sub:
        token = _all(parts, Token)[0]
        return _constant(LiteralKind.NUMBER, _number(token), _at(token))

    def true(self, parts: Parts) -> Sub:
        return _constant(LiteralKind.BOOLEAN, True, _at(_all(parts, Token)[0]))  # noqa: FBT003

    def false(self, parts: Parts) -> Sub:
        return _constant(LiteralKind.BOOLEAN, False, _at(_all(parts, Token)[0]))  # noqa: FBT003

    def null(self, parts: Parts) -> Sub:
        return _constant(LiteralKind.NULL, None, _at(_all(parts, Token)[0]))

    def array(self, parts: Parts) -> Sub:
        subs = _all(parts, Sub)
        at = _at(_all(parts, Token)[0])
        items = tuple(_literal(sub.expr) for sub in subs)
        return _deeper(Literal(kind=LiteralKind.ARRAY, value=items, at=at), at, *subs)

    def object(self, parts: Parts) -> Sub:
        at = _at(_all(parts, Token)[0])
        pairs = {pair.key: pair.value for pair in _all(parts, ObjectPair)}
        # The last pair of a key counts, as in JSON. Sorting makes equal objects compare equal.
        literal = Literal(
            kind=LiteralKind.OBJECT, value=tuple(sorted(pairs.items(), key=_key)), at=at
        )
        return _deeper(
            literal, at, *(Sub(value, _literal_depth(value)) for value in pairs.values())
        )

    def pair(self, parts: Parts) -> ObjectPair:
        return ObjectPair(_word(_all(parts, Token)[0]), _literal(_all(parts, Sub)[0].expr))

    def interval(self, parts: Parts) -> Sub:
        word, *rest = _all(parts, Token)
        number, unit = rest[-2], rest[-1]
        count = _number(number)
        if not isinstance(count, int):
            raise BtqlError("an interval counts whole units", at=_at(number))
        count = -count if len(rest) == 3 else count
        return Sub(interval(count, unit_of(str(unit), _at(unit)), _at(word)))

    def interval_text(self, parts: Parts) -> Sub:
        word, text = _all(parts, Token)
        return Sub(interval_of(_string(text), _at(word)))

    def case(self, parts: Parts) -> Sub:
        at = _at(_all(parts, Token)[0])
        whens, others = _all(parts, When), _all(parts, Sub)
        otherwise = others[0] if others else _constant(LiteralKind.NULL, None, at)
        expr = self._build.choice([when.branch for when in whens], otherwise.expr, at)
        return _deeper(expr, at, otherwise, *(Sub(TRUE, when.depth) for when in whens))

    def when(self, parts: Parts) -> When:
        condition, result = _all(parts, Sub)
        branch = Branch(condition=condition.expr, result=result.expr)
        return When(branch, max(condition.depth, result.depth))

    def call(self, parts: Parts) -> Sub:
        name = _all(parts, Token)[0]
        args = _all(parts, Sub)
        expr = self._build.call(str(name), [arg.expr for arg in args], _at(name))
        return _deeper(expr, _at(name), *args)

    def path(self, parts: Parts) -> Sub:
        name = _all(parts, Token)[0]
        keys = [step.key for step in _all(parts, Step)]
        if name.type == "QUOTED" and not keys:
            return Sub(self._build.quoted(_name(name), _at(name)))
        return Sub(self._build.path([_name(name), *keys], _at(name)))

    def key(self, parts: Parts) -> Step:
        return Step(_name(_all(parts, Token)[0]))

    def index(self, parts: Parts) -> Step:
        *sign, number = _all(parts, Token)
        index = _number(number)
        if not isinstance(index, int):
            raise BtqlError("an index is a whole number", at=_at(number))
        return Step(-index if sign else index)

    def _compared(self, op: Comparison, parts: Parts, *, negated: bool) -> Sub:
        left, right = _all(parts, Sub)
        at = _at(_all(parts, Token)[0])
        expr = self._build.compare(op, left.expr, right.expr, at)
        expr = self._build.negation(expr, at) if negated else expr
        return _deeper(expr, at, left, right)

    def _signed(self, expr: Expr, parts: Parts) -> Sub:
        """`expr`, negated if the text has NOT before the operator."""
        word = _all(parts, Token)[0]
        expr = self._build.negation(expr, _at(word)) if word.type == "NOT" else expr
        return _deeper(expr, _at(word), *_all(parts, Sub))


def _all(parts: Parts, kind: type[_T]) -> list[_T]:
    return [part for part in parts if isinstance(part, kind)]


def _at(token: Token) -> Position:
    return Position(line=token.line or 1, column=token.column or 1)


def _depth(subs: list[Sub]) -> int:
    return max((sub.depth for sub in subs), default=0)


def _deeper(expr: Expr, at: Position | None, *inner: Sub) -> Sub:
    depth = _depth(list(inner)) + 1
    if depth > DEEPEST:
        raise BtqlError(f"the filter nests deeper than {DEEPEST} levels", at=at)
    return Sub(expr, depth)


def _chain(build: Callable[[list[Expr], Position | None], Expr], parts: Parts) -> Sub:
    subs, word = _all(parts, Sub), _all(parts, Token)[0]
    return _deeper(build([sub.expr for sub in subs], _at(word)), _at(word), *subs)


def _options(parts: Parts) -> tuple[Literal, ...]:
    found = _all(parts, OptionList)
    if found:
        return found[0].items
    array = _all(parts, Sub)[-1].expr
    assert isinstance(array, Literal)  # noqa: S101 - the grammar says so
    assert isinstance(array.value, tuple)  # noqa: S101
    return tuple(item for item in array.value if isinstance(item, Literal))


def _constant(kind: LiteralKind, value: Scalar, at: Position) -> Sub:
    return Sub(Literal(kind=kind, value=value, at=at))


def _literal(expr: Expr) -> Literal:
    if not isinstance(expr, Literal):
        raise BtqlError("a list or an object holds constants only", at=expr.at)
    return expr


def _literal_depth(literal: Literal) -> int:
    if not isinstance(literal.value, tuple):
        return 1
    inner = [item if isinstance(item, Literal) else item[1] for item in literal.value]
    return 1 + max(map(_literal_depth, inner), default=0)


def _key(pair: tuple[str, Literal]) -> str:
    return pair[0]


def _name(token: Token) -> str:
    return token[1:-1].replace('""', '"') if token.type == "QUOTED" else str(token)


def _string(token: Token) -> str:
    return token[1:-1].replace("''", "'")


def _word(token: Token) -> str:
    return _string(token) if token.type == "STRING" else _name(token)


def _number(token: Token) -> int | float:
    if len(token) > MOST_DIGITS:
        raise BtqlError(f"a number has at most {MOST_DIGITS} digits", at=_at(token))
    if token.isdigit():
        return int(token)
    number = float(token)
    if number in (float("inf"), float("-inf")):
        raise BtqlError(f"{token} is larger than a number can be", at=_at(token))
    return number
