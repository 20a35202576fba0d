"""The columns of a row, in the order in which `select: *` gives them."""

from __future__ import annotations

from difflib import get_close_matches

from btql.errors import BtqlError, Position
from btql.kinds import Kind
from spans.columns import COLUMNS as SPAN_COLUMNS

COLUMNS = {
    column.name: Kind(column.kind) for column in SPAN_COLUMNS if column.kind is not None
}


def check_column(name: str, *, has_keys: bool, at: Position | None) -> None:
    """Raises BtqlError if there is no such column, or nothing inside of it."""
    kind = COLUMNS.get(name)
    if kind is None:
        raise BtqlError(f"there is no column {name!r}; {_suggestion(name)}", at=at)
    if has_keys and kind is not Kind.JSON:
        raise BtqlError(f"{name} has no fields: it is a single value", at=at)


def _suggestion(name: str) -> str:
    close = get_close_matches(name.lower(), COLUMNS, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"fields of a row are written metadata.{name}; the columns are {', '.join(COLUMNS)}"
