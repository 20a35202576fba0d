"""Which rows a filter nearly matched, and what they lacked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from automations.misses import CandidateRow, Miss, nearest_misses, path_text

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(row_id: str, **view: Any) -> CandidateRow:
    return CandidateRow(id=row_id, created=NOW, view={"span_attributes": None, **view})


def misses(text: str, *rows: CandidateRow) -> tuple[Miss, ...]:
    return nearest_misses(text, rows, clock=lambda: NOW)


def test_the_row_with_the_fewest_failed_conditions_comes_first() -> None:
    found = misses(
        "error is not null and metadata.env = 'prod'",
        row("far", error=None, metadata={"env": "dev"}),
        row("near", error="boom", metadata={"env": "dev"}),
        row("match", error="boom", metadata={"env": "prod"}),
        row("near too", error=None, metadata={"env": "prod"}),
    )

    assert [each.id for each in found] == ["near", "near too", "far"]
    assert [str(part) for part in found[0].failed] == [
        "metadata.env = 'prod' failed: metadata.env is \"dev\""
    ]
    assert [part.condition for part in found[2].failed] == [
        "error is not null", "metadata.env = 'prod'"
    ]
    assert str(found[1]) == (
        "row near too of 2026-05-01T12:00:00.000Z: error is not null failed: error is null"
    )


def test_no_more_than_three_rows_are_told_the_first_of_equal_ones() -> None:
    found = misses("input = 1", *(row(str(n), input=0) for n in range(9)))
    assert [each.id for each in found] == ["0", "1", "2"]


def test_a_score_span_is_no_near_miss() -> None:
    assert misses("input = 1", row("a", span_attributes={"type": "score"})) == ()


def test_an_empty_filter_misses_nothing() -> None:
    assert misses(" ", row("a")) == ()


def test_a_long_value_is_shortened() -> None:
    (found,) = misses("input = 1", row("a", input="x" * 1000))
    ((_, value),) = found.failed[0].saw
    assert len(value) < 130


def test_a_path_is_written_as_in_a_filter() -> None:
    assert path_text(("metadata", "tags", 0, 'a "key"', "b")) == (
        'metadata.tags[0]."a ""key""".b'
    )
