"""The columns of a row, in the order in which `select: *` gives them."""

from __future__ import annotations

from difflib import get_close_matches

from btql.errors import BtqlError, Position
from btql.kinds import Kind

COLUMNS: dict[str, Kind] = {
    "id": Kind.TEXT,
    "_xact_id": Kind.TEXT,
    "_pagination_key": Kind.TEXT,
    "created": Kind.TIME,
    "org_id": Kind.TEXT,
    "project_id": Kind.TEXT,
    "experiment_id": Kind.TEXT,
    "dataset_id": Kind.TEXT,
    "log_id": Kind.TEXT,
    "span_id": Kind.TEXT,
    "root_span_id": Kind.TEXT,
    "span_parents": Kind.JSON,
    "is_root": Kind.BOOLEAN,
    "input": Kind.JSON,
    "output": Kind.JSON,
    "expected": Kind.JSON,
    "error": Kind.JSON,
    "scores": Kind.JSON,
    "metadata": Kind.JSON,
    "metrics": Kind.JSON,
    "tags": Kind.JSON,
    "span_attributes": Kind.JSON,
    "context": Kind.JSON,
    "origin": Kind.JSON,
    "facets": Kind.JSON,
    "classifications": Kind.JSON,
    "comments": Kind.JSON,
    "audit_data": Kind.JSON,
    "_async_scoring_state": Kind.JSON,
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
