"""The functions of the language: how many arguments each takes, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from btql.kinds import Kind
from btql.tree import Unit


class Takes(StrEnum):
    """What the arguments must be; JSON arguments are looked at row by row."""

    VALUES = "values"  # anything but an interval
    TIME = "time"  # one time
    UNIT_AND_TIME = "unit and time"  # a unit ('day', '15 minutes'), then a time
    VALUE_AND_KEY = "value and key"  # a value, then a constant string
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """`gives` is None where the kind is that of the arguments together."""

    least: int
    most: int
    takes: Takes
    gives: Kind | None


# PostgreSQL passes a function at most 100 arguments.
MOST_ARGUMENTS = 32


def _values(least: int, most: int, gives: Kind | None) -> Signature:
    return Signature(least=least, most=most, takes=Takes.VALUES, gives=gives)


_NOW = Signature(least=0, most=0, takes=Takes.NOTHING, gives=Kind.TIME)
_PERIOD = Signature(least=1, most=1, takes=Takes.TIME, gives=Kind.TIME)

# second(ts) and the like cut a time to the start of its period; they are no extraction.
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
# These become other nodes as they are read, and never stand in a tree as calls.
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
# Words of the language that a reader may take for a function where no operator fits.
WORDS = frozenset({"not", "and", "or", "in", "is", "like", "ilike", "between", "match"})
# Written without parentheses, as in SQL.
BARE = frozenset({"current_date", "current_timestamp"})
SEARCHED = ("input", "output", "expected", "metadata", "span_attributes")


def unknown_function(name: str) -> str:
    """What to say of a call that is no function of the language."""
    if name in AGGREGATES:
        return f"{name}() counts over many rows; a filter looks at one"
    if name in WORDS:
        return f"{name.upper()} is not expected here; a condition inside of another takes ( )"
    known = sorted({*SIGNATURES, *REWRITTEN})
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the functions are {', '.join(known)}"
    return f"there is no function {name!r}; {hint}"


def arity(signature: Signature) -> str:
    """How many arguments, in words."""
    if signature.least == signature.most:
        return f"{signature.least} argument{'' if signature.least == 1 else 's'}"
    return f"{signature.least} to {signature.most} arguments"
