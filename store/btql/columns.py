"""Columns, paths and constants of the filter language as SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from btql.columns import COLUMNS
from btql.kinds import Kind
from btql.tree import Path
from spans.columns import API_COLUMNS, Storage
from spans.json import Json
from spans.repair.faults import INGEST_WARNINGS
from spans.row import LOG_IDS, OBJECT_ID_COLUMNS
from store.postgres.tables import shown_span

Sql: TypeAlias = ColumnElement[Any]  # SQLAlchemy's types of values say nothing about rows

JSON_NULL = literal_column("'null'::jsonb", JSONB)
_NO_VARIABLES = literal_column("'{}'::jsonb", JSONB)
_OBJECT_TYPES = {column: object_type for object_type, column in OBJECT_ID_COLUMNS.items()}


def text_column(name: str, *, org_id: str | None) -> Sql:
    """A column of kind TEXT, as the API writes it."""
    match name:
        case "_pagination_key":
            return literal("p", Text) + func.lpad(cast(shown_span.c.seq, Text), 20, "0")
        case "org_id":
            return literal(org_id, Text)
        case "log_id":
            return case(LOG_IDS, value=shown_span.c.object_type)
        case _ if name in _OBJECT_TYPES:
            of_object = shown_span.c.object_type == _OBJECT_TYPES[name]
            return case((of_object, cast(shown_span.c.object_id, Text)))
        case _:
            column = shown_span.c[API_COLUMNS[name].stored_as]
            return column if _is_text(name) else cast(column, Text)


def json_column(name: str) -> Sql:
    """A column of kind JSON as jsonb. A JSON null in it is not turned into SQL's null."""
    column = API_COLUMNS[name]
    if name == INGEST_WARNINGS:
        return shown_span.c.extra.op("->", return_type=JSONB())(literal(name, Text))
    match column.storage:
        case None:
            return cast(null(), JSONB)
        case Storage.JSON:
            return cast(shown_span.c[column.stored_as], JSONB)
        case _:
            return shown_span.c[column.stored_as]


def json_path(path: Path) -> Sql:
    """The value at a path into a JSON column as jsonb; null where there is none.

    `->` with a number takes a lone scalar for an array of one, and `#>` takes the key "0" for
    an index. Indexes therefore go by a JSON path, which tells keys and indexes apart.
    """
    found = json_column(path.column)
    if any(isinstance(key, int) for key in path.keys):
        steps = cast(literal(_steps(path.keys), Text), JSONPATH)
        found = func.jsonb_path_query_first(found, steps, _NO_VARIABLES, true())
    else:
        for key in path.keys:
            found = found.op("->", return_type=JSONB())(literal(key, Text))
    return func.nullif(found, JSON_NULL, type_=JSONB)


def is_null_column(name: str) -> Sql:
    """Whether a whole JSON column is null, without parsing what it holds."""
    if API_COLUMNS[name].storage is Storage.JSON:
        column = shown_span.c[API_COLUMNS[name].stored_as]
        return column.is_(None) | (func.json_typeof(column) == "null")
    return func.nullif(json_column(name), JSON_NULL).is_(None)


def json_constant(value: Json) -> Sql:
    if value is None:
        return cast(null(), JSONB)
    return cast(literal(json.dumps(value, ensure_ascii=False), Text), JSONB)


def json_constants(values: Sequence[Json]) -> Sql:
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    return cast(literal(texts, ARRAY(Text)), ARRAY(JSONB))


def time_constant(instant: datetime | None) -> Sql:
    """A timestamp without zone, in UTC."""
    plain = None if instant is None else instant.astimezone(UTC).replace(tzinfo=None)
    return cast(literal(plain, DateTime), DateTime)


def created_column() -> Sql:
    """`created` to the millisecond, which is what the API shows of it."""
    utc = func.timezone("UTC", shown_span.c.created)
    return func.date_trunc("milliseconds", utc, type_=DateTime)


def is_plain(path: Path) -> bool:
    """Whether a TEXT column is stored as it is shown, and never null."""
    return _is_text(path.column) and API_COLUMNS[path.column].is_required


def is_json(path: Path) -> bool:
    return bool(path.keys) or COLUMNS[path.column] is Kind.JSON


def _is_text(name: str) -> bool:
    """Whether the column is stored as text, which is how the API shows it."""
    return API_COLUMNS[name].storage is Storage.TEXT


def _steps(keys: Sequence[str | int]) -> str:
    """The keys as a JSON path. A strict path does not look inside an array by itself."""
    return "strict $" + "".join(_step(key) for key in keys)


def _step(key: str | int) -> str:
    if isinstance(key, str):
        return f".{json.dumps(key)}"
    if key >= 0:
        return f"[{key}]"
    return "[last]" if key == -1 else f"[last - {-key - 1}]"
