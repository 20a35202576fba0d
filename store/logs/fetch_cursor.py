"""The cursor of `fetch`: which rows a reader has, so that the next page has others."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson
from sqlalchemy import BigInteger, literal

from flows.logs.fetch import TracePlace
from spans.errors import BadInput
from spans.ids import RowSeq, Xact
from store.btql.columns import Sql
from store.btql.pages import TracesGiven
from store.postgres.tables import shown_span

BY_ARRIVAL = "s"
"""Begins a cursor that is a row's place alone: what comes before that row is still to come."""

AFTER_TRACES = "t"
"""Begins a cursor that also names the traces of a first page."""

PLACE_MAX = 2**63


class FirstPage(NamedTuple):
    """A first page of traces: its last trace's place, and a version up to which every write
    was on it."""

    down_to: TracePlace
    settled: Xact


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchCursor:
    """The rows that a reader has: those from the place `before` on, in the order of arrival,
    and those of the first page, if that was one of traces."""

    before: RowSeq | None
    first: FirstPage | None

    @property
    def text(self) -> str:
        """The cursor as clients get it, and send it back."""
        if self.first is None:
            return f"{BY_ARRIVAL}{self.before}"
        body = orjson.dumps([self.before, *self.first.down_to, self.first.settled])
        return AFTER_TRACES + base64.urlsafe_b64encode(body).decode().rstrip("=")

    def at(self, before: RowSeq) -> FetchCursor:
        """The cursor of a page that ends with the row at `before`."""
        return replace(self, before=before)

    def conditions(self) -> list[Sql]:
        """The condition that a row comes after `before`."""
        if self.before is None:
            return []
        return [shown_span.c.seq < literal(self.before, BigInteger)]

    def given(self, conditions: Sequence[Sql]) -> TracesGiven | None:
        """The traces of the first page, of rows that pass `conditions`."""
        if self.first is None:
            return None
        return TracesGiven(
            down_to=self.first.down_to, settled=self.first.settled, conditions=conditions
        )


def read_fetch_cursor(text: str) -> FetchCursor:
    """The cursor in a request. Raises BadInput if no page gave it."""
    kind, rest = text[:1], text[1:]
    if kind == BY_ARRIVAL and rest.isascii() and rest.isdigit() and len(rest) <= 18:
        return FetchCursor(before=RowSeq(int(rest)), first=None)
    if kind == AFTER_TRACES:
        try:
            padded = rest.encode() + b"=" * (-len(rest) % 4)
            body = base64.b64decode(padded, b"-_", validate=True)
            return _after_traces(orjson.loads(body))
        except (UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError, ValueError):
            pass
    raise BadInput("not a cursor: send the `cursor` of a page, unchanged", path="cursor")


def _after_traces(values: object) -> FetchCursor:
    match values:
        case [int() | None as before, int() as xact, str() as root, int() as settled] if all(
            number is None or (not isinstance(number, bool) and 0 <= number < PLACE_MAX)
            for number in (before, xact, settled)
        ) and "\0" not in root:
            return FetchCursor(
                before=None if before is None else RowSeq(before),
                first=FirstPage(TracePlace(Xact(xact), root), Xact(settled)),
            )
        case _:
            raise ValueError(values)
