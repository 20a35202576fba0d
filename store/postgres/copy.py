"""Rows as lines of COPY's text format.

Building the line by hand costs a third of psycopg's own adaptation, and ingest and the
workers spend most of their time here. One format serves both ways in: straight into `span`
for new rows, into the connection's `span_staged` for rows that exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

import orjson

from spans.ids import Xact
from spans.json import Json, JsonObject
from spans.row import Row, is_root
from store.postgres.database import Cursor

COLUMNS = (
    "project_id", "object_type", "object_id", "id", "xact", "content_xact", "trigger_xact",
    "has_base", "deleted_at", "span_id", "root_span_id", "span_parents", "is_root", "created",
    "input", "output", "expected", "error", "logged_scores", "metadata", "metrics", "tags",
    "span_attributes", "context", "origin", "facets", "classifications", "extra",
    "scoring_state",
)
PLAIN_FIELDS = (
    "input", "output", "expected", "error", "scores", "metadata", "metrics", "tags",
    "span_attributes", "context", "origin", "facets", "classifications",
)
KNOWN_FIELDS = frozenset(
    {*PLAIN_FIELDS, "span_id", "root_span_id", "span_parents", "created"}
)

NULL = b"\\N"
TRUE, FALSE = b"t", b"f"

KEY_COLUMNS = ("project_id", "object_type", "object_id", "id")
_LIST = ", ".join(COLUMNS)
_SET = ", ".join(f"{name} = staged.{name}" for name in COLUMNS if name not in KEY_COLUMNS)
_KEY = " and ".join(f"span.{name} = staged.{name}" for name in KEY_COLUMNS)

COPY_NEW = f"copy span ({_LIST}) from stdin"
COPY_STAGED = f"copy span_staged ({_LIST}) from stdin"
UPDATE_FROM_STAGED = f"""
    update span set {_SET}
      from span_staged staged where {_KEY}
"""
UPSERT_FROM_STAGED = f"""
    insert into span ({_LIST}) select {_LIST} from span_staged
        order by project_id, object_type, object_id, id
    on conflict ({", ".join(KEY_COLUMNS)}) do update
       set {_SET.replace("staged.", "excluded.")}
"""


def escaped(text: str) -> bytes:
    """A text as COPY reads it."""
    raw = text.encode()
    if b"\\" in raw or b"\t" in raw or b"\n" in raw or b"\r" in raw:
        raw = (
            raw.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")
            .replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        )
    return raw


@lru_cache(maxsize=4096)
def uuid_cell(value: UUID) -> bytes:
    """An id that comes again and again (a project's, a rule's) as COPY reads it."""
    return value.hex.encode()


def json_cell(value: Json) -> bytes:
    """A JSON value as COPY reads it; JSON's own escapes leave only backslashes to escape."""
    raw = orjson.dumps(value)
    return raw.replace(b"\\", b"\\\\") if b"\\" in raw else raw


def span_line(
    row: Row,
    *,
    xact: Xact,
    content_xact: Xact,
    trigger_xact: Xact | None,
    now: str,
) -> bytes:
    """The line of `row`, columns as in COLUMNS. `now` (ISO) stands for a missing `created`.

    A null that a merge set is stored as JSON null while the row has no base, so that the
    base, coming late, stays cleared; elsewhere null and absent are the same.
    """
    fields = row.fields
    where = row.key.object
    keep_null = not row.has_base
    span_id = fields.get("span_id") or row.key.id
    root = fields.get("root_span_id") or span_id
    parents = fields.get("span_parents")
    created = fields.get("created") or now
    cells = [
        uuid_cell(where.project_id),
        where.object_type.encode(),
        uuid_cell(where.object_id),
        escaped(row.key.id),
        b"%d" % xact,
        b"%d" % content_xact,
        b"%d" % trigger_xact if trigger_xact is not None else NULL,
        TRUE if row.has_base else FALSE,
        now.encode() if row.is_deleted else NULL,
        escaped(str(span_id)),
        escaped(str(root)),
        json_cell(parents) if parents else NULL,
        TRUE if is_root(fields) else FALSE,
        str(created).encode(),
    ]
    for name in PLAIN_FIELDS:
        value = fields.get(name)
        if value is None:
            cells.append(b"null" if keep_null and name in fields else NULL)
        else:
            cells.append(json_cell(value))
    extra = _extra(fields)
    cells.append(json_cell(extra) if extra else NULL)
    cells.append(NULL if row.scoring_state is None else json_cell(row.scoring_state))
    return b"\t".join(cells) + b"\n"


def _extra(fields: JsonObject) -> JsonObject:
    if fields.keys() <= KNOWN_FIELDS:
        return {}
    return {name: value for name, value in fields.items() if name not in KNOWN_FIELDS}


def copy_lines(cursor: Cursor, statement: str, lines: Iterable[bytes]) -> None:
    """Send `lines` to one of the COPY statements above."""
    with cursor.copy(statement) as copy:
        copy.write(b"".join(lines))
