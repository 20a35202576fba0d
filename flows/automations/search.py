"""Looks for stored rows that a filter matches, so that an automation can be tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from automations.misses import CandidateRow
from btql.closure import compile_filter
from btql.parse import parse_filter
from btql.paths import columns_read
from flows.automations.dated_rows import DatedRow, DatedRowReader
from spans.clock import Clock
from spans.ids import RowSeq
from spans.row import ObjectRef, is_made_by_scorer

EXAMINED_MAX = 100_000
"""Rows that a test reads at most: some seconds."""

SEARCH_MAX_S = 10.0
"""How long a test looks for matches, seconds: somebody waits for it."""

NEWEST_KEPT = 1000
"""The newest rows, among which near misses are looked for."""

REPLAYED_MAX = 1_000_000
"""Rows that a replay reads at most. Nobody but commands on this machine asks for one."""

SCORED_PAGE = 10_000
"""Rows whose last scores are looked up at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMatches:
    """How many of the `examined` rows that were created since a time match, and when the first
    of them was created.

    `is_complete`: no such row was left out. If none matches, `newest` are the newest rows of
    all, and `last_match_at` is when the last row that matches was created before that time, if
    one was found.
    """

    matches: int
    first_at: datetime | None
    examined: int
    is_complete: bool
    newest: tuple[CandidateRow, ...]
    last_match_at: datetime | None


def find_matches(
    reader: DatedRowReader, where: ObjectRef, btql_filter: str, *, since: datetime,
    clock: Clock, seconds: Callable[[], float],
) -> FoundMatches:
    """Looks at the rows that were created since a time; if none matches, for the last one
    before it. `seconds` is a clock that only goes forward."""
    expression = parse_filter(btql_filter)
    matching = compile_filter(expression, now=clock)
    until = seconds() + SEARCH_MAX_S
    newest: list[CandidateRow] = []
    matches = examined = 0
    first_at = last_match_at = None
    is_complete = False
    for row in _rows(reader, where, columns_read(expression)):
        is_older = row.created < since
        if is_older:
            is_complete = True
            if matches:
                break
        if examined >= EXAMINED_MAX or seconds() > until:
            break
        examined += 1
        if len(newest) < NEWEST_KEPT:
            newest.append(CandidateRow(id=row.id, created=row.created, view=row.view))
        if matching(row.view) is not True:
            continue
        if is_older:
            last_match_at = row.created
            break
        matches, first_at = matches + 1, row.created
    else:
        is_complete = True
    return FoundMatches(
        matches=matches, first_at=first_at, examined=examined, is_complete=is_complete,
        newest=() if matches else tuple(newest), last_match_at=last_match_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchTimes:
    """When each row that matches began to match, as far as that is known. `since`: no row that
    was created later was left out."""

    times: tuple[datetime, ...]
    examined: int
    since: datetime


def find_times(
    reader: DatedRowReader, where: ObjectRef, btql_filter: str, *, since: datetime,
    clock: Clock,
) -> MatchTimes:
    """The matches among the rows that were created since a time.

    A row counts when it was created; if the filter reads scores, when it was last scored.
    """
    expression = parse_filter(btql_filter)
    matching = compile_filter(expression, now=clock)
    columns = columns_read(expression)
    matched: list[tuple[RowSeq, datetime]] = []
    examined = 0
    for row in _rows(reader, where, columns):
        if row.created < since:
            break
        if examined >= REPLAYED_MAX:
            since = row.created
            break
        examined += 1
        if matching(row.view) is True:
            matched.append((row.seq, row.created))
    if "scores" in columns:
        matched = list(_when_scored(reader, matched))
    return MatchTimes(
        times=tuple(sorted(moment for _, moment in matched)), examined=examined, since=since
    )


def _rows(
    reader: DatedRowReader, where: ObjectRef, columns: frozenset[str]
) -> Iterator[DatedRow]:
    """The rows that no scorer made, the newest first."""
    for page in reader.newest(where, columns):
        yield from (row for row in page if not is_made_by_scorer(row.view))


def _when_scored(
    reader: DatedRowReader, matched: list[tuple[RowSeq, datetime]]
) -> Iterator[tuple[RowSeq, datetime]]:
    for start in range(0, len(matched), SCORED_PAGE):
        page = matched[start:start + SCORED_PAGE]
        scored_at = reader.scored_at([seq for seq, _ in page])
        yield from ((seq, scored_at.get(seq, created)) for seq, created in page)
