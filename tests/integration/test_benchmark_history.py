"""The benchmarks' history: rows copied by SQL read like those that they were made of."""

from __future__ import annotations

from typing import Any

import psycopg
from stack import Stack

from benchmarks.history import history_of, prepare
from benchmarks.stack import libpq_url

ENDED = {"start": 1.0, "end": 2.0}
CONTENT = ("input", "output", "expected", "metadata", "scores", "span_attributes")


def content(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted([str([row[name] for name in CONTENT]) for row in rows])


def test_a_copied_row_has_the_content_scores_and_explanation_of_its_source(
    own_stack: Stack,
) -> None:
    stack = own_stack

    def connect() -> psycopg.Connection:
        return psycopg.connect(libpq_url(stack.database_url), autocommit=True)

    prepare(connect)
    stack.start("api", "match")
    project = stack.project()
    stack.rule(project, "ExactMatch", "Levenshtein")
    for row_id in ("a", "b"):
        stack.insert(
            project,
            {"id": row_id, "input": "q", "output": "oo", "expected": "o", "metrics": ENDED},
        )
        stack.scored(project, row_id)
    source = stack.rows(project)
    history = history_of(connect, project)

    history.grow_to(3 * len(source))

    rows = stack.rows(project)
    copies = [row for row in rows if row not in source]
    assert source == rows[: len(source)]   # the newest rows are those of before
    assert content(copies) == sorted(2 * content(source))
    roots = [row for row in copies if row["is_root"]]
    assert len(roots) == 4
    for root in roots:
        of_trace = [row for row in copies if row["root_span_id"] == root["root_span_id"]]
        assert len(of_trace) == 3
        assert {
            outcome["scorer"]: outcome["state"]
            for rule in stack.explain(project, root["id"])["rules"]
            for outcome in rule["outcomes"]
        } == {"ExactMatch": "completed", "Levenshtein": "completed"}
