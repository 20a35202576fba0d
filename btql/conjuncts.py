"""The conditions that a filter joins by AND, so that each can be asked by itself.

    conjuncts_of("error IS NOT NULL and metadata.env = 'prod'")
    # error IS NOT NULL | metadata.env = 'prod'
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.tree import And, Expr

# What a conjunct may hold without ending at an AND inside of it: a comment, a string, a quoted
# name, a word with the dot before it, a bracket.
_TOKEN = re.compile(
    r"--[^\n]*|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?:\.\s*)?[A-Za-z_][A-Za-z0-9_]*|[()\[\]{}]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conjunct:
    """One of the conditions, as it stands in the text and as a tree."""

    text: str
    expr: Expr


def conjuncts_of(text: str) -> tuple[Conjunct, ...]:
    """The conditions of a filter, all of which must be true, in the order of the text.

    An empty filter has none. One whose parts cannot be told apart in the text is a single
    condition. Raises BtqlError as `parse_filter` does.
    """
    if not text.strip():
        return ()
    whole = parse_filter(text)
    try:
        found = tuple(_parsed(text))
    except BtqlError:
        found = ()
    if tuple(child for each in found for child in _children(each.expr)) == _children(whole):
        return found
    return (Conjunct(text=text.strip(), expr=whole),)


def _children(expr: Expr) -> tuple[Expr, ...]:
    """What is joined by AND: of a BETWEEN, its two comparisons."""
    return expr.children if isinstance(expr, And) else (expr,)


def _parsed(text: str) -> Iterator[Conjunct]:
    for part in _split(text):
        expr = parse_filter(part)
        if isinstance(expr, And) and part.startswith("(") and part.endswith(")"):
            yield from _parsed(part[1:-1])
        else:
            yield Conjunct(text=part, expr=expr)


def _split(text: str) -> Iterator[str]:
    """The parts of the text between the words AND that stand within no bracket."""
    start = depth = 0
    is_between = False   # the next AND belongs to a BETWEEN
    for token in _TOKEN.finditer(text):
        word = token[0].lower()
        if word in {"(", "[", "{", "case"}:
            depth += 1
        elif word in {")", "]", "}", "end"}:
            depth -= 1
        elif depth == 0 and word == "between":
            is_between = True
        elif depth == 0 and word == "and" and is_between:
            is_between = False
        elif depth == 0 and word == "and":
            yield text[start:token.start()].strip()
            start = token.end()
    yield text[start:].strip()
