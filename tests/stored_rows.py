"""Puts rows, given as the API writes them, into a real table `span`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import orjson
from sqlalchemy import Connection, text

from spans.json import JsonObject

JSON_COLUMNS = (
    "span_parents",
    "input",
    "output",
    "expected",
    "error",
    "metadata",
    "metrics",
    "tags",
    "span_attributes",
    "context",
    "origin",
    "facets",
    "classifications",
    "extra",
)
INSERT = text(
    "insert into span (project_id, object_type, object_id, id, seq, xact, content_xact,"
    " has_base, deleted_at, span_id, root_span_id, is_root, created, logged_scores,"
    " scoring_state, "
    + ", ".join(JSON_COLUMNS)
    + ") values (:project_id, :object_type, :object_id, :id, :seq, :xact, :xact, true,"
    " :deleted_at, :span_id, :root_span_id, :is_root, :created, cast(:logged_scores as jsonb),"
    " cast(:scoring_state as jsonb), "
    + ", ".join(
        f"cast(:{name} as {'json' if name in ('input', 'output', 'expected') else 'jsonb'})"
        for name in JSON_COLUMNS
    )
    + ")"
)


def insert_rows(
    connection: Connection,
    rows: Sequence[JsonObject],
    *,
    project_id: uuid.UUID,
    object_type: str = "project_logs",
    object_id: uuid.UUID | None = None,
) -> None:
    """One row each; what a row does not say gets a plain value."""
    connection.execute(
        INSERT,
        [
            {
                "project_id": project_id,
                "object_type": object_type,
                "object_id": object_id or project_id,
                "id": row.get("id", f"row-{number}"),
                "seq": int(str(row.get("_pagination_key", number + 1)).removeprefix("p")),
                "xact": int(str(row.get("_xact_id", 1_000_000_000_000_000_000 + number))),
                "deleted_at": row.get("deleted_at"),
                "span_id": row.get("span_id", f"span-{number}"),
                "root_span_id": row.get("root_span_id", "trace"),
                "is_root": row.get("is_root", False),
                "created": row.get("created", "2026-06-14T18:30:00.000Z"),
                "logged_scores": _dumped(row.get("scores")),
                "scoring_state": _dumped(row.get("_async_scoring_state")),
                **{name: _dumped(row.get(name)) for name in JSON_COLUMNS},
            }
            for number, row in enumerate(rows)
        ],
    )


def _dumped(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
