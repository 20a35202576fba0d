"""Puts rows, given as the API writes them, into the real tables of rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import orjson
from sqlalchemy import Connection, text

from spans.json import JsonObject
from store.postgres.score_index import ADD_ENTRIES

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
ADD_OBJECT = text(
    "insert into object (project_id, object_type, object_id)"
    " values (:project_id, :object_type, :object_id)"
    " on conflict (project_id, object_type, object_id) do update"
    " set object_id = excluded.object_id returning object_no"
)
INSERT_BODY = text(
    "insert into span (object_no, seq, id, has_base, span_id, root_span_id, is_root,"
    " logged_scores, scoring_state, "
    + ", ".join(JSON_COLUMNS)
    + ") values (:object_no, :seq, :id, true, :span_id, :root_span_id, :is_root,"
    " cast(:logged_scores as jsonb), cast(:scoring_state as jsonb), "
    + ", ".join(
        f"cast(:{name} as {'json' if name in ('input', 'output', 'expected') else 'jsonb'})"
        for name in JSON_COLUMNS
    )
    + ")"
)
INSERT_HEAD = text(
    "insert into span_head (object_no, seq, xact, first_xact, content_xact, created,"
    " deleted_at, computed_scores) values (:object_no, :seq, :xact, :xact, :xact, :created,"
    " :deleted_at, cast(:computed_scores as jsonb))"
)


def insert_rows(
    connection: Connection,
    rows: Sequence[JsonObject],
    *,
    project_id: uuid.UUID,
    object_type: str = "project_logs",
    object_id: uuid.UUID | None = None,
) -> int:
    """One row each; what a row does not say gets a plain value. Returns the object's number."""
    where = {
        "project_id": project_id, "object_type": object_type,
        "object_id": object_id or project_id,
    }
    object_no: int = connection.execute(ADD_OBJECT, where).scalar_one()
    values = [
        {
            "object_no": object_no,
            "id": row.get("id", f"row-{number}"),
            "seq": int(
                str(row.get("_pagination_key", first_seq(object_no) + number)).removeprefix("p")
            ),
            "xact": int(str(row.get("_xact_id", 1_000_000_000_000_000_000 + number))),
            "deleted_at": row.get("deleted_at"),
            "span_id": row.get("span_id", f"span-{number}"),
            "root_span_id": row.get("root_span_id", "trace"),
            "is_root": row.get("is_root", False),
            "created": row.get("created", "2026-06-14T18:30:00.000Z"),
            "logged_scores": _dumped(row.get("scores")),
            "computed_scores": _dumped(row.get("computed_scores")),
            "scoring_state": _dumped(row.get("_async_scoring_state")),
            **{name: _dumped(row.get(name)) for name in JSON_COLUMNS},
        }
        for number, row in enumerate(rows)
    ]
    connection.execute(INSERT_BODY, values)
    connection.execute(INSERT_HEAD, values)
    connection.exec_driver_sql(
        ADD_ENTRIES, ([object_no] * len(values), [one["seq"] for one in values])
    )
    return object_no


def first_seq(object_no: int) -> int:
    """The place of an object's first row, where the rows do not say their places: far above
    those of rows that Tallyard wrote, since each place is there once."""
    return 10**12 + object_no * 10**6


def _dumped(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
