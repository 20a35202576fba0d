"""Reports of re-score jobs, counted from made-up records."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest

from rules.rescore.model import JobScorer
from rules.rescore.report import (
    FLIPS_MAX,
    NAMES_MAX,
    JobOutcome,
    JobRecord,
    report_json,
    report_of,
)
from rules.rescore.report_text import chart, report_lines
from spans.queues import JUDGE, MATCH
from spans.scoring import OutcomeState, ScorerRef

CHEAP = JobScorer(scorer=ScorerRef(kind="global", name="Levenshtein", version="1"), queue=MATCH)
MINE = JobScorer(
    scorer=ScorerRef(kind="function", name="0b5f", version="17"), queue=JUDGE, label="tone"
)


def scored(
    value: float, *, before: float | None = None, row: str = "a", name: str = "s",
    logged: frozenset[str] = frozenset(),
) -> JobRecord:
    return JobRecord(
        row_id=row, scorer=0, logged=logged,
        outcome=JobOutcome(state=OutcomeState.COMPLETED, values={name: value}),
        before={} if before is None else {name: before},
    )


def score_of(*records: JobRecord, threshold: float | None = None) -> dict:
    content = report_json(report_of([CHEAP], [threshold], [records]))
    return content["scorers"][0]["scores"]["s"]


def asked(**more: object) -> JobRecord:
    given = {"state": OutcomeState.COMPLETED, "calls": 1, "prompt_tokens": 10, **more}
    return JobRecord(row_id="a", scorer=0, outcome=JobOutcome(**given))


def test_every_record_is_counted_once_under_what_became_of_it() -> None:
    outcomes = [
        JobOutcome(state=OutcomeState.COMPLETED, values={"s": 1}),
        JobOutcome(state=OutcomeState.SKIPPED),
        JobOutcome(state=OutcomeState.ERRORED, error_class="timeout"),
        JobOutcome(state=OutcomeState.ERRORED, error_class="timeout"),
        JobOutcome(state=OutcomeState.ERRORED, error_class="bug"),
        JobOutcome(state=OutcomeState.PENDING, error_class="timeout"),
        JobOutcome(state=OutcomeState.SUPERSEDED),
        JobOutcome(state=OutcomeState.SUPERSEDED, error_class="cancelled"),
        None,
    ]
    records = [JobRecord(row_id="a", scorer=1, outcome=outcome) for outcome in outcomes]
    records.append(JobRecord(row_id=None, scorer=0, outcome=None))

    content = report_json(report_of([CHEAP, MINE], [None, None], [records[:3], records[3:]]))

    assert content["total"]["outcomes"] == 10
    counts = {
        "completed": 1, "skipped": 1, "errored": 3, "pending": 1, "superseded": 1,
        "cancelled": 1, "unreached": 1, "error_classes": {"timeout": 2, "bug": 1},
    }
    for found, deleted in ((content["total"], 1), (content["scorers"][1], 0)):
        assert {name: found[name] for name in counts} == counts
        assert found["deleted"] == deleted
    assert content["scorers"][0]["outcomes"] == content["scorers"][0]["deleted"] == 1


def test_a_superseded_run_gives_no_score() -> None:
    late = JobOutcome(state=OutcomeState.SUPERSEDED, values={"s": 1})
    report = report_of([CHEAP], [None], [[JobRecord(row_id="a", scorer=0, outcome=late)]])
    assert report.scorers[0].scores == {}


def test_money_and_tokens_are_those_of_calls_and_not_of_the_cache() -> None:
    records = [
        asked(cost=0.25, completion_tokens=3), asked(cost=None),
        asked(cost=0.5, is_cached=True),
        JobRecord(row_id="b", scorer=0, outcome=JobOutcome(state=OutcomeState.COMPLETED)),
    ]
    total = report_json(report_of([MINE], [None], [records]))["total"]
    assert {
        name: total[name] for name in
        ("calls", "answered_from_cache", "prompt_tokens", "completion_tokens", "cost",
         "without_price")
    } == {
        "calls": 2, "answered_from_cache": 1, "prompt_tokens": 20, "completion_tokens": 3,
        "cost": 0.25, "without_price": 1,
    }


def test_rows_with_both_scores_are_paired_and_flips_are_named() -> None:
    found = score_of(
        scored(1, before=0, row="up"), scored(0.25, before=0.5, row="down"),
        scored(0.75, before=0.75, row="same"), scored(0.5, row="new"),
    )
    assert (found["before"]["count"], found["after"]["count"]) == (3, 4)
    assert found["after"]["share_passing"] == 0.75
    assert found["difference"] == {
        "pairs": 3, "unchanged": 1, "mean": pytest.approx(0.25), "low": None, "high": None,
        "method": "too_few_pairs",
    }
    assert found["flips"] == {
        "to_pass": 1, "to_fail": 1, "is_cut": False,
        "rows": [
            {"id": "up", "before": 0, "after": 1}, {"id": "down", "before": 0.5, "after": 0.25}
        ],
    }


def test_the_threshold_of_the_function_decides_what_passes() -> None:
    records = scored(0.75, before=0.85), scored(0.9, before=0.7, row="b")
    assert score_of(*records)["flips"]["to_fail"] == 0
    found = score_of(*records, threshold=0.8)
    assert (found["flips"]["to_pass"], found["flips"]["to_fail"]) == (1, 1)
    assert found["after"]["share_passing"] == 0.5


def test_a_score_that_vanishes_has_a_before_alone() -> None:
    record = JobRecord(
        row_id="a", scorer=0, before={"gone": 1},
        outcome=JobOutcome(state=OutcomeState.COMPLETED, values={"s": 1}),
    )
    scores = report_of([CHEAP], [None], [[record]]).scorers[0].scores
    assert (scores["gone"].before.values.count, scores["gone"].after.values.count) == (1, 0)
    assert scores["gone"].change.differences.count == 0


def test_rows_whose_logged_score_stays_shown_are_counted() -> None:
    logged = scored(1, row="b", logged=frozenset({"s", "t"}))
    other = scored(1, row="c", logged=frozenset({"t"}))
    content = report_json(report_of([CHEAP], [None], [[scored(1), logged, other]]))
    assert content["total"]["logged_score_shown"] == 1
    assert content["scorers"][0]["scores"]["s"]["logged_score_shown"] == 1


def test_all_flips_are_counted_and_those_of_the_largest_change_are_listed() -> None:
    draw = random.Random(2)
    changes = [draw.uniform(0.5, 1) for _ in range(FLIPS_MAX + 500)]
    found = score_of(*(
        scored(change, before=0, row=str(change)) for change in changes
    ))["flips"]
    assert (found["to_pass"], found["is_cut"]) == (FLIPS_MAX + 500, True)
    assert [row["after"] for row in found["rows"]] == sorted(changes)[::-1][:FLIPS_MAX]


def test_of_equal_changes_the_flips_that_came_first_are_listed() -> None:
    found = score_of(*(
        scored(1, before=0, row=str(number)) for number in range(FLIPS_MAX + 5)
    ))["flips"]
    assert [row["id"] for row in found["rows"]] == [str(number) for number in range(FLIPS_MAX)]


def test_scores_that_are_each_named_anew_do_not_fill_the_report() -> None:
    records = [scored(1, name=f"n{number}") for number in range(NAMES_MAX + 7)]
    (found,) = report_of([CHEAP], [None], [records]).scorers
    assert (len(found.scores), found.unnamed) == (NAMES_MAX, 7)


def many(count: int) -> Iterator[list[JobRecord]]:
    draw = random.Random(4)
    for page in range(count // 500):
        yield [
            scored(draw.random(), before=draw.random(), row=f"{page} {place}")
            for place in range(500)
        ]


def peak_bytes(count: int) -> int:
    tracemalloc.start()
    report_of([CHEAP], [None], many(count))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_records() -> None:
    assert peak_bytes(50_000) < 1.2 * peak_bytes(10_000)


def lines_of(width: int = 100, encoding: str = "utf-8") -> list[str]:
    records = [scored(n % 2, before=0, row=f"row {n}") for n in range(2000)]
    errors = [
        JobRecord(row_id="e", scorer=0, outcome=JobOutcome(
            state=OutcomeState.ERRORED, error_class=error, run_ms=1500,
        )) for error in ["timeout", *["bug"] * 12]
    ]
    judged = JobRecord(row_id="j", scorer=1, logged=frozenset({"s"}), outcome=JobOutcome(
        state=OutcomeState.COMPLETED, values={"s": 0.5}, calls=1, prompt_tokens=1200,
        completion_tokens=30, cost=0.0125,
    ))
    report = report_of([CHEAP, MINE], [None, None], [records, errors, [judged]])
    return report_lines(report, width=width, encoding=encoding)


def test_the_text_tells_counts_scores_differences_and_flips() -> None:
    lines = lines_of()
    for line in (
        "all scorers: 2,014 outcomes",
        "  completed  2,001",
        "  errored       13",
        "    bug      12",
        "    timeout   1",
        "  money     0.0125",
        "Levenshtein 1: 2,013 outcomes",
        "    after        2,000  0.500  0.500  50.0%  █        █",
        "    flips: 0 pass -> fail, 1,000 fail -> pass",
        "      0.000 -> 1.000  row 1",
        "      and 995 more, with `--json`",
        "tone 17: 1 outcome",
        "    difference: no record had this score before",
        "logged scores stay the ones shown: 1 outcome",
    ):
        assert line in lines
    (difference,) = [line for line in lines if "95 %" in line]
    assert difference == "    difference: +0.5000 (95 %: +0.4963 to +0.5000, exact, pass/fail)"
    assert len(difference) <= 80
    assert "      over 2,000 records with both scores, 1,000 of them unchanged" in lines


def test_a_small_sum_of_money_is_told_without_an_exponent() -> None:
    report = report_of([CHEAP], [None], [[asked(cost=0.0000545)]])
    assert "  money     0.0000545" in report_lines(report, width=80, encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "no such encoding"])
def test_a_terminal_without_blocks_gets_plain_ascii(encoding: str) -> None:
    for width in (100, 45):
        for line in lines_of(width, encoding):
            line.encode("ascii")


@pytest.mark.parametrize("width", [1, 20, 40, 59, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = lines_of(width)
    assert max(map(len, lines)) <= width
    if width == 40:
        assert "      █        █" in lines


def test_a_chart_shows_the_least_of_counts_and_leaves_empty_bins_empty() -> None:
    assert chart([0, 1, 1000, 500], " ▁▂▃▄▅▆▇█") == " ▁█▄"
    assert chart([0] * 10, " ▁▂▃▄▅▆▇█") == " " * 10
    assert Counter(chart([3] * 10, " .@")) == {"@": 10}
