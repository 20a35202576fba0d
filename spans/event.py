"""Turns an event, as a client sent it, into a RowWrite. Nothing after this checks it again.

PostgreSQL's jsonb stores values that Python cannot read back (numbers of 5 000 digits, nesting
of 5 000 levels). A row with such a value would crash every reader. So a value that cannot be
stored is refused, or, for clients that read no answer, mended with a warning on the row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from spans.columns import API_COLUMNS, EVENT_FIELDS
from spans.errors import BadInput
from spans.json import Json, JsonObject
from spans.repair.faults import INGEST_WARNINGS, Faults, Unreadable, Unstorable, shown
from spans.repair.values import (
    NO_CHARACTER,
    ODD_CHARACTER,
    BodyText,
    InexactIntegers,
    Mender,
    OddValue,
    count,
)
from spans.row import IDENTITY_FIELDS, ArrayDelete, ObjectRef, RowKey, RowWrite
from spans.scoring import within_0_and_1

ID_CHARS_MAX = 256
SCORE_NAME_CHARS_MAX = 100
TAGS_MAX = 100
TAG_CHARS_MAX = 128
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = datetime(2200, 1, 1, tzinfo=UTC)
SECONDS_MAX = 7_258_118_400.0   # 2200-01-01; a client that sends more means milliseconds
UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
"""What a time beyond SECONDS_MAX is in, with its number in a second. The first that fits."""

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
FLAG_TEXTS = {"true": True, "1": True, "false": False, "0": False, "": False}
LEFT_OUT = "left out"
NUMBERS = frozenset({int, float})
TIMES = frozenset({"start", "end"})   # metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """How deeply the values of one event may nest, and how many there may be."""

    depth_max: int
    nodes_max: int


def read_event(
    event: Json, where: ObjectRef, limits: EventLimits, *, new_id: Callable[[], str],
    body: BodyText, faults: Faults | None = None,
) -> RowWrite:
    """The write that `event` asks for. `new_id` gives the row an id if the client gave none.

    Without `faults`, or with strict ones, the first fault raises BadInput, which names the
    field and what is wrong with it. Otherwise values are mended, the write has a warning for
    each, and BadInput is raised only for an event without a usable id or with too many values,
    and InexactIntegers if the body has to be read again by `read_tolerantly`.
    """
    if not isinstance(event, dict):
        if isinstance(event, Unreadable):
            raise BadInput(event.reason)
        raise BadInput("an event must be an object")
    if faults is None:
        faults = Faults(is_strict=True)
    faults.take()   # those of an event before, which was refused in the end
    given_id = event.get("id")
    if type(given_id) is float and body.has_rounded_integer and not faults.is_strict:
        raise InexactIntegers
    row_id = new_id() if given_id is None else _row_id(given_id, faults)
    event = _storable(event, limits, body, faults)
    fields = {name: value for name, value in event.items() if name not in CONTROL_FIELDS}
    _mend_fields(fields, faults)
    if event.keys() & CONTROL_FIELDS <= PLACE_FIELDS:
        write = RowWrite(key=RowKey(where, row_id), fields=fields)
    else:
        write = _with_controls(event, where, row_id, fields, faults)
    if warnings := faults.take():
        fields[INGEST_WARNINGS] = [*warnings]
    return write


def check_values(values: JsonObject, limits: EventLimits, body: BodyText) -> None:
    """Raises BadInput for more values, deeper nesting or larger numbers than are allowed."""
    _storable(values, limits, body, Faults(is_strict=True))


def _storable(
    event: JsonObject, limits: EventLimits, body: BodyText, faults: Faults
) -> JsonObject:
    """The event, with every value inside it mended. Raises BadInput for too many values."""
    nodes = 0
    is_odd = body.may_hold_odd_text
    if not is_odd:
        try:
            for value in event.values():
                nodes += 1 if type(value) is str else count(value, limits.depth_max - 1, body)
        except OddValue:
            is_odd = True
    if is_odd:
        mender = Mender(faults, body, limits.depth_max)
        event = mender.event(event)
        nodes = mender.nodes
    if nodes > limits.nodes_max:
        raise BadInput(f"{nodes} values, more than {limits.nodes_max} (TALLYARD_NODES_MAX)")
    return event


def _with_controls(
    event: JsonObject, where: ObjectRef, row_id: str, fields: JsonObject, faults: Faults
) -> RowWrite:
    origin = event.get("origin")
    target = origin.get("id") if isinstance(origin, dict) else None
    if event.get("comment") is not None and target is None and _has_content(fields):
        faults.found("comment", "must name its row in origin.id", LEFT_OUT)
    elif (comment := _object(event, "comment", faults)) is not None:
        return RowWrite(
            key=RowKey(where, _row_id(target, faults, "origin.id")), fields={},
            comment=comment, comment_id=row_id,
            audit_source=_text(event, "_audit_source", faults),
            audit_metadata=_object(event, "_audit_metadata", faults),
        )
    state, reselect = _scoring_control(event.get("_async_scoring_control"), faults)
    is_merge = _flag(event, "_is_merge", faults)
    parent_id = _text(event, "_parent_id", faults)
    if parent_id is not None and is_merge:
        faults.found("_parent_id", "cannot be used with _is_merge", LEFT_OUT)
        parent_id = None
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
        is_delete=_flag(event, "_object_delete", faults),
        merge_paths=_paths(event.get("_merge_paths"), faults),
        array_deletes=_array_deletes(event.get("_array_delete"), faults),
        parent_id=parent_id,
        skip_scoring=_flag(event, "_skip_async_scoring", faults),
        scoring_state=state,
        reselect=reselect,
        audit_source=_text(event, "_audit_source", faults),
        audit_metadata=_object(event, "_audit_metadata", faults),
    )


def _has_content(fields: JsonObject) -> bool:
    """Whether there is more in an event than tells where and when it belongs."""
    return not fields.keys() <= {"created", "origin", *IDENTITY_FIELDS}


def _row_id(value: Json, faults: Faults, path: str = "id") -> str:
    """The id. One that cannot be stored is refused: mended, two rows may become one."""
    if type(value) in NUMBERS:
        faults.found(path, f"must be a string, not {value}", "stored as text")
        value = _scalar_text(value)
    elif isinstance(value, Unstorable) and value.strip("-").isdigit():
        value = str(value)   # a warning says so, as wherever such an integer stands
    # Not NaN: its text would be the id of every row that has it.
    if (
        not isinstance(value, str) or isinstance(value, Unstorable)
        or not 0 < len(value) <= ID_CHARS_MAX
    ):
        raise BadInput(f"must be a string of 1 to {ID_CHARS_MAX} characters", path=path)
    if CONTROL_CHARACTER.search(value):
        raise BadInput("must not hold control characters", path=path)
    if ODD_CHARACTER.search(value):
        raise BadInput(f"must not hold {NO_CHARACTER}", path=path)
    return value


def _mend_fields(fields: JsonObject, faults: Faults) -> None:
    """Takes out or mends what is no value of its field."""
    for name in OBJECT_FIELDS:
        value = fields.get(name)
        if value is not None and not isinstance(value, dict):
            _put(fields, name, _mended_object(name, value, faults))
    for name, mend in MENDERS.items():
        value = fields.get(name)
        if value is not None and (mended := mend(name, value, faults)) is not value:
            _put(fields, name, mended)


def _put(fields: JsonObject, name: str, value: Json) -> None:
    """Sets the field, or leaves it out: in a merge null would clear what is stored."""
    if value is None:
        del fields[name]
    else:
        fields[name] = value


def _mended_object(name: str, value: Json, faults: Faults) -> Json:
    problem = f"must be an object or null, not {shown(value)}"
    if name == "metadata":
        faults.found(name, problem, "stored under the key `value`")
        return {"value": value}
    if name == "span_attributes" and isinstance(value, str):
        faults.found(name, problem, "stored as the span's name")
        return {"name": value}
    faults.found(name, problem, LEFT_OUT)
    return None


def _mended_scores(_name: str, scores: Json, faults: Faults) -> Json:
    if not isinstance(scores, dict):
        faults.found(
            "scores", "must be an object of names and numbers from 0 to 1, "
            f"not {shown(scores)}", LEFT_OUT,
        )
        return None
    mended: JsonObject = {}
    for name, value in scores.items():
        if not 0 < len(name) <= SCORE_NAME_CHARS_MAX or not name.isprintable():
            name = _score_name(name, {**scores, **mended}, faults)   # noqa: PLW2901 the same, mended
            if not name:
                continue
        if value is None or (isinstance(value, int | float) and 0 <= value <= 1):
            mended[name] = int(value) if isinstance(value, bool) else value
        elif (score := _mended_score(value, f"scores.{name}", faults)) is not None:
            mended[name] = score
    return mended


def _score_name(name: str, taken: JsonObject, faults: Faults) -> str:
    """A name that a score can have and that is not taken; empty if there is none."""
    problem = f"a score's name must have 1 to {SCORE_NAME_CHARS_MAX} printable characters"
    mended = "".join(each if each.isprintable() else "�" for each in name)
    mended = mended[:SCORE_NAME_CHARS_MAX]
    if not mended or mended in taken:
        faults.found("scores", f"{problem}, not {shown(name)}", LEFT_OUT)
        return ""
    faults.found("scores", problem, f"stored as {shown(mended)}")
    return mended


def _mended_score(value: Json, path: str, faults: Faults) -> float | None:
    number = _number(value)
    score = None if number is None else within_0_and_1(number)
    if score is not None and isinstance(value, int | float):
        return score   # off by rounding alone
    problem = f"must be a number from 0 to 1 or null, not {shown(value)}"
    faults.found(path, problem, LEFT_OUT if score is None else f"stored as {score}")
    return score


def _mended_metrics(_name: str, metrics: Json, faults: Faults) -> Json:
    if not isinstance(metrics, dict):
        faults.found(
            "metrics", f"must be an object of names and numbers, not {shown(metrics)}", LEFT_OUT
        )
        return None
    mended: JsonObject | None = None
    for name, value in metrics.items():
        is_time = name in TIMES
        # Some SDKs nest details here; older ones name the caller.
        if value is None or (isinstance(value, dict) and not is_time) or (
            name in CALLER_FIELDS and not isinstance(value, Unstorable)
        ):
            continue
        if type(value) in NUMBERS and (
            not is_time or 0 <= value <= SECONDS_MAX   # type: ignore[operator]
        ):
            continue
        if mended is None:
            mended = dict(metrics)
        _put(mended, name, (_mended_time if is_time else _mended_metric)(name, value, faults))
    return metrics if mended is None else mended


def _mended_metric(name: str, value: Json, faults: Faults) -> float | None:
    number = _number(value)
    faults.found(
        f"metrics.{name}", f"must be a number or null, not {shown(value)}",
        LEFT_OUT if number is None else f"stored as {number}",
    )
    return number


def _mended_time(name: str, value: Json, faults: Faults) -> float | None:
    path, problem = f"metrics.{name}", f"must be in unix seconds, not {shown(value)}"
    found = None if isinstance(value, bool) else _unix_seconds(value)
    if found is None:
        unfinished = ", so this write does not end the span" if name == "end" else ""
        faults.found(path, problem, f"{LEFT_OUT}{unfinished}")
        return None
    seconds, unit = found
    faults.found(path, problem, f"read as {unit}, stored as {seconds}")
    return seconds


def _unix_seconds(value: Json) -> tuple[float, str] | None:
    """The time that a client means by `value`, and the unit or form that it is in."""
    number = _number(value)
    if number is None:
        at = _instant(value)
        if at is None or not OLDEST <= at <= NEWEST:
            return None
        return at.timestamp(), "an ISO 8601 instant"
    if 0 <= number <= SECONDS_MAX:
        return number, "seconds"
    for unit, in_a_second in UNITS.items():
        if 0 <= number / in_a_second <= SECONDS_MAX:
            return number / in_a_second, unit
    return None


def _number(value: Json) -> float | None:
    """The number that `value` is, or that its text is."""
    if isinstance(value, str) and not isinstance(value, Unstorable):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    elif isinstance(value, Unstorable):
        value = float(value)   # NaN, an infinity, or a long integer
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, bool) else value


def _mended_tags(_name: str, tags: Json, faults: Faults) -> Json:
    if (
        isinstance(tags, list)
        and len(tags) <= TAGS_MAX
        and all(isinstance(tag, str) and len(tag) <= TAG_CHARS_MAX for tag in tags)
    ):
        return tags
    problem = (
        f"must be a list of up to {TAGS_MAX} strings of up to {TAG_CHARS_MAX} characters"
    )
    if isinstance(tags, str) and tags:
        faults.found("tags", f"{problem}, not {shown(tags)}", "stored as one tag")
        tags = [tags]
    if not isinstance(tags, list):
        faults.found("tags", f"{problem}, not {shown(tags)}", LEFT_OUT)
        return None
    mended: list[Json] = []
    for tag in tags[:TAGS_MAX]:
        text = tag if isinstance(tag, str) else _scalar_text(tag)
        if text is None:
            faults.found("tags", f"{problem}, which {shown(tag)} is not", LEFT_OUT)
            continue
        if tag is not text or len(text) > TAG_CHARS_MAX:
            done = f"stored as {shown(text[:TAG_CHARS_MAX])}"
            faults.found("tags", f"{problem}, which {shown(tag)} is not", done)
        mended.append(text[:TAG_CHARS_MAX])
    if len(tags) > TAGS_MAX:
        faults.found("tags", f"{problem}, not {len(tags)}", f"the first {TAGS_MAX} are stored")
    return mended


def _mended_parents(_name: str, parents: Json, faults: Faults) -> Json:
    if isinstance(parents, list) and all(isinstance(parent, str) for parent in parents):
        return parents
    problem = f"must be a list of span ids or null, not {shown(parents)}"
    texts = [
        text for parent in (parents if isinstance(parents, list) else [parents])
        if (text := parent if isinstance(parent, str) else _scalar_text(parent))
    ]
    if texts:
        faults.found("span_parents", problem, f"stored as {shown([*texts])}")
        return [*texts]
    faults.found("span_parents", problem, LEFT_OUT)
    return None


def _mended_span_id(name: str, value: Json, faults: Faults) -> Json:
    if isinstance(value, str) and 0 < len(value) <= ID_CHARS_MAX:
        return value
    problem = f"must be a string of 1 to {ID_CHARS_MAX} characters, not {shown(value)}"
    text = None if isinstance(value, str) else _scalar_text(value)
    faults.found(name, problem, LEFT_OUT if text is None else "stored as text")
    return text


def _scalar_text(value: Json) -> str | None:
    """A number or a boolean as JSON writes it; None for other values."""
    return orjson.dumps(value).decode() if isinstance(value, int | float) else None


def _mended_created(_name: str, created: Json, faults: Faults) -> Json:
    if (at := _instant(created)) is not None:
        within = min(max(at, OLDEST), NEWEST)
        # In UTC: PostgreSQL does not know all offsets that Python does, and a row that is sent
        # again is then the same as it is stored.
        text = within.astimezone(UTC).isoformat()
        if within is not at:
            what = f"must be from 1970 to 2199, not {shown(created)}; stored as {text}"
            faults.mended("created", what)
        return text
    problem = f"must be an ISO 8601 instant, not {shown(created)}"
    found = None if isinstance(created, bool) else _unix_seconds(created)
    if found is None:
        faults.found("created", problem, LEFT_OUT)
        return None
    seconds, unit = found
    text = datetime.fromtimestamp(seconds, UTC).isoformat()
    faults.found("created", problem, f"read as unix {unit}, stored as {text}")
    return text


def _instant(value: Json) -> datetime | None:
    if not isinstance(value, str) or isinstance(value, Unstorable):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


MENDERS: dict[str, Callable[[str, Json, Faults], Json]] = {
    "scores": _mended_scores, "metrics": _mended_metrics, "tags": _mended_tags,
    "span_parents": _mended_parents, "span_id": _mended_span_id,
    "root_span_id": _mended_span_id, "created": _mended_created,
}
"""For each field, a function that gives the value if it is right, else what it means."""


def _text(event: JsonObject, name: str, faults: Faults) -> str | None:
    value = event.get(name)
    if value is None or (isinstance(value, str) and len(value) <= ID_CHARS_MAX):
        return value
    text = None if isinstance(value, str) else _scalar_text(value)
    faults.found(
        name, f"must be a string of at most {ID_CHARS_MAX} characters, not {shown(value)}",
        LEFT_OUT if text is None else "read as text",
    )
    return text


def _object(event: JsonObject, name: str, faults: Faults) -> JsonObject | None:
    value = event.get(name)
    if value is None or isinstance(value, dict):
        return value
    problem = f"must be an object or null, not {shown(value)}"
    if name == "comment" and isinstance(value, str):
        faults.found(name, problem, "read as its text")
        return {"text": value}
    faults.found(name, problem, LEFT_OUT)
    return None


def _flag(event: JsonObject, name: str, faults: Faults) -> bool:
    value = event.get(name)
    if value is None or isinstance(value, bool):
        return value is True
    text = value.lower() if isinstance(value, str) else _scalar_text(value)
    meant = FLAG_TEXTS.get(text or "")
    faults.found(
        name, f"must be true or false, not {shown(value)}",
        LEFT_OUT if meant is None else f"read as {str(meant).lower()}",
    )
    return meant is True


def _paths(value: Json, faults: Faults) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        faults.found("_merge_paths", f"must be a list of paths, not {shown(value)}", LEFT_OUT)
        return ()
    paths = [_path(path, "_merge_paths", faults) for path in value]
    return tuple(path for path in paths if path)


def _path(value: Json, name: str, faults: Faults) -> tuple[str, ...]:
    """A path; empty if it is none."""
    if isinstance(value, list) and value:
        return tuple(str(part) for part in value)
    faults.found(name, f"a path must be a list of field names, not {shown(value)}", LEFT_OUT)
    return ()


def _array_deletes(value: Json, faults: Faults) -> tuple[ArrayDelete, ...]:
    if value is None:
        return ()
    deletes: list[ArrayDelete] = []
    for item in value if isinstance(value, list) else [value]:
        values = item.get("delete") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(value, list) or not isinstance(
            values, list
        ):
            problem = f"must be a list of {{path, delete: [values]}}, not {shown(item)}"
            faults.found("_array_delete", problem, LEFT_OUT)
        elif path := _path(item.get("path"), "_array_delete", faults):
            deletes.append(ArrayDelete(path=path, values=tuple(values)))
    return tuple(deletes)


def _scoring_control(value: Json, faults: Faults) -> tuple[JsonObject | None, bool]:
    """(new `_async_scoring_state`, whether to match the row again), as a control asks."""
    if value is None:
        return None, False
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "state_force_reselect":
        return None, True
    problem = f"unknown kind {shown(kind)}; use state_override or state_force_reselect"
    if kind == "state_override" and isinstance(value, dict):
        state = value.get("state")
        if state is None or isinstance(state, dict):
            return state or {}, False
        problem = f"state must be an object or null, not {shown(state)}"
    faults.found("_async_scoring_control", problem, LEFT_OUT)
    return None, False
