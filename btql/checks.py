"""Checks that need no row: whether kinds fit together, and whether constants can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeGuard

from btql.columns import COLUMNS
from btql.errors import BtqlError, Position
from btql.functions import SIGNATURES, Signature, Takes
from btql.kinds import Kind, common_kind
from btql.times import MICROS_OF, MONTHS_OF, TEN_THOUSAND_YEARS, read_instant
from btql.tree import (
    Arithmetic,
    Call,
    Expr,
    If,
    Interval,
    Literal,
    LiteralKind,
    Operation,
    Path,
    Unit,
    children_of,
)

_KINDS_OF_LITERALS = {
    LiteralKind.BOOLEAN: Kind.BOOLEAN,
    LiteralKind.NUMBER: Kind.NUMBER,
    LiteralKind.STRING: Kind.TEXT,
}
TEN_THOUSAND_YEARS_MONTHS = 12 * 10_000
_PERIOD = re.compile(r"\s*(?:([0-9]{1,9})\s+)?([a-z]+?)s?\s*", re.IGNORECASE)


def kind_of(expr: Expr) -> Kind:
    """The kind of an expression that has been checked."""
    match expr:
        case Literal(kind=kind):
            return _KINDS_OF_LITERALS.get(kind, Kind.JSON)
        case Interval():
            return Kind.INTERVAL
        case Path(column=column, keys=keys):
            return Kind.JSON if keys else COLUMNS[column]
        case Arithmetic(op=op, left=left, right=right):
            return kind_of_arithmetic(op, kind_of(left), kind_of(right))
        case If(branches=branches, otherwise=otherwise):
            return common_kind_of([*(branch.result for branch in branches), otherwise])
        case Call(name=name, args=args):
            return SIGNATURES[name].gives or common_kind_of(args)
        case _:
            return Kind.BOOLEAN


def is_null(expr: Expr) -> bool:
    return isinstance(expr, Literal) and expr.kind is LiteralKind.NULL


def common_kind_of(parts: list[Expr] | tuple[Expr, ...]) -> Kind:
    """The kind of a value that is taken from one of `parts`; constant nulls do not count."""
    return common_kind([kind_of(part) for part in parts if not is_null(part)] or [Kind.JSON])


def kind_of_arithmetic(op: Operation, left: Kind, right: Kind) -> Kind:
    """TIME for a time plus or minus an interval, else NUMBER.

    The difference of two times is a number of seconds.
    """
    moved = op in (Operation.ADD, Operation.SUB) and Kind.INTERVAL in (left, right)
    return Kind.TIME if moved else Kind.NUMBER


def check_arithmetic(op: Operation, left: Expr, right: Expr, at: Position | None) -> None:
    kinds = (kind_of(left), kind_of(right))
    if Kind.INTERVAL in kinds:
        moved = right if kinds[0] is Kind.INTERVAL else left
        added = op is Operation.ADD or (op is Operation.SUB and moved is left)
        if not added or kind_of(moved) is Kind.INTERVAL:
            raise BtqlError("an interval can only be added to, or taken from, a time", at=at)
        check_time(moved)
    elif Kind.TIME in kinds:
        if op is not Operation.SUB:
            raise BtqlError("times can only be subtracted; to move one, add an interval", at=at)
        check_time(left)
        check_time(right)
    else:
        for side in (left, right):
            if kind_of(side) in (Kind.TEXT, Kind.BOOLEAN):
                raise BtqlError("arithmetic takes numbers; to_number() makes one", at=side.at)


def check_comparison(left: Expr, right: Expr, at: Position | None) -> None:
    kinds = {kind_of(left), kind_of(right)}
    if Kind.TIME in kinds:
        check_time(left)
        check_time(right)
    elif Kind.INTERVAL in kinds and not kinds <= {Kind.INTERVAL, Kind.NUMBER, Kind.JSON}:
        raise BtqlError(
            "an interval compares only with a difference of times (now() - created) or a"
            " number of seconds",
            at=at,
        )


def check_time(expr: Expr) -> None:
    """Raises BtqlError if `expr` can never be a time."""
    kind = kind_of(expr)
    if kind in (Kind.NUMBER, Kind.BOOLEAN, Kind.INTERVAL):
        raise BtqlError(
            f"a time is needed here, not a {kind}; to_datetime() reads unix seconds", at=expr.at
        )
    if not isinstance(expr, Literal) or is_null(expr):
        return
    if expr.kind is not LiteralKind.STRING or read_instant(str(expr.value)) is None:
        raise BtqlError(
            f"{expr.json()!r} is no time; write it like '2026-06-14' or '2026-06-14T18:30:00Z'",
            at=expr.at,
        )


def check_condition(expr: Expr) -> None:
    """Raises BtqlError if `expr` can never be true or false."""
    kind = kind_of(expr)
    constant = isinstance(expr, Literal) and kind is Kind.JSON and not is_null(expr)
    if constant or kind not in (Kind.BOOLEAN, Kind.JSON):
        raise BtqlError(f"a condition is needed here, not a {kind}", at=expr.at)


def check_value(expr: Expr) -> None:
    if kind_of(expr) is Kind.INTERVAL:
        raise BtqlError("an interval stands only beside + and - or in a comparison", at=expr.at)


def check_reads_row(*parts: Expr) -> None:
    """Raises BtqlError for a string that was probably meant as a name.

    That is one in double quotes where nothing of the row stands beside it, and any string that
    is compared with constants alone or asked for null: it gives the same for every row.
    """
    if any(_reads_row(part) for part in parts):
        return
    strings = [one for part in parts for one in _quoted(part)]
    if all(isinstance(part, Literal) for part in parts):
        strings += [part for part in parts if is_string(part)]
    if strings:
        name = str(strings[0].value)
        raise BtqlError(
            f"{name!r} is a string here, and the same for every row, since no column has that"
            f' name; a score is written scores."{name}", a field metadata."{name}"',
            at=strings[0].at,
        )


def is_string(expr: Expr) -> TypeGuard[Literal]:
    return isinstance(expr, Literal) and expr.kind is LiteralKind.STRING


def _reads_row(expr: Expr) -> bool:
    return isinstance(expr, Path) or any(map(_reads_row, children_of(expr)))


def _quoted(expr: Expr) -> Iterator[Literal]:
    """The strings in double quotes inside an expression."""
    if isinstance(expr, Literal) and expr.is_quoted:
        yield expr
    for child in children_of(expr):
        yield from _quoted(child)


def check_together(parts: tuple[Expr, ...]) -> None:
    """Raises BtqlError if times and other values are mixed in `parts`, of which one is taken.

    JSON passes: whether it is a time shows row by row.
    """
    for part in parts:
        check_value(part)
    if common_kind_of(parts) is Kind.TIME:
        for part in parts:
            check_time(part)


def check_call(signature: Signature, args: tuple[Expr, ...]) -> None:
    """Raises BtqlError if an argument does not fit. The caller has checked their number."""
    match signature.takes:
        case Takes.TIME:
            check_time(args[0])
        case Takes.UNIT_AND_TIME:
            period_of(args[0])
            check_time(args[1])
        case Takes.VALUE_AND_KEY:
            check_value(args[0])
            constant_string(args[1], "the key")
        case Takes.VALUES if signature.gives is None:
            check_together(args)
        case _:
            for arg in args:
                check_value(arg)


def constant_string(expr: Expr, what: str) -> str:
    if not isinstance(expr, Literal) or expr.kind is not LiteralKind.STRING:
        raise BtqlError(f"{what} must be a string constant", at=expr.at)
    return str(expr.value)


def period_of(expr: Expr) -> tuple[Unit, int]:
    """The unit and count that date_trunc's first argument names: 'day', '15 minutes'."""
    text = constant_string(expr, "the unit")
    count, unit = _counted_unit(text, expr.at)
    if unit in (Unit.MILLISECOND, Unit.MICROSECOND):
        raise BtqlError("the unit must be second or longer", at=expr.at)
    if count is not None and unit in (Unit.WEEK, Unit.MONTH, Unit.YEAR):
        raise BtqlError(f"{unit} takes no count", at=expr.at)
    if count == 0 or (count or 1) * MICROS_OF.get(unit, 0) > TEN_THOUSAND_YEARS:
        raise BtqlError(f"{count} is no usable count", at=expr.at)
    return unit, count or 1


def interval_of(text: str, at: Position | None) -> Interval:
    """The interval written as '7 days'."""
    count, unit = _counted_unit(text, at)
    if count is None:
        raise BtqlError(f"{text!r} is no interval; write it like '7 days'", at=at)
    return interval(count, unit, at)


def interval(count: int, unit: Unit, at: Position | None) -> Interval:
    """The interval of `count` units. Raises BtqlError beyond 10000 years."""
    months = count * MONTHS_OF.get(unit, 0)
    micros = count * MICROS_OF.get(unit, 0)
    if abs(months) > TEN_THOUSAND_YEARS_MONTHS or abs(micros) > TEN_THOUSAND_YEARS:
        raise BtqlError("an interval spans at most 10000 years", at=at)
    return Interval(months=months, micros=micros, at=at)


def unit_of(name: str, at: Position | None) -> Unit:
    """The unit of that name, in any case, singular or plural."""
    try:
        return Unit(name.lower().removesuffix("s"))
    except ValueError:
        units = ", ".join(Unit)
        raise BtqlError(f"there is no unit {name!r}; the units are {units}", at=at) from None


def _counted_unit(text: str, at: Position | None) -> tuple[int | None, Unit]:
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise BtqlError(f"{text!r} is no unit; write it like 'day' or '15 minutes'", at=at)
    return int(found[1]) if found[1] else None, unit_of(found[2], at)
