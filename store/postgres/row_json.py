"""Stored rows in the form that the API gives and the filters read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from spans.columns import API_COLUMNS, EVENT_FIELDS
from spans.json import Json
from spans.repair.faults import INGEST_WARNINGS
from spans.row import LOG_IDS, OBJECT_ID_COLUMNS
from store.postgres.tables import shown_span

# What the table has of the API's columns, and what the API's other columns are made of.
ROW_COLUMN_NAMES = (
    *(
        column.stored_as for column in API_COLUMNS.values()
        if column.storage is not None
    ),
    "object_type",
    "object_id",
    "extra",
)
"""The columns of `shown_span` that `api_row` needs, so that it can show a row."""

ROW_COLUMNS = tuple(shown_span.c[name] for name in ROW_COLUMN_NAMES)
"""The same, for a statement that SQLAlchemy composes."""


def api_row(row: Mapping[str, Any], *, org_id: UUID | str) -> dict[str, Json]:
    """One row of `shown_span` (its `ROW_COLUMNS`, JSON decoded) as the API shows it.

    Every column of the API is there, with null where the row has no value. Fields that have no
    column (`extra`) stand beside them as the client sent them, and never replace a column.
    """
    shown: dict[str, Json] = {
        "id": row["id"],
        "_xact_id": str(row["xact"]),
        "_pagination_key": pagination_key(row["seq"]),
        "created": instant_text(row["created"]),
        "org_id": str(org_id),
        "project_id": str(row["project_id"]),
    }
    object_type = row["object_type"]
    if object_type in OBJECT_ID_COLUMNS:
        shown[OBJECT_ID_COLUMNS[object_type]] = str(row["object_id"])
    else:
        shown["log_id"] = LOG_IDS.get(object_type)
    shown["span_id"] = row["span_id"]
    shown["root_span_id"] = row["root_span_id"]
    shown["span_parents"] = row["span_parents"]
    shown["is_root"] = row["is_root"]
    for name in EVENT_FIELDS:
        shown[name] = row[name]
    shown["comments"] = None
    shown["audit_data"] = None
    shown["_async_scoring_state"] = row["scoring_state"]
    extra = row["extra"] or {}
    shown[INGEST_WARNINGS] = extra.get(INGEST_WARNINGS)
    return {**extra, **shown}


def pagination_key(seq: int) -> str:
    """`_pagination_key`: it sorts as text in the order in which rows came."""
    return f"p{seq:020d}"


def instant_text(instant: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: `2026-06-14T18:30:00.000Z`."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
