"""Builds checked nodes of the expression tree, for the text reader and the JSON reader alike.

Where the language has several forms for one meaning, all of them become the same node here, so
that the compilers to closures and SQL need to know only one. Each method raises BtqlError at
the position that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from btql.checks import (
    check_arithmetic,
    check_call,
    check_comparison,
    check_condition,
    check_reads_row,
    check_time,
    check_together,
    check_value,
    constant_string,
    interval_of,
    is_null,
    kind_of,
)
from btql.clauses import Item
from btql.columns import COLUMNS, check_column
from btql.errors import BtqlError, Position
from btql.functions import (
    BARE,
    MOST_ARGUMENTS,
    PERIODS,
    REWRITTEN,
    SEARCHED,
    SIGNATURES,
    arity,
    unknown_function,
)
from btql.kinds import Kind
from btql.text import words_of
from btql.tree import (
    And,
    Arithmetic,
    Branch,
    Call,
    Compare,
    Comparison,
    Expr,
    If,
    In,
    Includes,
    IsNull,
    Like,
    Literal,
    LiteralKind,
    Match,
    Not,
    Operation,
    Or,
    Path,
)

# Limits of one filter or query. They lie beyond what people write, and keep the time to read it
# and the size of its SQL small.
MOST_PREDICATES = 100
MOST_OPTIONS = 1000  # values after IN
MOST_KEYS = 32  # steps of a path
MOST_ALIAS_USES = 16
MOST_BRANCHES = 100  # of one CASE, or of one chain of ? and :
DEEPEST = 32  # levels of nesting
_NOWS = {"current_timestamp": "now"}
_MIRRORED = {
    Comparison.LT: Comparison.GT,
    Comparison.LE: Comparison.GE,
    Comparison.GT: Comparison.LT,
    Comparison.GE: Comparison.LE,
}


class TreeBuilder:
    """Makes the nodes of one filter or query, and holds it to the limits above.

    build = TreeBuilder()
    path = build.path(["metadata", "env"], None)
    text = Literal(kind=LiteralKind.STRING, value="prod")
    build.compare(Comparison.EQ, path, text, None)    # metadata.env = 'prod'
    """

    def __init__(self) -> None:
        self._predicates = 0
        self._alias_uses = 0
        # Names that a query gives its fields (`expr AS name`). Later clauses may use them in
        # place of a column. Fields cannot use each other's names, so this is filled only once
        # all fields are read.
        self.aliases: dict[str, Expr] = {}

    def name_fields(self, items: Sequence[Item]) -> None:
        """Lets later clauses use the names of these fields."""
        for item in items:
            if item.alias is not None and item.expr is not None:
                self.aliases[item.alias] = item.expr

    def condition(self, expr: Expr) -> Expr:
        check_condition(expr)
        return expr

    def path(self, pieces: Sequence[str | int], at: Position | None) -> Expr:
        """The path of these pieces: a column, then keys and indexes.

        A single name can also be the name of a field, or of a function that SQL writes without
        parentheses.
        """
        column, *keys = pieces
        if not isinstance(column, str):
            raise BtqlError("a path starts with the name of a column", at=at)
        if not keys and column not in COLUMNS and column.lower() in BARE:
            return Call(name=_NOWS.get(column.lower(), column.lower()), args=(), at=at)
        if not keys and column not in COLUMNS and column in self.aliases:
            return self._aliased(column, at)
        if len(keys) > MOST_KEYS:
            raise BtqlError(f"a path has at most {MOST_KEYS} steps", at=at)
        for key in keys:
            if isinstance(key, int) and not -(2**31) <= key < 2**31:
                raise BtqlError(f"{key} is no usable index; an index has 32 bits", at=at)
        check_column(column, has_keys=bool(keys), at=at)
        return Path(column=column, keys=tuple(keys), at=at)

    def quoted(self, text: str, at: Position | None) -> Expr:
        """A text in double quotes: the column or field of that name, else a string."""
        if text in COLUMNS or text in self.aliases:
            return self.path([text], at)
        return Literal(kind=LiteralKind.STRING, value=text, at=at, is_quoted=True)

    def compare(self, op: Comparison, left: Expr, right: Expr, at: Position | None) -> Expr:
        if op is Comparison.IS and is_null(right):
            return self.is_null(left, at)
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right, op = right, left, _MIRRORED.get(op, op)
        self._count(at)
        check_comparison(left, right, at)
        check_reads_row(left, right)
        return Compare(op=op, left=left, right=right, at=at)

    def is_null(self, item: Expr, at: Position | None) -> Expr:
        self._count(at)
        check_value(item)
        check_reads_row(item)
        return IsNull(item=item, at=at)

    def between(self, item: Expr, low: Expr, high: Expr, at: Position | None) -> Expr:
        return self.all_of(
            (
                self.compare(Comparison.GE, item, low, at),
                self.compare(Comparison.LE, item, high, at),
            ),
            at,
        )

    def among(self, item: Expr, options: Sequence[Literal], at: Position | None) -> Expr:
        if len(options) > MOST_OPTIONS:
            raise BtqlError(f"a list after IN holds at most {MOST_OPTIONS} values", at=at)
        self._count(at)
        check_value(item)
        check_reads_row(item, *options)
        if kind_of(item) is Kind.TIME:
            for option in options:
                check_time(option)
        return In(item=item, options=tuple(options), at=at)

    def like(
        self, item: Expr, pattern: Expr, at: Position | None, *, ignore_case: bool
    ) -> Expr:
        self._count(at)
        check_value(item)
        check_reads_row(item)
        text = constant_string(pattern, "the pattern")
        return Like(item=item, pattern=text, ignore_case=ignore_case, at=at)

    def match(self, item: Expr, query: Expr, at: Position | None) -> Expr:
        self._count(at)
        check_value(item)
        check_reads_row(item)
        words = words_of(constant_string(query, "the words to find"))
        if not words:
            raise BtqlError("MATCH needs at least one word of letters or digits", at=query.at)
        if len(words) > MOST_ARGUMENTS:
            raise BtqlError(f"MATCH takes at most {MOST_ARGUMENTS} words", at=query.at)
        return Match(item=item, words=words, at=at)

    def includes(self, haystack: Expr, needle: Expr, at: Position | None) -> Expr:
        self._count(at)
        check_value(haystack)
        check_value(needle)
        check_reads_row(haystack, needle)
        return Includes(haystack=haystack, needle=needle, at=at)

    def negation(self, item: Expr, at: Position | None) -> Expr:
        self._count_bare(item)
        return Not(item=self.condition(item), at=at)

    def all_of(self, children: Sequence[Expr], at: Position | None) -> Expr:
        if not children:
            return Literal(kind=LiteralKind.BOOLEAN, value=True, at=at)
        flat = self._flat(children, And)
        return And(children=flat, at=at) if len(flat) > 1 else flat[0]

    def any_of(self, children: Sequence[Expr], at: Position | None) -> Expr:
        if not children:
            return Literal(kind=LiteralKind.BOOLEAN, value=False, at=at)
        flat = self._flat(children, Or)
        return Or(children=flat, at=at) if len(flat) > 1 else flat[0]

    def arithmetic(self, op: Operation, left: Expr, right: Expr, at: Position | None) -> Expr:
        check_arithmetic(op, left, right, at)
        return Arithmetic(op=op, left=left, right=right, at=at)

    def negative(self, item: Expr, at: Position | None) -> Expr:
        if isinstance(item, Literal) and item.kind is LiteralKind.NUMBER:
            number = item.value
            assert isinstance(number, int | float)  # noqa: S101 - what NUMBER means
            return Literal(kind=LiteralKind.NUMBER, value=-number, at=at)
        zero = Literal(kind=LiteralKind.NUMBER, value=0, at=at)
        return self.arithmetic(Operation.SUB, zero, item, at)

    def choice(self, branches: Sequence[Branch], otherwise: Expr, at: Position | None) -> Expr:
        """An If node. Where `otherwise` is an If too, its branches are appended to these."""
        for branch in branches:
            self._count_bare(branch.condition)
            check_condition(branch.condition)
        every = tuple(branches)
        if isinstance(otherwise, If):
            every, otherwise = every + otherwise.branches, otherwise.otherwise
        if len(every) > MOST_BRANCHES:
            raise BtqlError(f"a choice has at most {MOST_BRANCHES} branches", at=at)
        check_together((*(branch.result for branch in every), otherwise))
        return If(branches=every, otherwise=otherwise, at=at)

    def call(self, name: str, args: Sequence[Expr], at: Position | None) -> Expr:
        """A call of the function `name`, whose case does not matter."""
        name = name.lower()
        if name in REWRITTEN:
            return self._rewritten(name, args, at)
        signature = SIGNATURES.get(name)
        if signature is None:
            raise BtqlError(unknown_function(name), at=at)
        if not signature.least <= len(args) <= signature.most:
            raise BtqlError(f"{name}() takes {arity(signature)}, not {len(args)}", at=at)
        check_call(signature, tuple(args))
        if name in PERIODS:
            unit = Literal(kind=LiteralKind.STRING, value=name, at=at)
            return Call(name="date_trunc", args=(unit, *args), at=at)
        return Call(name=_NOWS.get(name, name), args=tuple(args), at=at)

    def _aliased(self, name: str, at: Position | None) -> Expr:
        """The expression of the field of that name.

        The number of uses is limited because each one puts the whole expression into the tree
        once more.
        """
        self._alias_uses += 1
        if self._alias_uses > MOST_ALIAS_USES:
            raise BtqlError(
                f"a query uses names of fields at most {MOST_ALIAS_USES} times", at=at
            )
        return self.aliases[name]

    def _rewritten(self, name: str, args: Sequence[Expr], at: Position | None) -> Expr:
        count, build = self._rewrites(at)[name]
        if len(args) != count:
            takes = f"{count} argument{'' if count == 1 else 's'}"
            raise BtqlError(f"{name}() takes {takes}, not {len(args)}", at=at)
        return build(*args)

    def _rewrites(self, at: Position | None) -> dict[str, tuple[int, Callable[..., Expr]]]:
        """Of each rewritten function: its number of arguments, and what builds the new node."""
        return {
            "contains": (2, lambda haystack, needle: self.includes(haystack, needle, at)),
            "includes": (2, lambda haystack, needle: self.includes(haystack, needle, at)),
            "search": (1, lambda query: self._search(query, at)),
            "estimated_cost": (0, lambda: self.path(["metrics", "estimated_cost"], at)),
            "to_interval": (
                1,
                lambda text: interval_of(constant_string(text, "the interval"), at),
            ),
            # These ask about any span of a trace. A filter sees one span, and asks that.
            "any_span": (1, self.condition),
            "filter_spans": (1, self.condition),
        }

    def _search(self, query: Expr, at: Position | None) -> Expr:
        return self.any_of(
            [self.match(self.path([column], at), query, at) for column in SEARCHED], at
        )

    def _flat(self, children: Sequence[Expr], kind: type[And] | type[Or]) -> tuple[Expr, ...]:
        flat: list[Expr] = []
        for child in children:
            if isinstance(child, kind):
                flat.extend(child.children)
            else:
                self._count_bare(child)
                flat.append(self.condition(child))
        return tuple(flat)

    def _count_bare(self, expr: Expr) -> None:
        """Counts a path, constant or call that is used as a condition as a predicate."""
        if isinstance(expr, Path | Literal | Call):
            self._count(expr.at)

    def _count(self, at: Position | None) -> None:
        self._predicates += 1
        if self._predicates > MOST_PREDICATES:
            raise BtqlError(f"a filter has at most {MOST_PREDICATES} predicates", at=at)
