"""The expression tree. Text and JSON are read into it; closures and SQL are compiled from it.

Nodes compare and hash by meaning: their place in the text does not count. Many forms of the
language have no node of their own: `a != b` is Not(Compare(eq)), BETWEEN is two comparisons,
CASE is an If, and a negative value is a subtraction from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from btql.errors import Position
from spans.json import Json


class LiteralKind(StrEnum):
    """JSON's types. They tell 1 from true, which are equal in Python."""

    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    ARRAY = "array"
    OBJECT = "object"


class Comparison(StrEnum):
    """The comparisons. `IS` is equality under which null IS null, and no value IS null."""

    EQ = "eq"
    IS = "is"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


class Operation(StrEnum):
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MOD = "mod"


class Unit(StrEnum):
    YEAR = "year"
    MONTH = "month"
    WEEK = "week"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"
    SECOND = "second"
    MILLISECOND = "millisecond"
    MICROSECOND = "microsecond"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    at: Position | None = field(default=None, compare=False, repr=False)


Scalar: TypeAlias = "bool | int | float | str | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Node):
    """A constant. An array holds literals, an object (name, literal) pairs.

    `is_quoted` marks a string in double quotes, which may have been meant as a name.
    """

    kind: LiteralKind
    value: Scalar | tuple[Literal, ...] | tuple[tuple[str, Literal], ...]
    is_quoted: bool = field(default=False, compare=False, repr=False)

    def json(self) -> Json:
        """The constant as plain JSON."""
        if not isinstance(self.value, tuple):
            return self.value
        if self.kind is LiteralKind.ARRAY:
            return [item.json() for item in self.value if isinstance(item, Literal)]
        return {item[0]: item[1].json() for item in self.value if isinstance(item, tuple)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Node):
    """A length of time; calendar units count months, the others microseconds."""

    months: int
    micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Path(Node):
    """A column, then steps into its value: a string is an object's key, a number an index."""

    column: str
    keys: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Node):
    op: Comparison
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class In(Node):
    """Whether `item`, or one of its elements if it is an array, is among `options`."""

    item: Expr
    options: tuple[Literal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Like(Node):
    item: Expr
    pattern: str
    ignore_case: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Node):
    """Whether `item` has each of `words` as a full word. They are in lower case, sorted."""

    item: Expr
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Includes(Node):
    """Whether an element of the array, or a value of the object, equals `needle`."""

    haystack: Expr
    needle: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class IsNull(Node):
    item: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Not(Node):
    item: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class And(Node):
    children: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Or(Node):
    children: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic(Node):
    op: Operation
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    condition: Expr
    result: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class If(Node):
    """The result of the first branch whose condition is true, else `otherwise`."""

    branches: tuple[Branch, ...]
    otherwise: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """A function of `btql.functions.SIGNATURES`, with arguments that were checked."""

    name: str
    args: tuple[Expr, ...]


Expr: TypeAlias = (
    "Literal | Interval | Path | Compare | In | Like | Match | Includes | IsNull | Not | And"
    " | Or | Arithmetic | If | Call"
)

TRUE = Literal(kind=LiteralKind.BOOLEAN, value=True)
NULL = Literal(kind=LiteralKind.NULL, value=None)


def children_of(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside `expr`, in the order of the text."""
    match expr:
        case Compare(left=left, right=right) | Arithmetic(left=left, right=right):
            return (left, right)
        case In(item=item) | Like(item=item) | Match(item=item):
            return (item,)
        case IsNull(item=item) | Not(item=item):
            return (item,)
        case Includes(haystack=haystack, needle=needle):
            return (haystack, needle)
        case And(children=children) | Or(children=children):
            return children
        case Call(args=args):
            return args
        case If(branches=branches, otherwise=otherwise):
            parts = [part for one in branches for part in (one.condition, one.result)]
            return (*parts, otherwise)
        case _:
            return ()
