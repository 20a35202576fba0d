"""The functions of the language: how many arguments each takes, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from btql.kinds import Kind
from btql.tree import Unit


class Takes(StrEnum):
    """What the arguments must be. A JSON argument fits anywhere: its type shows row by row."""

    VALUES = "values"  # anything but an interval
    TIME = "time"  # one time
    UNIT_AND_TIME = "unit and time"  # a unit ('day', '15 minutes'), then a time
    VALUE_AND_KEY = "value and key"  # a value, then a constant string
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How many arguments a function takes (`least` to `most`), which ones, and what it gives.

    `gives` is None where the result has the common kind of the arguments.
    """

    least: int
    most: int
    takes: Takes
    gives: Kind | None


# Well below PostgreSQL's limit of 100 arguments.
MOST_ARGUMENTS = 32


def _values(least: int, most: int, gives: Kind | None) -> Signature:
    return Signature(least=least, most=most, takes=Takes.VALUES, gives=gives)


_NOW = Signature(least=0, most=0, takes=Takes.NOTHING, gives=Kind.TIME)
_PERIOD = Signature(least=1, most=1, takes=Takes.TIME, gives=Kind.TIME)

# second(ts) and the like give the start of the second that holds ts, not a number.
PERIODS: dict[str, Unit] = {
    unit.value: unit
    for unit in (
        Unit.SECOND,
        Unit.MINUTE,
        Unit.HOUR,
        Unit.DAY,
        Unit.WEEK,
        Unit.MONTH,
        Unit.YEAR,
    )
}
SIGNATURES: dict[str, Signature] = {
    "now": _NOW,
    "current_timestamp": _NOW,
    "current_date": _NOW,
    **dict.fromkeys(PERIODS, _PERIOD),
    "date_trunc": Signature(least=2, most=2, takes=Takes.UNIT_AND_TIME, gives=Kind.TIME),
    "lower": _values(1, 1, Kind.TEXT),
    "upper": _values(1, 1, Kind.TEXT),
    "concat": _values(1, MOST_ARGUMENTS, Kind.TEXT),
    "len": _values(1, 1, Kind.NUMBER),
    "json_extract": Signature(least=2, most=2, takes=Takes.VALUE_AND_KEY, gives=Kind.JSON),
    "coalesce": _values(1, MOST_ARGUMENTS, None),
    "nullif": _values(2, 2, None),
    "least": _values(1, MOST_ARGUMENTS, None),
    "greatest": _values(1, MOST_ARGUMENTS, None),
    "round": _values(1, 2, Kind.NUMBER),
    "to_string": _values(1, 1, Kind.TEXT),
    "to_boolean": _values(1, 1, Kind.BOOLEAN),
    "to_integer": _values(1, 1, Kind.NUMBER),
    "to_number": _values(1, 1, Kind.NUMBER),
    "to_date": _values(1, 1, Kind.TIME),
    "to_datetime": _values(1, 1, Kind.TIME),
}
# The builder replaces calls of these by other nodes: no tree holds a Call of one.
REWRITTEN = frozenset(
    {
        "contains",
        "includes",
        "search",
        "estimated_cost",
        "to_interval",
        "any_span",
        "filter_spans",
    }
)
AGGREGATES = frozenset(
    {"count", "count_distinct", "sum", "avg", "min", "max", "any_value", "percentile"}
)
# Operators that the parser takes for functions where no operator may stand: `a = NOT (b)`.
WORDS = frozenset({"not", "and", "or", "in", "is", "like", "ilike", "between", "match"})
# Functions that may be written without parentheses, as in SQL.
BARE = frozenset({"current_date", "current_timestamp"})
# The columns that search() looks into.
SEARCHED = ("input", "output", "expected", "metadata", "span_attributes")


def unknown_function(name: str) -> str:
    """The error message for a call of a function that the language does not have."""
    if name in AGGREGATES:
        return f"{name}() counts over many rows; a filter looks at one"
    if name in WORDS:
        return f"{name.upper()} is not expected here; put an inner condition in parentheses"
    known = sorted({*SIGNATURES, *REWRITTEN})
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the functions are {', '.join(known)}"
    return f"there is no function {name!r}; {hint}"


def arity(signature: Signature) -> str:
    """How many arguments, in words."""
    if signature.least == signature.most:
        return f"{signature.least} argument{'' if signature.least == 1 else 's'}"
    return f"{signature.least} to {signature.most} arguments"
