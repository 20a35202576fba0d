"""Feedback: people's scores, corrections, tags and comments on a stored row."""

from __future__ import annotations

from collections.abc import Callable

from spans.errors import BadInput
from spans.event import EventLimits, check_values, read_event
from spans.json import Json, JsonObject
from spans.repair.values import BodyText
from spans.row import ObjectRef, RowWrite

FIELDS = ("scores", "expected", "tags")
KNOWN_FIELDS = ("id", *FIELDS, "comment", "metadata", "source")
SOURCES = ("app", "api", "external")
"""What feedback may come from. The last one is the default."""


def read_feedback(
    item: Json, where: ObjectRef, limits: EventLimits, body: BodyText, new_id: Callable[[], str]
) -> list[RowWrite]:
    """The writes of one feedback item: a merge into the row, and a row for its comment.

    The item's `metadata` describes the feedback, not the row, so it goes to the audit log.
    Feedback does not cause the row to be scored again. Raises BadInput.
    """
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise BadInput(
            "must be an object with the id of a row: {id, scores?, expected?, tags?, comment?}"
        )
    if unknown := sorted(item.keys() - set(KNOWN_FIELDS)):
        raise BadInput(f"unknown: {', '.join(unknown)}; there are {', '.join(KNOWN_FIELDS)}")
    source = item.get("source") or SOURCES[-1]
    if source not in SOURCES:
        raise BadInput(f"must be {', '.join(SOURCES)} or absent", path="source")
    if not isinstance(item.get("comment"), str | None):
        raise BadInput("must be a string", path="comment")
    if not isinstance(item.get("metadata"), dict | None):
        raise BadInput("must be an object or null", path="metadata")
    # Here, because in the writes they stand under other names.
    told: JsonObject = {name: item[name] for name in ("comment", "metadata") if name in item}
    check_values(told, limits, body)
    audit: JsonObject = {
        "_audit_source": source,
        "_audit_metadata": item.get("metadata"),
    }
    writes: list[RowWrite] = []
    changes: JsonObject = {name: item[name] for name in FIELDS if item.get(name) is not None}
    if changes:
        event: JsonObject = {"id": item["id"], **changes, "_is_merge": True, **audit}
        writes.append(read_event(event, where, limits, new_id=new_id, body=body))
    if (comment := item.get("comment")) is not None:
        event = {
            "id": new_id(), "origin": {"id": item["id"]}, "comment": {"text": comment}, **audit,
        }
        writes.append(read_event(event, where, limits, new_id=new_id, body=body))
    return writes
