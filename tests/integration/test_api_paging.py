"""Pages as the clients' documents read them, on a stack that scores meanwhile."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stack import Stack

DONE: dict[str, Any] = {"metrics": {"start": 1.0, "end": 2.0}}


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def span(row_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": row_id, "input": "q", "output": "o", "expected": "o", **DONE, **fields}


def documented_walk(stack: Stack, project: str, limit: int) -> Iterator[list[dict[str, Any]]]:
    """The pages of a client that goes on after the lowest (version, trace) of each."""
    asked: dict[str, Any] = {"limit": limit}
    path = f"/v1/project_logs/{project}/fetch"
    while page := stack.ok("POST", path, asked)["events"]:
        yield page
        lowest = min(page, key=lambda row: (int(row["_xact_id"]), row["root_span_id"]))
        asked |= {
            "max_xact_id": int(lowest["_xact_id"]), "max_root_span_id": lowest["root_span_id"],
        }


def test_a_reader_misses_no_row_while_scores_arrive(stack: Stack, project: str) -> None:
    stack.rule(project, "ExactMatch")
    wanted = [f"r{n}" for n in range(120)]
    for start in range(0, 120, 10):
        stack.insert(project, *(span(row_id) for row_id in wanted[start : start + 10]))
    with ThreadPoolExecutor(1) as beside:
        scored = beside.submit(stack.scored, project, "r119")
        is_last = False
        while not is_last:   # the last time after the last row was scored
            is_last = scored.done()
            found: set[str] = set()
            for page in documented_walk(stack, project, limit=7):
                versions = [int(row["_xact_id"]) for row in page]
                assert versions == sorted(versions, reverse=True)
                found |= {row["id"] for row in page}
            assert found >= set(wanted)
        assert scored.result()["scores"] == {"ExactMatch": 1}


def test_a_reader_gets_rows_once_that_were_scored_before_it_began(
    stack: Stack, project: str
) -> None:
    stack.rule(project, "ExactMatch")
    stack.insert(project, *(span(f"r{n}") for n in range(20)))
    for n in range(20):
        stack.scored(project, f"r{n}")

    rows = [row["id"] for page in documented_walk(stack, project, limit=3) for row in page]

    assert len(rows) == 40   # with their score spans
    assert len(set(rows)) == 40


def test_a_page_has_whole_traces_and_limit_counts_them(stack: Stack, project: str) -> None:
    for root in "abc":
        spans = [
            span(f"{root}{n}", span_id=f"{root}{n}", root_span_id=root) for n in range(3)
        ]
        stack.insert(project, *spans)
    stack.insert(project, {"id": "a1", "_is_merge": True, "scores": {"mine": 1}})
    path = f"/v1/project_logs/{project}/fetch?limit=2"

    first = stack.ok("GET", path)["events"]
    lowest = first[-1]
    second = stack.ok(
        "GET",
        f"{path}&max_xact_id={lowest['_xact_id']}&max_root_span_id={lowest['root_span_id']}",
    )

    assert [row["id"] for row in first] == ["c2", "c1", "c0", "b2", "b1", "b0"]
    # The lowest version of the trace `a` is older than that of `b`.
    assert [row["id"] for row in second["events"]] == ["a1", "a2", "a0"]
    assert second["cursor"] is None


@pytest.mark.parametrize(
    "place", [{"max_xact_id": "one"}, {"max_xact_id": -1}, {"max_xact_id": 1.5},
              {"max_xact_id": 1, "max_root_span_id": 7}, {"max_xact_id": 1, "cursor": "s1"}],
)
def test_a_place_that_is_none_is_refused(
    stack: Stack, project: str, place: dict[str, Any]
) -> None:
    answer = stack.http("POST", f"/v1/project_logs/{project}/fetch", place)

    assert answer.status == 400
    assert "max_" in answer.error


@pytest.mark.parametrize(
    "numbers", [(True, 1, 1), (None, True, 1), (None, 1, 2**63), (-1, 1, 1), (1.5, 1, 1)]
)
def test_a_cursor_of_traces_that_no_page_gave_is_refused(
    stack: Stack, project: str, numbers: tuple[object, ...]
) -> None:
    before, xact, settled = numbers
    body = json.dumps([before, xact, "a", settled]).encode()
    cursor = "t" + base64.urlsafe_b64encode(body).decode().rstrip("=")

    answer = stack.http("POST", f"/v1/project_logs/{project}/fetch", {"cursor": cursor})

    assert (answer.status, answer.error) == (
        400, "cursor: not a cursor: send the `cursor` of a page, unchanged"
    )


@pytest.mark.parametrize("rows", [6, 7])
def test_the_documented_loop_over_lines_ends_with_each_row_once(
    stack: Stack, project: str, rows: int
) -> None:
    stack.insert(project, *(span(str(n)) for n in range(rows)))
    query = {
        "from": {
            "op": "function", "name": {"op": "ident", "name": ["project_logs"]},
            "args": [{"op": "literal", "value": project}],
        },
        "select": [{"op": "star"}], "limit": 3, "cursor": None,
    }
    found: list[str] = []
    pages = 0
    while True:
        answer = stack.http("POST", "/btql", {"query": query, "fmt": "jsonl"})
        query["cursor"] = answer.headers.get("x-bt-cursor")
        page = [json.loads(line) for line in answer.body.decode().split("\n") if line.strip()]
        if not page:
            break
        found += [row["id"] for row in page]
        pages += 1

    assert found == [str(n) for n in reversed(range(rows))]
    assert pages == 2 + rows % 3


def test_the_body_of_every_page_but_an_empty_one_has_a_cursor(
    stack: Stack, project: str
) -> None:
    stack.insert(project, span("a"))
    text = f"select: id | from: project_logs('{project}')"

    page = stack.ok("POST", "/btql", {"query": text})
    after = stack.ok("POST", "/btql", {"query": f"{text} | cursor: '{page['cursor']}'"})

    assert page["data"] == [{"id": "a"}]
    assert (after["data"], after["cursor"]) == ([], None)
