"""Rows as rules and scorers read them: the columns that they ask for, in the API's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spans.columns import API_COLUMNS, Column, Storage
from spans.ids import Xact
from spans.json import Json
from spans.row import LOG_IDS, OBJECT_ID_COLUMNS, ObjectRef, RowKey
from spans.work import Subject
from store.postgres.database import Cursor
from store.postgres.visible_scores import VISIBLE_SCORES_SQL


def _of_type(values: Mapping[str, str]) -> str:
    """SQL that gives one of `values` by the row's type of object, and else null."""
    cases = " ".join(f"when '{name}' then {value}" for name, value in values.items())
    return f"case object_type {cases} end"


# The API's columns that are more than one stored value in its usual form.
_MADE_OF_OTHERS = {
    "_pagination_key": "'p' || lpad(seq::text, 20, '0')",
    "org_id": "(select org_id::text from project where project.id = span.project_id)",
    "log_id": _of_type({name: f"'{log_id}'" for name, log_id in LOG_IDS.items()}),
    **{
        column: _of_type({object_type: "object_id::text"})
        for object_type, column in OBJECT_ID_COLUMNS.items()
    },
    "scores": VISIBLE_SCORES_SQL,
}


def _expression(column: Column) -> str:
    """The SQL that gives a stored column as the API shows it."""
    match column.storage:
        case Storage.BIGINT | Storage.UUID:
            return f"{column.stored_as}::text"
        case Storage.TIMESTAMPTZ:
            # Written by PostgreSQL itself: milliseconds, UTC, Z.
            utc = f"{column.stored_as} at time zone 'UTC'"
            return f"to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        case _:
            return column.stored_as


IS_MADE_BY_SCORER_SQL = """(coalesce(span.span_attributes ->> 'purpose' = 'scorer', false)
    or coalesce(span.span_attributes ->> 'type' = 'score', false))"""
"""Whether a scorer made the row, as raw SQL in a statement whose FROM names `span`. It has the
same meaning as `spans.row.is_made_by_scorer`."""

EXPRESSIONS: Mapping[str, str] = {
    name: _MADE_OF_OTHERS.get(name) or _expression(column)
    for name, column in API_COLUMNS.items()
    if column.storage is not None or name in _MADE_OF_OTHERS
}
"""The SQL over `span` that gives each column of the API as the API shows it. `comments` and
`audit_data`, which are null in every row, are left out."""

_ALWAYS = tuple(name for name, column in API_COLUMNS.items() if column.is_always_read)


def read_subjects(
    cursor: Cursor, where: ObjectRef, row_ids: Sequence[str], columns: frozenset[str]
) -> dict[str, Subject]:
    """The rows of one object that exist and are not deleted, by id. Locks nothing."""
    names = [*_ALWAYS, *sorted((columns & EXPRESSIONS.keys()) - set(_ALWAYS))]
    selected = ", ".join(EXPRESSIONS[name] for name in names)
    cursor.execute(
        f"""select content_xact, trigger_xact, {selected} from span
             where project_id = %s and object_type = %s and object_id = %s
               and id = any(%s) and deleted_at is null""",
        (*where, list(row_ids)),
    )
    subjects: dict[str, Subject] = {}
    for content_xact, trigger_xact, *values in cursor:
        view = dict(zip(names, values, strict=True))
        subjects[view["id"]] = _subject(where, content_xact, trigger_xact, view)
    return subjects


def _subject(
    where: ObjectRef, content_xact: int, trigger_xact: int | None, view: dict[str, Any]
) -> Subject:
    metrics: Json = view["metrics"]
    ended_at = metrics.get("end") if isinstance(metrics, dict) else None
    return Subject(
        key=RowKey(where, view["id"]),
        span_id=view["span_id"],
        root_span_id=view["root_span_id"],
        content_xact=Xact(content_xact),
        trigger_xact=None if trigger_xact is None else Xact(trigger_xact),
        ended_at=float(ended_at) if isinstance(ended_at, int | float) else None,
        view=view,
    )
