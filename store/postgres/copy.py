"""Rows as lines of COPY's text format.

Ingest and the workers spend most of their time here, and building a line by hand takes a third
of the time that psycopg's own adaptation takes. The lines of new rows are copied into `span`.
Those of rows that exist are copied into the connection's `span_staged`, and moved from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

import orjson

from spans.columns import COLUMNS, EVENT_FIELDS
from spans.ids import Xact
from spans.json import Json, JsonObject
from spans.row import IDENTITY_FIELDS, Row, is_root
from store.postgres.database import Cursor
from store.postgres.tables import KEY_COLUMNS

WRITTEN_COLUMNS = tuple(
    column.stored_as for column in COLUMNS
    if column.storage is not None and column.is_written
)
"""The columns that a write fills, in the order of the cells that `span_line` makes."""

EVENT_COLUMNS = tuple(column.written_to for column in COLUMNS if column.is_event_field)
"""The column that each of EVENT_FIELDS is written to."""

KNOWN_FIELDS = frozenset({*EVENT_FIELDS, *IDENTITY_FIELDS})

NULL = b"\\N"
TRUE, FALSE = b"t", b"f"

_LIST = ", ".join(WRITTEN_COLUMNS)
_SET = ", ".join(
    f"{name} = staged.{name}" for name in WRITTEN_COLUMNS if name not in KEY_COLUMNS
)
_KEY = " and ".join(f"span.{name} = staged.{name}" for name in KEY_COLUMNS)

COPY_NEW = f"copy span ({_LIST}) from stdin"
COPY_STAGED = f"copy span_staged ({_LIST}) from stdin"
UPDATE_FROM_STAGED = f"""
    update span set {_SET}
      from span_staged staged where {_KEY}
"""
UPSERT_FROM_STAGED = f"""
    insert into span ({_LIST}) select {_LIST} from span_staged
        order by {", ".join(KEY_COLUMNS)}
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
    """A UUID as COPY reads it; cached, since a project's or a rule's id comes in every line."""
    return value.hex.encode()


def json_cell(value: Json) -> bytes:
    """A JSON value as COPY reads it. In JSON text, only backslashes need COPY's escape."""
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
    """The line of `row`: a cell for each of WRITTEN_COLUMNS, in their order.

    `now` (ISO) stands for a missing `created`. A null that a merge set is stored as JSON null
    while the row has no base, so that the base, when it comes, does not fill it in. In all
    other cells null and absent are the same.
    """
    fields = row.fields
    where = row.key.object
    keep_null = not row.has_base
    span_id = fields.get("span_id") or row.key.id
    root = fields.get("root_span_id") or span_id
    parents = fields.get("span_parents")
    created = fields.get("created") or now
    cells = [
        escaped(row.key.id),
        b"%d" % xact,
        b"%d" % content_xact,
        b"%d" % trigger_xact if trigger_xact is not None else NULL,
        str(created).encode(),
        TRUE if row.has_base else FALSE,
        now.encode() if row.is_deleted else NULL,
        uuid_cell(where.project_id),
        where.object_type.encode(),
        uuid_cell(where.object_id),
        escaped(str(span_id)),
        escaped(str(root)),
        json_cell(parents) if parents else NULL,
        TRUE if is_root(fields) else FALSE,
    ]
    for name in EVENT_FIELDS:
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
    """Run one of the COPY statements above with `lines` as its input."""
    with cursor.copy(statement) as copy:
        copy.write(b"".join(lines))
