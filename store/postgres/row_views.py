"""Rows as rules and scorers read them: only the columns asked for, in the API's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spans.ids import Xact
from spans.json import Json
from spans.row import ObjectRef, RowKey
from spans.work import Subject
from store.postgres.database import Cursor

# What each column of the API is in the table, where it is not the column of the same name.
# Instants are written by PostgreSQL itself: milliseconds, UTC, Z.
EXPRESSIONS: Mapping[str, str] = {
    "_xact_id": "xact::text",
    "_pagination_key": "'p' || lpad(seq::text, 20, '0')",
    "created": "to_char(created at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    "project_id": "project_id::text",
    "_async_scoring_state": "scoring_state",
    "org_id": "(select org_id::text from project where project.id = span.project_id)",
    "log_id": "case object_type when 'project_logs' then 'g' end",
    "experiment_id": "case object_type when 'experiment' then object_id::text end",
    "dataset_id": "case object_type when 'dataset' then object_id::text end",
}
STORED = frozenset({
    "id", "span_id", "root_span_id", "span_parents", "is_root", "input", "output", "expected",
    "error", "scores", "metadata", "metrics", "tags", "span_attributes", "context", "origin",
    "facets", "classifications",
})
ALWAYS = (
    "id", "span_id", "root_span_id", "is_root", "span_attributes", "metrics",
    "_async_scoring_state",
)


def read_subjects(
    cursor: Cursor, where: ObjectRef, row_ids: Sequence[str], columns: frozenset[str]
) -> dict[str, Subject]:
    """The rows of one object that are there and not deleted, by id; no locks."""
    names = [*ALWAYS, *sorted((columns & (STORED | EXPRESSIONS.keys())) - set(ALWAYS))]
    selected = ", ".join(EXPRESSIONS.get(name, name) for name in names)
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
