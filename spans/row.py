"""A row, which is a span as it is stored, and the writes that make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from spans.columns import COLUMNS
from spans.ids import ObjectId, ProjectId
from spans.json import Json, JsonObject

CONTENT_FIELDS = tuple(column.name for column in COLUMNS if column.is_content)
"""The fields that are judged. If one of them changes, the row is matched again."""

IDENTITY_FIELDS = tuple(column.name for column in COLUMNS if column.is_identity)
"""Fields that a row's base sets and merges do not change."""

RowView = Mapping[str, Json]
"""A row as the API shows it, which is also how filters see it."""


class ObjectType(StrEnum):
    """The type of the object that a row belongs to."""

    PROJECT_LOGS = "project_logs"
    EXPERIMENT = "experiment"
    DATASET = "dataset"
    PLAYGROUND_LOGS = "playground_logs"


OBJECT_ID_COLUMNS: Mapping[str, str] = {
    ObjectType.EXPERIMENT.value: "experiment_id",
    ObjectType.DATASET.value: "dataset_id",
}
"""The API's column that holds the object's id, by the type of the object."""

LOG_IDS: Mapping[str, str] = {
    ObjectType.PROJECT_LOGS.value: "g",
    ObjectType.PLAYGROUND_LOGS.value: "x",
}
"""What `log_id` is, by the type of the object that a row belongs to; elsewhere null."""


class ObjectRef(NamedTuple):
    """The object that a row belongs to. For project logs `object_id` is the project's id."""

    project_id: ProjectId
    object_type: ObjectType
    object_id: ObjectId


def project_logs(project_id: ProjectId) -> ObjectRef:
    """The logs of a project, which are an object with the project's own id."""
    return ObjectRef(project_id, ObjectType.PROJECT_LOGS, ObjectId(project_id))


class RowKey(NamedTuple):
    """A row's identity: the same id in another object is another row."""

    object: ObjectRef
    id: str


class ArrayDelete(NamedTuple):
    """Values to take out of the array at `path`."""

    path: tuple[str, ...]
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWrite:
    """One event of a client: a whole row, a merge into one, or its deletion.

    `fields` holds the fields that were sent. In a merge, null clears a field and an absent
    field stays as it is.
    """

    key: RowKey
    fields: JsonObject
    is_merge: bool = False
    is_delete: bool = False
    is_feedback: bool = False             # never puts the row up for matching
    merge_paths: tuple[tuple[str, ...], ...] = ()
    array_deletes: tuple[ArrayDelete, ...] = ()
    parent_id: str | None = None          # row id of the parent (deprecated REST form)
    skip_scoring: bool = False            # `_skip_async_scoring`: for this write alone
    scoring_state: JsonObject | None = None   # the state to set; {} clears it
    reselect: bool = False                # `_async_scoring_control`: match the row again
    comment: JsonObject | None = None     # a comment on the row; it changes no field
    comment_id: str | None = None
    audit_source: str | None = None
    audit_metadata: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as its writes made it.

    `has_base` is False while the row has only had merges; a base that arrives later is laid
    under them. A deleted row keeps only its key, and merges leave it deleted.
    """

    key: RowKey
    fields: JsonObject
    has_base: bool
    is_deleted: bool = False
    scoring_state: JsonObject | None = None


def span_ids(row: Row) -> tuple[str, str]:
    """The row's span id, and the root span id of its trace.

    A row that came without them is the root of a trace of its own, and has its own id for both.
    """
    span_id = str(row.fields.get("span_id") or row.key.id)
    return span_id, str(row.fields.get("root_span_id") or span_id)


def is_finished(fields: Mapping[str, Json]) -> bool:
    """Whether the span has ended: `metrics.end` is a number."""
    metrics = fields.get("metrics")
    return isinstance(metrics, dict) and isinstance(metrics.get("end"), int | float)


def is_complete(row: Row) -> bool:
    """Whether the span can be judged: it has its base, and has ended.

    Without its base a row says little of its span: what came is a later part of it.
    """
    return row.has_base and is_finished(row.fields)


def is_root(fields: Mapping[str, Json]) -> bool:
    """Whether the span is its trace's root: it has no parents.

    Comparing its span id with its trace id would not tell: with hex ids they never agree.
    """
    return not fields.get("span_parents")


def is_made_by_scorer(fields: Mapping[str, Json]) -> bool:
    """Whether a scorer made this row. Such rows are never scored: that would never end."""
    attributes = fields.get("span_attributes")
    return isinstance(attributes, dict) and (
        attributes.get("purpose") == "scorer" or attributes.get("type") == "score"
    )
