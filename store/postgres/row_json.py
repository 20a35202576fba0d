"""Stored rows in the form that the API gives and the filters read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from spans.json import Json

# Of the table `span`, what `api_row` needs, in the order of the API's columns.
STORED = (
    "id",
    "xact",
    "seq",
    "created",
    "project_id",
    "object_type",
    "object_id",
    "span_id",
    "root_span_id",
    "span_parents",
    "is_root",
    "input",
    "output",
    "expected",
    "error",
    "scores",
    "metadata",
    "metrics",
    "tags",
    "span_attributes",
    "context",
    "origin",
    "facets",
    "classifications",
    "scoring_state",
    "extra",
)
_AS_STORED = STORED[STORED.index("input") : STORED.index("scoring_state")]
# How a row names the object that it belongs to.
_OBJECT_KEYS = {"experiment": "experiment_id", "dataset": "dataset_id"}
_LOG_IDS = {"project_logs": "g", "playground_logs": "x"}


def api_row(row: Mapping[str, Any], *, org_id: UUID | str) -> dict[str, Json]:
    """One row of the table `span` (its columns `STORED`, JSON decoded) as the API shows it.

    Every column of the API is there, null where the row has nothing; fields that we do not
    know stand beside them as they came, and never hide one that we do.
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
    if object_type in _OBJECT_KEYS:
        shown[_OBJECT_KEYS[object_type]] = str(row["object_id"])
    else:
        shown["log_id"] = _LOG_IDS.get(object_type)
    shown["span_id"] = row["span_id"]
    shown["root_span_id"] = row["root_span_id"]
    shown["span_parents"] = row["span_parents"]
    shown["is_root"] = row["is_root"]
    for name in _AS_STORED:
        shown[name] = row[name]
    shown["comments"] = None
    shown["audit_data"] = None
    shown["_async_scoring_state"] = row["scoring_state"]
    extra = row["extra"]
    return {**extra, **shown} if extra else shown


def pagination_key(seq: int) -> str:
    """`_pagination_key`: it sorts as text in the order in which rows came."""
    return f"p{seq:020d}"


def instant_text(instant: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: `2026-06-14T18:30:00.000Z`."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
