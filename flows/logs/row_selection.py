"""Selects the stored rows to test a scorer on: by id, or the latest that pass a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from btql.query import read_query
from flows.logs.fetch import QueryReader
from spans.errors import NotFound
from spans.ids import OrgId
from spans.json import Json, JsonObject
from spans.row import ObjectRef, RowKey

LAST_DEFAULT = 20
"""Rows of a test or a difference, if the request does not say."""

# Rows that a rule could select: finished, and not made by a scorer. The same condition as
# `spans.row.is_made_by_scorer`, in the filter language.
SCORABLE = (
    "metrics.end IS NOT NULL"
    " AND (span_attributes.purpose IS NULL OR span_attributes.purpose != 'scorer')"
    " AND (span_attributes.type IS NULL OR span_attributes.type != 'score')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSelection:
    """Either `ids` (row ids or span ids), or the `last` rows that pass `filter`."""

    ids: tuple[str, ...] = ()
    last: int = LAST_DEFAULT
    filter: str | None = None


def select_rows(
    reader: QueryReader, org_id: OrgId, where: ObjectRef, selection: RowSelection
) -> list[RowKey]:
    """The rows, newest first, or in the order of `selection.ids`.

    Raises BadInput for a filter with an error, and NotFound for an id that no row has.
    """
    # An id may be the row id of one row and the span id of another. Both are read, and
    # `_in_order` takes the one whose row id it is.
    limit = selection.last if not selection.ids else 2 * len(selection.ids)
    condition = _named(selection.ids) if selection.ids else _filtered(selection.filter)
    query = read_query({
        "select": [{"op": "ident", "name": ["id"]}, {"op": "ident", "name": ["span_id"]}],
        "from": {
            "op": "function", "name": {"op": "ident", "name": ["project_logs"]},
            "args": [{"op": "literal", "value": str(where.project_id)}],
        },
        "filter": condition,
        "limit": limit,
    })
    rows = reader.query(
        query, org_id, (where.project_id,), limit_max=limit, tz_offset=0
    ).rows
    if selection.ids:
        return _in_order(where, selection.ids, rows)
    return [RowKey(where, str(row["id"])) for row in rows]


def _named(ids: Sequence[str]) -> Json:
    return {
        "op": "or",
        "children": [
            {
                "op": "in", "left": {"op": "ident", "name": [column]},
                "right": {"op": "literal", "value": list(ids)},
            }
            for column in ("id", "span_id")
        ],
    }


def _filtered(condition: str | None) -> Json:
    children: list[Json] = [{"btql": SCORABLE}]
    if condition is not None:
        children.append({"btql": condition})
    return {"op": "and", "children": children}


def _in_order(
    where: ObjectRef, ids: Sequence[str], rows: Sequence[JsonObject]
) -> list[RowKey]:
    row_ids = {str(row["span_id"]): str(row["id"]) for row in rows}
    row_ids |= {str(row["id"]): str(row["id"]) for row in rows}    # a row id has precedence
    if missing := [text for text in ids if text not in row_ids]:
        raise NotFound(f"there is no span {missing[0]!r} in the project")
    return [RowKey(where, row_ids[text]) for text in ids]
