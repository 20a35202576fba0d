"""The real REST client, `braintrust-api`, unmodified."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from client_runs import run_client
from stack import Stack


@pytest.fixture
def run(stack: Stack, tmp_path: Path) -> Any:
    return partial(run_client, stack, "api-0.6", "rest_client.py", folder=tmp_path)


def test_projects_are_made_found_changed_listed_and_deleted(stack: Stack, run: Any) -> None:
    before = len(stack.projects())
    told = run("projects", "of the REST client")

    assert len(set(told["made"])) == 5
    assert told["again"] == told["made"][0]
    assert told["one"]["name"] == "of the REST client 0"
    assert told["changed"]["name"] == "of the REST client renamed"
    assert (told["deleted"], told["gone"]) == (told["made"][4], 404)
    assert told["remade"] != told["made"][4]
    # Newest first, each once; the loop ends by an empty page.
    assert told["forwards"][:5] == told["made"][::-1]
    assert len(set(told["forwards"])) == len(told["forwards"]) == before + 5
    # Towards the newest, page by page, each page newest first.
    assert told["backwards"] == [told["made"][n] for n in (2, 1, 4, 3)]
    assert told["named"] == [told["made"][2]]


def test_a_list_of_ids_gives_those_projects(run: Any) -> None:
    told = run("projects", "by ids of the REST client")

    # This client writes `ids=a,b`.
    assert set(told["by_ids"]) == set(told["made"][3:])


def test_project_scores_are_made_found_changed_listed_and_deleted(
    stack: Stack, run: Any
) -> None:
    told = run("scores", stack.project())

    assert told["slider"]["score_type"] == "slider"
    assert told["slider"]["config"] == {"destination": "expected"}
    assert told["slider"]["description"] == "by hand"
    assert told["categorical"]["categories"] == [
        {"name": "good", "value": 1.0}, {"name": "bad", "value": 0.0}
    ]
    assert told["rule"]["config"]["online"] == {
        "sampling_rate": 0.5, "scorers": [{"type": "global", "name": "Levenshtein"}],
        "apply_to_span_names": ["answer"],
    }
    assert told["again"] == told["rule"]   # an existing one comes back unmodified
    assert told["found"] == told["rule"]
    assert told["changed"]["description"] == "changed"
    assert told["changed"]["config"] == told["rule"]["config"]
    assert told["replaced"]["id"] == told["rule"]["id"]
    assert told["replaced"]["config"]["online"]["sampling_rate"] == 0.25
    assert told["replaced"]["description"] is None
    assert told["listed"] == ["online rule", "verdict", "quality"]
    assert told["sliders"] == ["quality"]
    assert told["named"] == ["verdict"]
    assert (told["deleted"], told["gone"]) == (told["slider"]["id"], 404)
    assert "Nope" in told["refused"]["error"]["message"]


def test_rows_are_inserted_merged_judged_and_deleted(stack: Stack, run: Any) -> None:
    told = run("logs", stack.project())

    assert told["inserted"][0::2] == ["kept", "deleted"]
    made = told["inserted"][1]
    assert made
    assert told["merged"] == ["kept", "deleted"]
    assert told["feedback"] == "success"
    rows = {row["id"]: row for row in told["rows"]}
    assert set(rows) == {"kept", made}
    kept = rows["kept"]
    assert (kept["input"], kept["output"], kept["expected"]) == ("a", "b", "bb")
    assert kept["metadata"] == {"n": {"x": 1, "y": 2}}
    assert kept["tags"] == ["t"]
    assert kept["scores"] == {"human": 0.75}
    # Rows without span ids are roots of their own.
    assert rows[made]["is_root"] is True
    assert rows[made]["span_id"] == rows[made]["root_span_id"]
    assert rows[made]["log_id"] == "g"
    assert told["filtered"] == ["kept"]


def test_equal_inserts_without_an_id_are_as_many_rows(stack: Stack, run: Any) -> None:
    project = stack.project()
    told = run("repeated", project)
    assert {row["id"] for row in stack.rows(project)} == set(told)
    assert len(set(told)) == 3


def test_refusals_reach_the_user_as_the_clients_own_errors(stack: Stack, run: Any) -> None:
    told = run("refused", stack.project())

    assert {name: kind for name, (kind, _) in told.items()} == {
        "unknown project": "NotFoundError", "bad score": "BadRequestError",
        "wrong key": "AuthenticationError",
    }
    assert told["bad score"][1]["error"]["message"].startswith("events[0]: scores.s:")


def test_a_deleted_projects_logs_are_gone_at_once(stack: Stack) -> None:
    project = stack.project()
    stack.insert(project, {"id": "a", "input": 1})
    stack.ok("DELETE", f"/v1/project/{project}")

    for method, path in (
        ("GET", f"/v1/project/{project}"),
        ("POST", f"/v1/project_logs/{project}/fetch"),
        ("GET", f"/v1/project_logs/{project}/explain?id=a"),
    ):
        body = {} if method == "POST" else None
        assert stack.http(method, path, body).status == 404, path
    answer = stack.http("POST", f"/v1/project_logs/{project}/insert", {"events": [{}]})
    assert answer.status == 404
