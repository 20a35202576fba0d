"""The fields of a request to query: obeyed, refused, without effect, or told in the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stack import Answer, Stack

HINTS: dict[str, Any] = {
    "api_version": 1, "inference_depth": 3, "expected_cost": 2.5, "force_push_limit": True,
    "relaxed_search_mode": True, "use_columnstore": False, "brainstore_realtime": True,
    "query_source": "js_sdk_object_fetcher_dataset",
}
HARMLESS: dict[str, Any] = {
    "fmt": "json", "tz_offset": 480, "version": None, "audit_log": False,
    "overflow_results": False, "disable_limit": False, "lint_mode": "default",
    "strict_lint_mode": False,
}


@pytest.fixture(scope="module")
def project(stack: Stack) -> str:
    return stack.project()


def ask(stack: Stack, project: str, **fields: Any) -> Answer:
    query = f"select: id | from: project_logs('{project}')"
    return stack.http("POST", "/btql", {"query": query, **fields})


def test_hints_and_what_is_so_anyway_change_nothing(stack: Stack) -> None:
    project = stack.project()
    stack.insert(project, {"id": "a"})

    plain, hinted = ask(stack, project), ask(stack, project, **HINTS, **HARMLESS)

    assert hinted.status == 200, hinted.body
    assert hinted.json == plain.json
    assert plain.json["data"] == [{"id": "a"}]
    assert plain.json["warnings"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fmt", "parquet"), ("version", "1000198297934233608"), ("version", 7),
        ("audit_log", True), ("overflow_results", True), ("disable_limit", True),
        ("lint_mode", "strict"), ("strict_lint_mode", True), ("tz_offset", 5000),
        # of another type
        ("fmt", 5), ("tz_offset", "480"), ("tz_offset", 1.5), ("tz_offset", True),
        ("audit_log", "yes"), ("api_version", "one"), ("inference_depth", [1]),
        ("expected_cost", True), ("use_columnstore", "no"), ("brainstore_realtime", 1),
        ("query_source", 7), ("relaxed_search_mode", {"a": 1}), ("force_push_limit", "x"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_its_name(
    stack: Stack, project: str, name: str, value: Any
) -> None:
    answer = ask(stack, project, **{name: value})

    assert answer.status == 400
    assert answer.error.startswith(f"{name}: must be")


def test_fields_that_nobody_knows_are_told(stack: Stack, project: str) -> None:
    unknown: dict[str, Any] = {"tz_ofset": 480, "\u00e9": 1, "model_config": {}, "x" * 99: None}

    told = ask(stack, project, **unknown)
    lines = ask(stack, project, **unknown, fmt="jsonl")

    assert told.status == lines.status == 200, told.body
    warnings = told.json["warnings"]
    assert [set(one) for one in warnings] == [{"code", "message", "stage"}] * 4
    assert [one["message"].partition(":")[0] for one in warnings] == [
        "model_config", "tz_ofset", "x" * 60, "\u00e9"
    ]
    assert json.loads(lines.headers["x-tallyard-warnings"]) == warnings


def test_unknown_fields_of_a_fetch_are_told_too(stack: Stack, project: str) -> None:
    path = f"/v1/project_logs/{project}/fetch"

    known = stack.ok("POST", path, {"limit": 1})
    posted = stack.ok("POST", path, {"limit": 1, "limits": 2})
    got = stack.ok("GET", f"{path}?limit=1&limits=2")

    assert known.keys() == {"events", "cursor"}
    for told in (posted, got):
        (warning,) = told["warnings"]
        assert warning["message"] == "limits: no such field, so it changes nothing"


def test_rows_are_found_by_their_warnings(stack: Stack) -> None:
    project = stack.project()
    stack.logs3(
        project, {"id": "good", "output": 1},
        {"id": "mended", "output": 1, "metrics": {"tps": "fast"}},
    )
    query = f"from: project_logs('{project}') | filter: ingest_warnings IS NOT NULL"

    fields = {"query": f"{query} | select: id, ingest_warnings"}
    words = {"query": f"{query} AND ingest_warnings MATCH 'tps'"}
    (row,) = stack.ok("POST", "/btql", fields)["data"]
    (found,) = stack.ok("POST", "/btql", words)["data"]

    warning = 'metrics.tps: must be a number or null, not "fast"; left out'
    assert row == {"id": "mended", "ingest_warnings": [warning]}
    assert found["ingest_warnings"] == [warning]
    metrics = stack.http("GET", "/metrics").body.decode()
    assert "tallyard_repaired_rows_total" in metrics


def test_a_version_is_found_in_the_form_that_clients_show(stack: Stack) -> None:
    project = stack.project()
    stack.insert(project, {"id": "a"})
    (row,) = stack.rows(project)
    shown = f"{int(row['_xact_id']) * 205_891_132_094_649 % 2**64:016x}"
    query = f"select: id | from: project_logs('{project}') | filter: _xact_id = '{shown}'"

    assert stack.ok("POST", "/btql", {"query": query})["data"] == [{"id": "a"}]
    path = f"/v1/project_logs/{project}/fetch"
    assert len(stack.ok("POST", path, {"max_xact_id": shown})["events"]) == 1


def test_a_put_project_is_created_or_gets_the_new_description(stack: Stack) -> None:
    body = {"name": "put twice", "description": "first"}

    made = stack.http("PUT", "/v1/project", body)
    again = stack.http("PUT", "/v1/project", {**body, "description": "second"})

    assert made.status == again.status == 200
    assert made.headers.get("x-bt-found-existing") is None
    assert again.headers["x-bt-found-existing"] == "true"
    assert made.json["id"] == again.json["id"]
    assert (made.json["description"], again.json["description"]) == ("first", "second")
