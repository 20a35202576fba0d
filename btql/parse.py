"""Parses text. Any text gives a tree, or a BtqlError with a line and a column."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from btql.build import TreeBuilder
from btql.clauses import Clause, FromClause
from btql.errors import BtqlError, Position
from btql.tree import Expr

if TYPE_CHECKING:
    from lark import Lark
    from lark.exceptions import UnexpectedInput

# Bytes of UTF-8: far beyond what people write, and so few that parsing takes milliseconds.
MOST_BYTES = 16_384
# Words of SQL that get the answer "not supported yet" and not "not expected here".
_UNSUPPORTED = frozenset(
    {
        "GROUP",
        "HAVING",
        "PIVOT",
        "UNPIVOT",
        "JOIN",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "TABLESAMPLE",
        "SETTINGS",
        "DISTINCT",
        "OVER",
        "WITH",
    }
)


def parse_filter(text: str) -> Expr:
    """The tree of a filter. An empty text is true for every row.

    Raises BtqlError if the text does not follow the grammar, names an unknown column or
    function, or is beyond a limit (16 kB, 100 predicates, 1000 values after IN, 32 levels).
    """
    build = TreeBuilder()
    return build.condition(parse_clause(text, "filter", build).expr)


def parse_expression(text: str, build: TreeBuilder) -> Expr:
    """The tree of one expression. It is part of the filter or query that `build` makes."""
    return parse_clause(text, "filter", build).expr


def parse_clause(text: str, start: str, build: TreeBuilder) -> Clause:
    """The whole text, read by the grammar's rule `start`. Raises as `parse_filter` does."""
    from lark.exceptions import UnexpectedInput, VisitError  # noqa: PLC0415 - see `_grammar`

    from btql.reader import Reader  # noqa: PLC0415 - imports lark too

    check_text(text)
    try:
        found = Reader(build).transform(_grammar().parse(text, start=start))
    except UnexpectedInput as error:
        raise _unexpected(text, error) from None
    except VisitError as error:
        raise error.orig_exc from None
    if isinstance(found, FromClause):
        return Clause(source=found)
    assert isinstance(found, Clause)  # noqa: S101 - what the other start rules give
    return found


def check_text(text: str) -> None:
    """Raises BtqlError if the text is too long, or PostgreSQL could not store it."""
    if len(text) > MOST_BYTES or len(text.encode(errors="replace")) > MOST_BYTES:
        raise BtqlError(
            f"the text is longer than {MOST_BYTES} bytes",
            at=position_of(text, min(len(text), MOST_BYTES)),
        )
    for offset, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise BtqlError(
                f"the character {character!r} is not allowed", at=position_of(text, offset)
            )


def position_of(text: str, offset: int) -> Position:
    """The line and column of the character at `offset`."""
    before = text[:offset]
    return Position(line=before.count("\n") + 1, column=offset - before.rfind("\n"))


def _unexpected(text: str, error: UnexpectedInput) -> BtqlError:
    """lark's error in our words: about a character, a token, or the end of the text."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken  # noqa: PLC0415

    if isinstance(error, UnexpectedCharacters):
        character = text[error.pos_in_stream or 0]
        problem = f"the character {character!r} has no meaning here"
        if character in "'\"":
            problem = "the string that starts here is not closed, or does not belong here"
        return BtqlError(problem, at=Position(line=error.line, column=error.column))
    assert isinstance(error, UnexpectedToken)  # noqa: S101 - the other kind is for Earley
    token = error.token
    if token.type == "$END":
        needs_value = "NAME" in error.accepts
        problem = "a value is missing at the end" if needs_value else "the text ends too early"
        if "COLON" in error.accepts and not needs_value:
            problem = "a ? needs a : and a second value"
        if "RPAR" in error.accepts and not needs_value:
            problem = "a parenthesis is not closed"
        return BtqlError(problem, at=position_of(text, len(text)))
    at = Position(line=token.line or 1, column=token.column or 1)
    if token.upper() in _UNSUPPORTED:
        return BtqlError(f"not supported yet: {token.upper()}", at=at)
    return BtqlError(f"{str(token)!r} is not expected here", at=at)


@cache
def _grammar() -> Lark:
    """The parser. It is built at its first use, because that takes 0.1 s."""
    from lark import Lark  # noqa: PLC0415

    from btql.grammar import GRAMMAR  # noqa: PLC0415

    return Lark(
        GRAMMAR,
        parser="lalr",
        start=["filter", "items", "order", "source", "sql"],
        maybe_placeholders=True,
    )
