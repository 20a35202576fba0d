"""Rows that an automation's filter nearly matched, and what was missing. Pure functions.

A filter that is joined by AND is taken apart: a row is the nearer, the fewer of the conditions
fail for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson

from automations.payload import time_text
from btql.closure import compile_filter, compile_value
from btql.conjuncts import conjuncts_of
from btql.paths import paths_read
from btql.tree import Path
from btql.values import Value
from spans.clock import Clock
from spans.row import RowView, is_made_by_scorer

NEAREST_MAX = 3
"""Rows that are told: enough to see what they have in common."""

VALUE_CHARS_MAX = 120
"""How much of a value is shown."""

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPart:
    """A condition that was not true for a row, with the value of each path that it reads."""

    condition: str
    saw: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        saw = ", ".join(f"{path} is {value}" for path, value in self.saw)
        return f"{self.condition} failed{f': {saw}' if saw else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A row that the filter did not match."""

    id: str
    created: datetime
    failed: tuple[FailedPart, ...]

    def __str__(self) -> str:
        failed = "; ".join(map(str, self.failed))
        return f"row {self.id} of {time_text(self.created)}: {failed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """A row that may nearly match."""

    id: str
    created: datetime
    view: RowView


def nearest_misses(
    btql_filter: str, rows: Iterable[CandidateRow], *, clock: Clock
) -> tuple[Miss, ...]:
    """Of the rows that the filter does not match, those for which the fewest of its conditions
    fail; of equally near ones, those that come first.

    `clock` gives the time of the filter's now(). Raises BtqlError for a filter that does not
    parse.
    """
    parts = [
        (
            compile_filter(each.expr, now=clock), each.text,
            sorted(paths_read(each.expr), key=str),
        )
        for each in conjuncts_of(btql_filter)
    ]
    found: list[tuple[int, int, CandidateRow, list[int]]] = []
    for place, row in enumerate(rows):
        if is_made_by_scorer(row.view):
            continue
        failed = [n for n, (test, _, _) in enumerate(parts) if test(row.view) is not True]
        if failed:
            found.append((len(failed), place, row, failed))
            found.sort(key=lambda each: each[:2])
            del found[NEAREST_MAX:]
    return tuple(
        Miss(
            id=row.id, created=row.created,
            failed=tuple(
                FailedPart(
                    condition=parts[n][1],
                    saw=tuple((path_text(path), _seen(row.view, path)) for path in parts[n][2]),
                )
                for n in failed
            ),
        )
        for _, _, row, failed in found
    )


def path_text(path: tuple[str | int, ...]) -> str:
    """The path as filters write it: `metadata.tags[0]."a key"`."""
    column, *keys = path
    return str(column) + "".join(map(_step, keys))


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    quoted = key.replace('"', '""')
    return f".{key}" if _PLAIN_NAME.fullmatch(key) else f'."{quoted}"'


def _seen(view: RowView, path: tuple[str | int, ...]) -> str:
    """The value at the path, as JSON, shortened."""
    value: Value = compile_value(Path(column=str(path[0]), keys=tuple(path[1:])))(view)
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}..."
