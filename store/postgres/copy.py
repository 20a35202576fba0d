"""Rows as lines of COPY's text format.

Ingest and the workers spend most of their time here, and building a line by hand takes a third
of the time that psycopg's own adaptation takes. The lines of new rows are copied into `span`
and `span_head`. Those of rows that exist are copied into the connection's own `span_staged` and
`span_head_staged`, and moved from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from spans.columns import COLUMNS, EVENT_FIELDS, Part
from spans.ids import RowSeq, Xact
from spans.json import Json, JsonObject
from spans.row import IDENTITY_FIELDS, Row, is_root, span_ids
from store.postgres.database import Cursor

BODY_COLUMNS = (
    "object_no", "seq",
    *(
        column.stored_as for column in COLUMNS
        if column.storage is not None and column.part is Part.BODY and column.is_written
        and column.stored_as != "seq"
    ),
)
"""The columns of `span` that a write fills, in the order of `body_line`'s cells."""

HEAD_COLUMNS = (
    "object_no", "seq", "xact", "first_xact", "content_xact", "trigger_xact", "created",
    "deleted_at", "computed_scores",
)
"""The columns of `span_head` that a new row fills, in the order of `head_line`'s cells."""

EVENT_COLUMNS = tuple(column.written_to for column in COLUMNS if column.is_event_field)
"""The column that each of EVENT_FIELDS is written to."""

KNOWN_FIELDS = frozenset({*EVENT_FIELDS, *IDENTITY_FIELDS})

NULL = b"\\N"
TRUE, FALSE = b"t", b"f"

_KEY = ("object_no", "seq")


def _update(
    table: str, staged: str, columns: Iterable[str], *, key: Sequence[str], also: str = ""
) -> str:
    """The statement that moves staged rows into the rows of `table` that they replace."""
    assigned = ", ".join(f"{name} = {staged}.{name}" for name in columns if name not in _KEY)
    same = " and ".join(f"{table}.{name} = {staged}.{name}" for name in key)
    return f"update {table} set {assigned}{also} from {staged} where {same}"


COPY_BODIES = f"copy span ({', '.join(BODY_COLUMNS)}) from stdin"
COPY_HEADS = f"copy span_head ({', '.join(HEAD_COLUMNS)}) from stdin"
STAGE_BODIES = f"copy span_staged ({', '.join(BODY_COLUMNS)}) from stdin"
STAGE_HEADS = f"copy span_head_staged ({', '.join(HEAD_COLUMNS)}) from stdin"
# A client that writes over a score span makes it a row like any other.
UPDATE_BODIES = _update(
    "span", "span_staged", BODY_COLUMNS, key=("seq",), also=", scored_version = null"
)
# What was computed stays: a client's write never removes it.
UPDATE_HEADS = _update(
    "span_head", "span_head_staged",
    [name for name in HEAD_COLUMNS if name not in ("first_xact", "computed_scores")],
    key=("object_no", "seq"),
)


def escaped(text: str) -> bytes:
    """A text as COPY reads it."""
    raw = text.encode()
    if b"\\" in raw or b"\t" in raw or b"\n" in raw or b"\r" in raw:
        raw = (
            raw.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")
            .replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        )
    return raw


def json_cell(value: Json) -> bytes:
    """A JSON value as COPY reads it. In JSON text, only backslashes need COPY's escape."""
    raw = orjson.dumps(value)
    return raw.replace(b"\\", b"\\\\") if b"\\" in raw else raw


def instant_cell(unix_s: float) -> bytes:
    """A time (seconds since 1970) as COPY reads it, to the microsecond."""
    second, micros = divmod(round(unix_s * 1_000_000), 1_000_000)
    return b"%b.%06d+00" % (_second(second), micros)


@lru_cache(maxsize=8)
def _second(unix_s: int) -> bytes:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()


def body_line(row: Row, *, object_no: int, seq: RowSeq, created_by: str | None) -> bytes:
    """The line of the row's body: a cell for each of BODY_COLUMNS, in their order.

    A null that a merge set is stored as JSON null while the row has no base, so that the base,
    when it comes, does not fill it in. In all other cells null and absent are the same.
    """
    fields = row.fields
    keep_null = not row.has_base
    span_id, root = span_ids(row)
    parents = fields.get("span_parents")
    cells = [
        b"%d" % object_no,
        b"%d" % seq,
        escaped(row.key.id),
        TRUE if row.has_base else FALSE,
        escaped(span_id),
        escaped(root),
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
    cells.append(NULL if created_by is None else escaped(created_by))
    cells.append(NULL if row.scoring_state is None else json_cell(row.scoring_state))
    return b"\t".join(cells) + b"\n"


def head_line(
    row: Row,
    *,
    object_no: int,
    seq: RowSeq,
    xact: Xact,
    content_xact: Xact,
    trigger_xact: Xact | None,
    now: str,
) -> bytes:
    """The line of the row's head: a cell for each of HEAD_COLUMNS, in their order.

    `now` (ISO) stands for a missing `created`. The version is also the first one, which only a
    new row takes.
    """
    cells = (
        b"%d" % object_no,
        b"%d" % seq,
        b"%d" % xact,
        b"%d" % xact,
        b"%d" % content_xact,
        b"%d" % trigger_xact if trigger_xact is not None else NULL,
        str(row.fields.get("created") or now).encode(),
        now.encode() if row.is_deleted else NULL,
        NULL,
    )
    return b"\t".join(cells) + b"\n"


def _extra(fields: JsonObject) -> JsonObject:
    if fields.keys() <= KNOWN_FIELDS:
        return {}
    return {name: value for name, value in fields.items() if name not in KNOWN_FIELDS}


def copy_lines(cursor: Cursor, statement: str, lines: Iterable[bytes]) -> None:
    """Run a COPY statement with `lines` as its input."""
    with cursor.copy(statement) as copy:
        copy.write(b"".join(lines))
