"""How writes make a row: they replace, merge or delete, in whatever order they arrive.

`apply` is a pure function, which the store calls while it holds the row's lock.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from spans.json import Json, JsonObject
from spans.repair.faults import INGEST_WARNINGS, joined_warnings
from spans.row import CONTENT_FIELDS, IDENTITY_FIELDS, ArrayDelete, Row, RowWrite

NO_PATHS: frozenset[tuple[str, ...]] = frozenset()


def apply(row: Row | None, write: RowWrite) -> Row:
    """The row after `write`. `row` is None if there was none before.

    - A plain write replaces everything, `created` too. It makes a deleted row anew.
    - The first plain write to a row that has had only merges is laid under them: the client
      wrote it before the merges, and it arrived later.
    - A merge descends into objects; scalars, arrays and null overwrite.
    - A merge into a deleted row leaves it deleted.
    - Warnings about what was mended are added to those of the writes that stand.
    """
    if write.is_delete:
        # Its trace stays known, for a reader who is paging through that.
        known = {} if row is None else row.fields
        kept: JsonObject = {
            name: known[name] for name in ("span_id", "root_span_id") if name in known
        }
        return Row(key=write.key, fields=kept, has_base=True, is_deleted=True)
    if row is None or (row.is_deleted and not write.is_merge):
        changed = _first(write)
    elif row.is_deleted:
        changed = row
    elif write.is_merge:
        changed = replace(row, fields=_merged(row, write))
    elif not row.has_base:
        changed = replace(row, fields=_beneath(write.fields, row.fields), has_base=True)
    else:
        changed = Row(key=write.key, fields=write.fields, has_base=True,
                      scoring_state=row.scoring_state)
    if write.scoring_state is not None:
        changed = replace(changed, scoring_state=write.scoring_state or None)
    return changed


def has_same_content(one: Row, other: Row) -> bool:
    """Whether the content of both rows is the same, so that no new score is needed.

    It is compared as JSON text. To Python, 1, 1.0 and True are equal, and so are objects with
    their keys in another order, which matters to some scorers.
    """
    if one.is_deleted != other.is_deleted:
        return False
    return all(
        _text(one.fields.get(name)) == _text(other.fields.get(name)) for name in CONTENT_FIELDS
    )


def is_same(one: Row, other: Row) -> bool:
    """Whether everything that is stored of the row `one` is the same in `other`.

    `other` may leave out the identity fields: the first write may have left them out too, and
    they were filled in.
    """
    known: JsonObject = {name: one.fields.get(name) for name in IDENTITY_FIELDS}
    return (
        (one.has_base, one.scoring_state) == (other.has_base, other.scoring_state)
        and has_same_content(one, other)
        and _without_nulls(one.fields) == _without_nulls({**known, **other.fields})
        and (one.has_base or _cleared(one) == _cleared(other))
    )


def _cleared(row: Row) -> set[str]:
    """The fields that merges set to null. A base that comes later does not fill them in."""
    return {
        name for name, value in row.fields.items()
        if value is None and name not in IDENTITY_FIELDS
    }


def _text(value: Json) -> bytes:
    return orjson.dumps(value)


def _without_nulls(fields: JsonObject) -> bytes:
    """The fields as text with sorted keys. A field that is null counts as absent."""
    present: JsonObject = {k: value for k, value in fields.items() if value is not None}
    return _sorted_text(present)


def _sorted_text(value: Json) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _first(write: RowWrite) -> Row:
    fields = write.fields
    if write.array_deletes:
        fields = _without_values(fields, write.array_deletes)
    return Row(key=write.key, fields=fields, has_base=not write.is_merge)


def _beneath(base: JsonObject, merges: JsonObject) -> JsonObject:
    """The base, and the earlier merges laid over it. Identity fields are the base's."""
    identity = {name: base[name] for name in IDENTITY_FIELDS if base.get(name) is not None}
    return _with_warnings({**deep_merge(base, merges), **identity}, base, merges)


def _merged(row: Row, write: RowWrite) -> JsonObject:
    incoming = write.fields
    if row.has_base:
        incoming = {k: v for k, v in incoming.items() if k not in IDENTITY_FIELDS}
    merged = deep_merge(row.fields, incoming, stop_at=frozenset(write.merge_paths))
    if write.array_deletes:
        merged = _without_values(merged, write.array_deletes)
    return _with_warnings(merged, row.fields, incoming)


def _with_warnings(merged: JsonObject, below: JsonObject, above: JsonObject) -> JsonObject:
    """The merged fields with the warnings of both sides."""
    if INGEST_WARNINGS in below or INGEST_WARNINGS in above:
        merged[INGEST_WARNINGS] = joined_warnings(
            below.get(INGEST_WARNINGS), above.get(INGEST_WARNINGS)
        )
    return merged


def deep_merge(
    below: JsonObject,
    above: JsonObject,
    *,
    stop_at: frozenset[tuple[str, ...]] = NO_PATHS,
    path: tuple[str, ...] = (),
) -> JsonObject:
    """`above` merged into `below`, as a new object; neither is changed.

    Objects at the paths in `stop_at` are replaced, not merged.
    """
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        here = (*path, name) if stop_at else path
        if isinstance(value, dict) and isinstance(old, dict) and here not in stop_at:
            merged[name] = deep_merge(old, value, stop_at=stop_at, path=here)
        else:
            merged[name] = value
    return merged


def _without_values(fields: JsonObject, deletes: tuple[ArrayDelete, ...]) -> JsonObject:
    for delete in deletes:
        fields = _without_values_at(fields, delete.path, delete.values)
    return fields


def _without_values_at(
    fields: JsonObject, path: tuple[str, ...], values: tuple[Json, ...]
) -> JsonObject:
    name, *rest = path
    old = fields.get(name)
    if rest and isinstance(old, dict):
        return {**fields, name: _without_values_at(old, tuple(rest), values)}
    if not rest and isinstance(old, list):
        gone = {_sorted_text(value) for value in values}   # as JSON: true is not 1
        return {**fields, name: [item for item in old if _sorted_text(item) not in gone]}
    return fields
