"""Rows that were not stored: what is kept of them, and the error if they were all that came.

Whatever a bad row is, it must be possible to keep its excerpt: a row may be rejected for just
that which makes it impossible to write (nesting, half a surrogate pair, endless numbers).
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from flows.logs.limits import TooLarge
from spans.errors import BadInput, NotFound, UserError
from spans.ids import ProjectId
from spans.json import Json, JsonObject
from spans.repair.faults import Unreadable

EXCERPT_CHARS = 500
"""Characters of a rejected row that are stored, so that its sender can recognise it. Ids and
reasons are cut at the same length."""

REASONS_MAX = 5
"""Different reasons that an error lists."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxdict = _SHORT.maxlist = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A row of a lenient request that was not stored, and why. The sender can list these.

    `project_id` is None if the row named no project that its key reaches.
    """

    project_id: ProjectId | None
    row_id: str | None
    reason: str
    excerpt: str
    span_id: str | None = None


def rejection(row: Json, project_id: ProjectId | None, error: UserError) -> RejectedRow:
    """What is kept of a row that was rejected with `error`. All of it can be stored."""
    fields = fields_of(row)
    return RejectedRow(
        project_id=project_id, row_id=_text_of(fields.get("id")),
        span_id=_text_of(fields.get("span_id")), reason=_head(str(error)),
        excerpt=_head(_as_text(row)),
    )


def fields_of(row: Json) -> JsonObject:
    """The fields of a row; of one that cannot be read, those that name it."""
    if isinstance(row, Unreadable):
        return row.fields
    return row if isinstance(row, dict) else {}


def nothing_stored(
    refused: Sequence[tuple[RejectedRow, UserError]]
) -> NotFound | BadInput:
    """The error of a request whose rows were all rejected, each with its error.

    It is a NotFound or a TooLarge if all of the errors are, and else a BadInput.
    """
    rows: dict[str, list[RejectedRow]] = {}
    for row, _ in refused:
        rows.setdefault(row.reason, []).append(row)
    reasons = [f"{reason} ({_names(rows[reason])})" for reason in [*rows][:REASONS_MAX]]
    if len(rows) > REASONS_MAX:
        reasons.append(f"{len(rows) - REASONS_MAX} more reasons")
    message = f"nothing was stored: {'; '.join(reasons)}"
    for kind in (NotFound, TooLarge):
        if all(isinstance(error, kind) for _, error in refused):
            return kind(message)
    return BadInput(message)


def _names(rows: Sequence[RejectedRow]) -> str:
    first = "a row without an id" if rows[0].row_id is None else f"row {rows[0].row_id!r}"
    return first if len(rows) == 1 else f"{first} and {len(rows) - 1} more"


def _text_of(value: Json) -> str | None:
    return _head(value) if isinstance(value, str) else None


def _as_text(row: Json) -> str:
    try:
        return orjson.dumps(row).decode()
    except TypeError:   # what JSON cannot hold, or what nests too deep for its writer
        return _SHORT.repr(row)


def _head(text: str) -> str:
    """The beginning of the text, without what PostgreSQL cannot store."""
    head = text[:EXCERPT_CHARS].replace("\0", "\ufffd")
    return head.encode(errors="replace").decode()
