"""Which stored rows a filter matches, for tests and replays of automations."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.memory.dated_rows import PAGE, ListedRows

from flows.automations import search
from flows.automations.dated_rows import DatedRow
from flows.automations.search import FoundMatches, MatchTimes, find_matches, find_times
from spans.ids import ProjectId, RowSeq
from spans.row import project_logs

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WHERE = project_logs(ProjectId(uuid.UUID(int=1)))


def row(seq: int, minutes_ago: float, **view: Any) -> DatedRow:
    return DatedRow(
        id=str(seq), seq=RowSeq(seq), created=NOW - timedelta(minutes=minutes_ago),
        view={"span_attributes": None, **view},
    )


def found(reader: ListedRows, btql_filter: str, *, minutes: float = 60) -> FoundMatches:
    return find_matches(
        reader, WHERE, btql_filter, since=NOW - timedelta(minutes=minutes),
        clock=lambda: NOW, seconds=itertools.repeat(0.0).__next__,
    )


def times(reader: ListedRows, btql_filter: str, *, minutes: float = 60) -> MatchTimes:
    return find_times(
        reader, WHERE, btql_filter, since=NOW - timedelta(minutes=minutes), clock=lambda: NOW
    )


def test_rows_inside_the_interval_are_counted_and_no_others_are_read() -> None:
    rows = ListedRows([row(n, n * 10, input=n % 2) for n in range(60)])
    told = found(rows, "input = 1")
    assert (told.matches, told.examined, told.is_complete) == (3, 7, True)
    assert rows.pages_read == 7 // PAGE + 1


def test_an_empty_filter_matches_every_row_but_those_of_scorers() -> None:
    rows = ListedRows([row(1, 1), row(2, 2, span_attributes={"purpose": "scorer"})])
    assert found(rows, "").matches == 1


def test_if_none_matches_the_last_match_before_is_told_and_the_newest_rows() -> None:
    rows = ListedRows([
        row(1, 1, input=0), row(2, 90, input=0), row(3, 120, input=1), row(4, 150, input=1),
    ])
    told = found(rows, "input = 1")
    assert told.matches == 0
    assert told.last_match_at == NOW - timedelta(minutes=120)
    assert [each.id for each in told.newest] == ["1", "2", "3"]


def test_without_any_match_there_is_no_last_one() -> None:
    told = found(ListedRows([row(1, 1, input=0)]), "input = 1")
    assert (told.matches, told.last_match_at, told.is_complete) == (0, None, True)


def test_a_test_that_takes_too_long_says_that_it_left_rows_out() -> None:
    clock = itertools.count(0.0, search.SEARCH_MAX_S / 3).__next__
    told = find_matches(
        ListedRows([row(n, 1) for n in range(9)]), WHERE, "", since=NOW - timedelta(hours=1),
        clock=lambda: NOW, seconds=clock,
    )
    assert 0 < told.matches < 9
    assert not told.is_complete


def test_a_test_reads_a_limited_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EXAMINED_MAX", 4)
    told = found(ListedRows([row(n, 1) for n in range(9)]), "")
    assert (told.matches, told.is_complete) == (4, False)


def test_a_row_matches_when_it_was_created() -> None:
    told = times(ListedRows([row(1, 10, input=1), row(2, 5, input=1), row(3, 90, input=1)]),
                 "input = 1")
    assert told.times == (NOW - timedelta(minutes=10), NOW - timedelta(minutes=5))
    assert (told.examined, told.since) == (2, NOW - timedelta(minutes=60))


def test_a_filter_over_scores_matches_when_the_row_was_last_scored() -> None:
    scored = NOW - timedelta(minutes=1)
    rows = ListedRows(
        [row(1, 10, scores={"a": 0}), row(2, 5, scores={"a": 0})], {RowSeq(1): scored}
    )
    assert times(rows, "scores.a < 1").times == (NOW - timedelta(minutes=5), scored)


def test_a_replay_that_reads_too_much_says_since_when_it_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "REPLAYED_MAX", 2)
    told = times(ListedRows([row(n, n) for n in range(5)]), "")
    assert (told.examined, told.since) == (2, NOW - timedelta(minutes=2))
