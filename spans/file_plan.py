"""Objects as code: what applying a file changes in a project, whatever the file lists.

A file names a project and lists objects, each with a name that is unique in it:

    project: my-app
    rules:
      - name: close to the expected answer
        ...
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from spans.errors import BadInput
from spans.json import Json, JsonObject

Body = TypeVar("Body")


class ChangeKind(StrEnum):
    """What applying the file does to one object."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    KEEP = "keep"     # stored, not in the file, and left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[Body]):
    """What changes in one object. `lines` show it to people.

    A line reads `field: old -> new`, or `field: value` for a new object.
    """

    kind: ChangeKind
    name: str
    body: Body | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan(Generic[Body]):
    """The `changes` that applying a file makes to the objects of a project."""

    project_name: str
    is_new_project: bool
    changes: tuple[Change[Body], ...]


def read_items(content: Json, items: str) -> tuple[str, list[Json]]:
    """The project that a file names, and what it lists under the key `items`.

    Raises BadInput, which says what is wrong.
    """
    if content is None:
        raise BadInput("the file is empty")
    if not isinstance(content, dict) or not isinstance(content.get("project"), str):
        raise BadInput("project: missing; name it as in `project: my-app`")
    if unknown := content.keys() - {"project", items}:
        raise BadInput(f"unknown: {', '.join(sorted(unknown))}; use only project and {items}")
    listed = content.get(items)
    if not isinstance(listed, list):
        raise BadInput("must be a list", path=items)
    return str(content["project"]), listed


def refuse_twice(names: Sequence[str], items: str) -> None:
    """Raises BadInput if two objects have one name."""
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise BadInput(f"two {items} have the name {', '.join(twice)}", path=items)


def changed_lines(
    before: JsonObject | None, after: JsonObject, fields: Sequence[str]
) -> tuple[str, ...]:
    """What differs in these fields, a line for each. `before` is None for a new object."""
    known = before or {}
    return tuple(
        f"{field}: {f'{_short(known.get(field))} -> ' if before is not None else ''}"
        f"{_short(after.get(field))}"
        for field in fields
        if known.get(field) != after.get(field)
    )


def without_file(names: Mapping[str, object], *, prune: bool) -> list[Change[Body]]:
    """What becomes of stored objects that are not in the file: they are kept, or deleted if
    `prune` is set."""
    kind = ChangeKind.DELETE if prune else ChangeKind.KEEP
    return [Change(kind=kind, name=name, body=None) for name in sorted(names)]


def _short(value: Json) -> str:
    """The value in one line, much as YAML writes it."""
    match value:
        case None:
            return "-"
        case str():
            return value
        case list():
            return f"[{', '.join(map(_short, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_short(each)}' for key, each in value.items())}}}"
        case _:
            return json.dumps(value)
