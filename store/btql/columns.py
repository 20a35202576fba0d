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
from spans.json import Json
from store.postgres.tables import span

Sql: TypeAlias = ColumnElement[Any]  # SQLAlchemy's types of values say nothing about rows

JSON_NULL = literal_column("'null'::jsonb", JSONB)
_NO_VARIABLES = literal_column("'{}'::jsonb", JSONB)
# What stands in `log_id`, by the kind of object that a row belongs to.
LOG_IDS = {"project_logs": "g", "playground_logs": "x"}


def text_column(name: str, *, org_id: str | None) -> Sql:
    """A column of kind TEXT, as the API writes it."""
    match name:
        case "_xact_id":
            return cast(span.c.xact, Text)
        case "_pagination_key":
            return literal("p", Text) + func.lpad(cast(span.c.seq, Text), 20, "0")
        case "org_id":
            return literal(org_id, Text)
        case "project_id":
            return cast(span.c.project_id, Text)
        case "experiment_id" | "dataset_id":
            of_object = span.c.object_type == name.removesuffix("_id")
            return case((of_object, cast(span.c.object_id, Text)))
        case "log_id":
            return case(LOG_IDS, value=span.c.object_type)
        case _:
            return span.c[name]


def json_column(name: str) -> Sql:
    """A column of kind JSON as jsonb; JSON's null is still a value here."""
    if name in ("comments", "audit_data"):
        return cast(null(), JSONB)
    column = span.c["scoring_state" if name == "_async_scoring_state" else name]
    return column if isinstance(column.type, JSONB) else cast(column, JSONB)


def json_path(path: Path) -> Sql:
    """The value at a path into a JSON column as jsonb; null where there is none.

    `->` with a number takes a lone scalar for an array of one, and `#>` takes the key "0" for
    an index: so indexes go by a JSON path, which keeps keys and indexes apart.
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
    column = json_column(name)
    if name in ("input", "output", "expected"):
        column = span.c[name]
        return column.is_(None) | (func.json_typeof(column) == "null")
    return func.nullif(column, JSON_NULL).is_(None)


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
    return func.date_trunc("milliseconds", func.timezone("UTC", span.c.created), type_=DateTime)


def is_plain(path: Path) -> bool:
    """Whether a TEXT column is stored as it is shown, and never null."""
    return path.column in ("id", "span_id", "root_span_id")


def is_json(path: Path) -> bool:
    return bool(path.keys) or COLUMNS[path.column] is Kind.JSON


def _steps(keys: Sequence[str | int]) -> str:
    """The keys as a JSON path; strict, so that it never looks inside of an array unasked."""
    return "strict $" + "".join(_step(key) for key in keys)


def _step(key: str | int) -> str:
    if isinstance(key, str):
        return f".{json.dumps(key)}"
    if key >= 0:
        return f"[{key}]"
    return "[last]" if key == -1 else f"[last - {-key - 1}]"
