"""Feedback: people's scores, corrections, tags and comments on a row that is there."""

from __future__ import annotations

from collections.abc import Callable

from spans.errors import BadInput
from spans.event import BodyText, EventLimits, read_event
from spans.json import Json, JsonObject
from spans.row import ObjectRef, RowWrite

FIELDS = ("scores", "expected", "tags")


def read_feedback(
    item: Json, where: ObjectRef, limits: EventLimits, body: BodyText, new_id: Callable[[], str]
) -> list[RowWrite]:
    """The writes of one piece of feedback: a merge, and its comment beside the row.

    Its `metadata` speaks of the feedback, not of the row: it goes to the audit log. What
    feedback changes is not scored again. Raises BadInput.
    """
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise BadInput("feedback names its row: {id, scores?, expected?, tags?, comment?}")
    audit: JsonObject = {
        "_audit_source": item.get("source") or "external",
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
