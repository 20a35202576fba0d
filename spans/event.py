"""Turns an event, as a client sent it, into a RowWrite. Nothing after this checks it again.

PostgreSQL's jsonb stores values that Python cannot read back (numbers of 5 000 digits, nesting
of 5 000 levels). A row with such a value would crash every reader, so it is refused here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from spans.columns import API_COLUMNS, EVENT_FIELDS
from spans.errors import BadInput
from spans.json import Json, JsonObject
from spans.row import IDENTITY_FIELDS, ArrayDelete, ObjectRef, RowKey, RowWrite

ID_CHARS_MAX = 256
SCORE_NAME_CHARS_MAX = 100
TAGS_MAX = 100
TAG_CHARS_MAX = 128
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = datetime(2200, 1, 1, tzinfo=UTC)
SECONDS_MAX = 7_258_118_400.0   # 2200-01-01; a client that sends more means milliseconds
EXACT_FLOAT_MAX = 2.0**63       # orjson turns integers that are larger into floats

CONTROL_FIELDS = frozenset({
    "_is_merge", "_merge_paths", "_array_delete", "_object_delete", "_parent_id",
    "_skip_async_scoring", "_async_scoring_control", "_audit_source", "_audit_metadata",
    "comment", "prompt_session_id",
    *(API_COLUMNS.keys() - {*EVENT_FIELDS, *IDENTITY_FIELDS}),
})
"""Fields that are not content: instructions, the row's place, and what Tallyard adds."""

PLACE_FIELDS = frozenset({"id", "project_id", "log_id", "org_id"})
"""Control fields that only name the row. An event without others needs no more reading."""

FEEDBACK_FIELDS = frozenset({"scores", "expected", "tags", "metadata", *IDENTITY_FIELDS})
"""The fields that feedback may change, and those that SDKs repeat beside them."""

OBJECT_FIELDS = tuple(column.name for column in API_COLUMNS.values() if column.is_object)
CALLER_FIELDS = frozenset({"caller_filename", "caller_functionname", "caller_lineno"})
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


LONG_INTEGER = re.compile(rb"[:\[,\s](-?[0-9]{19,})(?=\s*[,\]}])")
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1   # what the parser keeps as an integer


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """How deeply the values of one event may nest, and how many there may be."""

    depth_max: int
    nodes_max: int


class BodyText:
    """What only the text of a request tells, because parsing loses it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.may_hold_nul = b"\\u0000" in body

    @cached_property
    def has_large_integer(self) -> bool:
        """Whether the text has an integer beyond 64 bits, which the parser made a float."""
        return any(
            len(digits) > 20 or not INTEGER_MIN <= int(digits) <= INTEGER_MAX
            for digits in LONG_INTEGER.findall(self._body)
        )


def read_event(
    event: Json, where: ObjectRef, limits: EventLimits, *, new_id: Callable[[], str],
    body: BodyText,
) -> RowWrite:
    """The write that `event` asks for. `new_id` gives the row an id if the client gave none.

    Raises BadInput, which names the field and what is wrong with it.
    """
    if not isinstance(event, dict):
        raise BadInput("an event must be an object")
    row_id = new_id() if event.get("id") is None else _row_id(event["id"])
    _check_span_ids(event)
    check_values(event, limits, body)
    if body.may_hold_nul:
        event = _without_nul(event)
    fields = {name: value for name, value in event.items() if name not in CONTROL_FIELDS}
    _check_fields(fields)
    if event.keys() & CONTROL_FIELDS <= PLACE_FIELDS:
        return RowWrite(key=RowKey(where, row_id), fields=fields)
    return _with_controls(event, where, row_id, fields)


def check_values(values: JsonObject, limits: EventLimits, body: BodyText) -> None:
    """Raises BadInput for more values, deeper nesting or larger numbers than are allowed."""
    nodes = 0
    for value in values.values():
        nodes += 1 if type(value) is str else _count(value, limits.depth_max - 1, body)
    if nodes > limits.nodes_max:
        raise BadInput(f"{nodes} values, more than {limits.nodes_max} (TALLYARD_NODES_MAX)")


def _with_controls(
    event: JsonObject, where: ObjectRef, row_id: str, fields: JsonObject
) -> RowWrite:
    comment = event.get("comment")
    if isinstance(comment, dict):
        origin = event.get("origin")
        target = origin.get("id") if isinstance(origin, dict) else None
        return RowWrite(
            key=RowKey(where, _row_id(target)), fields={}, comment=comment,
            comment_id=row_id, audit_source=_optional_text(event, "_audit_source"),
            audit_metadata=_optional_object(event, "_audit_metadata"),
        )
    state, reselect = _scoring_control(event.get("_async_scoring_control"))
    is_merge = event.get("_is_merge") is True
    return RowWrite(
        key=RowKey(where, row_id),
        fields=fields,
        is_merge=is_merge,
        # An SDK sends a person's feedback as a merge that names its source. If it has joined
        # the feedback with the end of the span, the event is no feedback: other fields show it.
        is_feedback=(
            is_merge
            and event.get("_audit_source") is not None
            and fields.keys() <= FEEDBACK_FIELDS
        ),
        is_delete=event.get("_object_delete") is True,
        merge_paths=_paths(event.get("_merge_paths")),
        array_deletes=_array_deletes(event.get("_array_delete")),
        parent_id=_optional_text(event, "_parent_id"),
        skip_scoring=event.get("_skip_async_scoring") is True,
        scoring_state=state,
        reselect=reselect,
        audit_source=_optional_text(event, "_audit_source"),
        audit_metadata=_optional_object(event, "_audit_metadata"),
    )


def _row_id(value: Json) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX:
        raise BadInput(f"must be a string of 1 to {ID_CHARS_MAX} characters", path="id")
    if CONTROL_CHARACTER.search(value):
        raise BadInput("must not hold control characters", path="id")
    return value


def _count(value: Json, depth_left: int, body: BodyText) -> int:
    """How many values `value` holds. Raises BadInput for deep nesting and large numbers."""
    if isinstance(value, dict | list):
        if depth_left <= 0:
            raise BadInput("nested too deep (TALLYARD_DEPTH_MAX)")
        nodes = 1
        for item in value.values() if isinstance(value, dict) else value:
            nodes += 1 if type(item) is str else _count(item, depth_left - 1, body)
        return nodes
    if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
        raise BadInput("an integer beyond 64 bits: send it as a string")
    if type(value) is float and not math.isfinite(value):
        raise BadInput(f"{value} is not a number in JSON")
    if (
        type(value) is float
        and abs(value) >= EXACT_FLOAT_MAX
        and value.is_integer()
        and body.has_large_integer
    ):
        raise BadInput(f"an integer beyond 64 bits, about {value:g}: send it as a string")
    return 1


def _without_nul(value: JsonObject) -> JsonObject:
    replaced: list[str] = []
    clean = _replace_nul(value, replaced)
    if replaced and isinstance(clean, dict):
        clean["ingest_warnings"] = [f"NUL replaced by U+FFFD {len(replaced)} times"]
    return clean if isinstance(clean, dict) else {}


def _replace_nul(value: Json, replaced: list[str]) -> Json:
    if isinstance(value, str):
        if "\0" not in value:
            return value
        replaced.append(value)
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_replace_nul(item, replaced) for item in value]
    if isinstance(value, dict):
        return {
            str(_replace_nul(name, replaced)): _replace_nul(item, replaced)
            for name, item in value.items()
        }
    return value


def _check_fields(fields: JsonObject) -> None:
    for name in OBJECT_FIELDS:
        value = fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadInput("must be an object or null", path=name)
    if (scores := fields.get("scores")) is not None:
        fields["scores"] = _checked_scores(scores)
    if (metrics := fields.get("metrics")) is not None:
        _check_metrics(metrics)
    if (tags := fields.get("tags")) is not None:
        _check_tags(tags)
    parents = fields.get("span_parents")
    if parents is not None and not (
        isinstance(parents, list) and all(isinstance(parent, str) for parent in parents)
    ):
        raise BadInput("must be a list of span ids or null", path="span_parents")
    if (created := fields.get("created")) is not None:
        fields["created"] = _checked_created(created)


def _check_span_ids(event: JsonObject) -> None:
    for name in ("span_id", "root_span_id"):
        value = event.get(name)
        if value is not None and (
            not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX or "\0" in value
        ):
            raise BadInput(f"must be a string of 1 to {ID_CHARS_MAX} characters", path=name)


def _checked_scores(scores: Json) -> JsonObject:
    if not isinstance(scores, dict):
        raise BadInput("must be an object of names and numbers from 0 to 1", path="scores")
    checked: JsonObject = {}
    for name, value in scores.items():
        if not 0 < len(name) <= SCORE_NAME_CHARS_MAX or not name.isprintable():
            raise BadInput(
                f"a score's name must have 1 to {SCORE_NAME_CHARS_MAX} printable characters",
                path="scores",
            )
        if value is None or (isinstance(value, int | float) and 0 <= value <= 1):
            checked[name] = int(value) if isinstance(value, bool) else value
        else:
            raise BadInput("must be a number from 0 to 1 or null", path=f"scores.{name}")
    return checked


def _check_metrics(metrics: Json) -> None:
    if not isinstance(metrics, dict):
        raise BadInput("must be an object of names and numbers", path="metrics")
    for name, value in metrics.items():
        if value is None or isinstance(value, dict) or name in CALLER_FIELDS:
            continue   # some SDKs nest details here; older ones name the caller
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput("must be a number or null", path=f"metrics.{name}")
        if name in {"start", "end"} and not 0 <= value <= SECONDS_MAX:
            raise BadInput(
                "must be in unix seconds; this looks like another unit", path=f"metrics.{name}"
            )


def _check_tags(tags: Json) -> None:
    if (
        not isinstance(tags, list)
        or len(tags) > TAGS_MAX
        or not all(isinstance(tag, str) and len(tag) <= TAG_CHARS_MAX for tag in tags)
    ):
        raise BadInput(
            f"must be a list of up to {TAGS_MAX} strings of up to {TAG_CHARS_MAX} characters",
            path="tags",
        )


def _checked_created(created: Json) -> str:
    if not isinstance(created, str):
        raise BadInput("must be a string, an ISO 8601 instant", path="created")
    try:
        at = datetime.fromisoformat(created)
    except ValueError as error:
        raise BadInput(f"{created[:40]!r} is no ISO 8601 instant", path="created") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(at, OLDEST), NEWEST).isoformat()


def _optional_text(event: JsonObject, name: str) -> str | None:
    value = event.get(name)
    if value is None or (isinstance(value, str) and len(value) <= ID_CHARS_MAX):
        return value
    raise BadInput(f"must be a string of at most {ID_CHARS_MAX} characters", path=name)


def _optional_object(event: JsonObject, name: str) -> JsonObject | None:
    value = event.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise BadInput("must be an object or null", path=name)


def _paths(value: Json) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadInput("must be a list of paths", path="_merge_paths")
    return tuple(_path(path, "_merge_paths") for path in value)


def _path(value: Json, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadInput("a path must be a list of field names", path=name)
    return tuple(str(part) for part in value)


def _array_deletes(value: Json) -> tuple[ArrayDelete, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadInput("must be a list of {path, delete}", path="_array_delete")
    deletes: list[ArrayDelete] = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("delete"), list):
            raise BadInput("must be a list of {path, delete: [values]}", path="_array_delete")
        values = item["delete"]
        deletes.append(
            ArrayDelete(
                path=_path(item.get("path"), "_array_delete"),
                values=tuple(values) if isinstance(values, list) else (),
            )
        )
    return tuple(deletes)


def _scoring_control(value: Json) -> tuple[JsonObject | None, bool]:
    """(new `_async_scoring_state`, whether to match the row again), as a control asks."""
    if value is None:
        return None, False
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "state_override" and isinstance(value, dict):
        state = value.get("state")
        return (state if isinstance(state, dict) else {}), False
    if kind == "state_force_reselect":
        return None, True
    raise BadInput(
        f"unknown kind {kind!r}; use state_override or state_force_reselect",
        path="_async_scoring_control",
    )
