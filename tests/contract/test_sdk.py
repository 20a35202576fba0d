"""The real Python SDKs, unmodified: what they log is read back, with its scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from client_runs import run_client
from stack import Stack

SDKS = ("sdk-0.47", "sdk-0.3")
REST = "api-0.6"
CONTENT = ("input", "output", "expected", "tags", "metadata", "scores")
RULES = ("Levenshtein", "ExactMatch", "Factuality")


@dataclass(frozen=True)
class Logged:
    """One run of `clients/sdk_log.py`, and what three readers say of it."""

    client: str
    project: str
    told: dict[str, Any]
    fetched: dict[str, Any]
    queried: dict[str, Any]
    stack: Stack

    def told_of(self, name: str) -> dict[str, Any]:
        return dict(self.told["spans"][name])

    def row(self, name: str) -> dict[str, Any]:
        """The row of the span with this name, as the REST client fetched it."""
        (found,) = [
            row for row in self.fetched["got"] if row["id"] == self.told_of(name)["id"]
        ]
        return dict(found)

    def own_rows(self) -> dict[str, dict[str, Any]]:
        """Rows by id, without those that scorers made."""
        return {
            row["id"]: row for row in self.fetched["got"]
            if (row["span_attributes"] or {}).get("purpose") != "scorer"
        }


@pytest.fixture(scope="module", params=SDKS)
def logged(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Logged:
    """Rules made with the REST client, spans logged with an SDK, all of them scored."""
    client: str = request.param
    folder: Path = tmp_path_factory.mktemp(client)
    name = f"logged with {client}"
    project = stack.project(name)
    run_client(stack, REST, "rest_client.py", "rules", project, *RULES, folder=folder)
    told = run_client(stack, client, "sdk_log.py", name, folder=folder)
    assert told["project_id"] == project
    for span in told["spans"].values():
        stack.scored(project, span["id"])
    fetched = run_client(stack, REST, "rest_client.py", "fetch", project, folder=folder)
    root = [told["spans"]["answer"]["root_span_id"]] if client == "sdk-0.47" else []
    queried = run_client(stack, client, "sdk_read.py", project, *root, folder=folder)
    return Logged(
        client=client, project=project, told=told, fetched=fetched, queried=queried,
        stack=stack,
    )


def test_every_span_is_one_row_and_nothing_else_is(logged: Logged) -> None:
    assert set(logged.own_rows()) == {span["id"] for span in logged.told["spans"].values()}


def test_every_field_comes_back_as_it_was_logged(logged: Logged) -> None:
    computed = set(RULES)
    for name, told in logged.told["spans"].items():
        row = logged.row(name)
        for field in CONTENT:
            read = row[field]
            if field == "scores" and read is not None:
                read = {k: v for k, v in read.items() if k not in computed} or None
            if field == "tags" and name == "answer":
                assert "reviewed" in read   # feedback's; what of the others is unpublished
                continue
            assert read == told["fields"].get(field), (name, field)
        assert (row["span_id"], row["root_span_id"]) == (told["span_id"], told["root_span_id"])


def test_false_and_zero_are_not_taken_for_nothing(logged: Logged) -> None:
    assert logged.row("tool")["output"] is False
    assert logged.row("inner")["output"] == 0
    assert logged.row("inner")["output"] is not False


def test_children_hang_below_their_parents(logged: Logged) -> None:
    parents = {"completion": "answer", "tool": "answer", "inner": "tool"}
    for child, parent in parents.items():
        assert logged.row(child)["span_parents"] == [logged.told_of(parent)["span_id"]]
        assert logged.row(child)["root_span_id"] == logged.told_of("answer")["root_span_id"]
        assert logged.row(child)["is_root"] is False
    for root in ("answer", "broken", "long", "shout"):
        assert not logged.row(root)["span_parents"]
        assert logged.row(root)["is_root"] is True


def test_names_types_and_times_come_back(logged: Logged) -> None:
    attributes = {name: logged.row(name)["span_attributes"] for name in logged.told["spans"]}
    assert {name: each["name"] for name, each in attributes.items()} == {
        name: name for name in attributes
    }
    assert (attributes["completion"]["type"], attributes["tool"]["type"]) == ("llm", "tool")
    for row in logged.own_rows().values():
        assert 0 < row["metrics"]["start"] <= row["metrics"]["end"]
        assert row["created"]
        assert row["context"]["caller_filename"].endswith("sdk_log.py")


def test_tokens_of_an_llm_span_come_back(logged: Logged) -> None:
    metrics = logged.row("completion")["metrics"]
    assert (metrics["prompt_tokens"], metrics["completion_tokens"]) == (12, 3)
    assert metrics["tokens"] == 15


def test_an_exception_is_the_spans_error(logged: Logged) -> None:
    assert "RuntimeError: the tool is away" in logged.row("broken")["error"]
    assert logged.row("answer")["error"] is None


def test_a_long_span_keeps_what_its_first_part_said(logged: Logged) -> None:
    row = logged.row("long")
    assert row["input"] == "a question that takes its time"
    assert row["metadata"] == {"step": {"one": 1, "two": 2, "three": 3}}
    assert row["span_attributes"]["name"] == "long"


def test_a_comment_is_no_row_and_its_metadata_is_not_the_rows(logged: Logged) -> None:
    assert "reviewer" not in logged.row("answer")["metadata"]
    assert not [row for row in logged.fetched["got"] if "comment" in row]


def test_selected_spans_have_the_scores_of_every_rule(logged: Logged) -> None:
    # Roots, and what is named "completion".
    assert logged.row("long")["scores"] == {
        "ExactMatch": 1, "Levenshtein": pytest.approx(1), "Factuality": pytest.approx(0.4)
    }
    # Beside what the application and its users said:
    assert logged.row("answer")["scores"] == {
        "thumbs": 1, "accuracy": 1,
        "ExactMatch": 1, "Levenshtein": 1, "Factuality": pytest.approx(0.4),
    }


def test_spans_that_no_rule_is_for_have_no_scores(logged: Logged) -> None:
    assert logged.row("inner")["scores"] is None
    assert logged.row("tool")["scores"] is None
    statuses = logged.stack.statuses(logged.project, logged.told_of("tool")["span_id"])
    assert set(statuses.values()) == {"wrong_target"}


def test_a_missing_field_is_an_errored_outcome_that_names_it(logged: Logged) -> None:
    told = logged.stack.explain(logged.project, logged.told_of("shout")["id"])
    (answer,) = [each for each in told["rules"] if each["rule_name"] == "rule Levenshtein"]
    assert answer["status"] == "errored"
    assert "missing_argument" in answer["text"]
    assert "expected" in answer["text"]


def test_each_score_is_shown_by_a_score_span_below_the_scored_one(logged: Logged) -> None:
    told = logged.told_of("long")
    spans = {
        row["span_attributes"]["name"]: row for row in logged.fetched["got"]
        if (row["origin"] or {}).get("id") == told["id"]
    }
    assert set(spans) == set(RULES)
    for name, span in spans.items():
        assert span["span_parents"] == [told["span_id"]]
        assert span["root_span_id"] == told["root_span_id"]
        assert span["span_id"] != told["span_id"]
        assert span["span_attributes"] == {"name": name, "type": "score", "purpose": "scorer"}
        assert list(span["scores"]) == [name]
        assert span["scores"][name] == logged.row("long")["scores"][name]
        assert span["output"] == {"score": span["scores"][name]}
        assert span["input"]["output"] == "an answer"
        assert span["input"]["expected"] == "an answer"
        assert span["metrics"]["start"] <= span["metrics"]["end"]
        assert span["error"] is None
    assert spans["Factuality"]["metadata"]["choice"] == "A"
    assert spans["Factuality"]["metrics"]["prompt_tokens"] > 0


def test_the_clients_page_loops_give_each_row_once(logged: Logged) -> None:
    posted = [row["id"] for row in logged.fetched["posted"]]
    assert sorted(posted) == sorted(row["id"] for row in logged.fetched["got"])
    assert len(set(posted)) == len(posted)
    assert logged.fetched["pages"] > 2
    assert logged.fetched["cursor"] is None


def test_btql_gives_the_sdk_the_same_rows_as_fetch(logged: Logged) -> None:
    queried = {row["id"]: row for row in logged.queried["rows"]}
    assert len(queried) == len(logged.queried["rows"])
    fetched = {row["id"]: row for row in logged.stack.rows(logged.project)}
    assert queried.keys() == fetched.keys()
    for row_id, row in fetched.items():
        for field in (*CONTENT, "span_id", "span_parents", "error", "metrics", "_xact_id",
                      "created", "span_attributes"):
            assert queried[row_id][field] == row[field], field


def test_a_scorers_trace_has_the_spans_of_its_trace_alone(logged: Logged) -> None:
    if logged.client != "sdk-0.47":
        assert logged.queried["trace"] is None   # that SDK has no trace to ask for
        return
    of_trace = {logged.told_of(name)["span_id"]
                for name in ("answer", "completion", "tool", "inner")}
    assert {span["span_id"] for span in logged.queried["trace"]} == of_trace
    completion = logged.told_of("completion")["span_id"]
    assert [span["span_id"] for span in logged.queried["llm"]] == [completion]
    assert [span["span_id"] for span in logged.queried["filtered"]] == [completion]


def test_login_tells_the_organisation_of_the_key(logged: Logged) -> None:
    assert logged.told["org"]
    assert logged.told["version"] == {"sdk-0.47": "0.47.0", "sdk-0.3": "0.3.0"}[logged.client]
