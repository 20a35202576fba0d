"""How writes make rows, over HTTP: replace, merge, delete, in whatever order they come."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from stack import Stack


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def fields(row: dict[str, Any] | None, *names: str) -> dict[str, Any]:
    assert row is not None
    return {name: row[name] for name in names}


# --- replace and merge


def test_a_plain_row_replaces_everything(stack: Stack, project: str) -> None:
    stack.insert(project, {
        "id": "a", "input": 1, "output": 2, "metadata": {"x": 1}, "tags": ["t"],
        "scores": {"s": 1}, "created": "2026-01-01T00:00:00Z", "error": "e", "other": 1,
    })
    before = stack.row(project, "a")

    stack.insert(project, {"id": "a", "input": 3, "created": "2026-02-02T00:00:00Z"})

    row = stack.row(project, "a")
    assert fields(row, "input", "output", "metadata", "tags", "scores", "error") == {
        "input": 3, "output": None, "metadata": None, "tags": None, "scores": None,
        "error": None,
    }
    assert row is not None
    assert before is not None
    assert row["created"] == "2026-02-02T00:00:00.000Z"
    assert "other" not in row
    assert row["_xact_id"] > before["_xact_id"]


def test_is_merge_false_replaces_too(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "input": 1, "output": 2})
    stack.insert(project, {"id": "a", "input": 3, "_is_merge": False})

    assert fields(stack.row(project, "a"), "input", "output") == {"input": 3, "output": None}


def test_a_merge_descends_into_objects_and_overwrites_all_else(
    stack: Stack, project: str
) -> None:
    stack.insert(project, {
        "id": "a", "input": {"x": {"y": 1, "z": 2}, "list": [1, 2]}, "output": "long",
        "metadata": {"keep": 1, "clear": 2, "deep": {"a": 1}}, "tags": ["a", "b"],
        "metrics": {"start": 1.0}, "scores": {"one": 1}, "extra": {"a": 1},
    })

    stack.insert(project, {
        "id": "a", "_is_merge": True, "input": {"x": {"z": 3}, "list": [3]}, "output": 7,
        "metadata": {"clear": None, "deep": {"b": {"c": 2}}}, "tags": ["c"],
        "metrics": {"end": 2.0}, "scores": {"two": 0.5}, "extra": {"b": 2}, "expected": None,
    })

    assert fields(
        stack.row(project, "a"), "input", "output", "metadata", "tags", "metrics", "scores",
        "extra",
    ) == {
        "input": {"x": {"y": 1, "z": 3}, "list": [3]}, "output": 7,
        "metadata": {"keep": 1, "clear": None, "deep": {"a": 1, "b": {"c": 2}}},
        "tags": ["c"], "metrics": {"start": 1.0, "end": 2.0},
        "scores": {"one": 1, "two": 0.5}, "extra": {"a": 1, "b": 2},
    }


def test_null_in_a_merge_clears_and_absence_does_not(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "input": {"x": 1}, "output": {"y": 1}, "tags": ["t"]})
    stack.insert(project, {"id": "a", "_is_merge": True, "input": None, "tags": None})

    assert fields(stack.row(project, "a"), "input", "output", "tags") == {
        "input": None, "output": {"y": 1}, "tags": None
    }


def test_a_merge_into_nothing_is_the_row(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "_is_merge": True, "input": 1, "span_id": "s"})

    assert fields(stack.row(project, "a"), "input", "span_id") == {"input": 1, "span_id": "s"}


def test_a_merge_does_not_change_what_a_row_is(stack: Stack, project: str) -> None:
    stack.insert(project, {
        "id": "a", "span_id": "s", "root_span_id": "r", "span_parents": ["p"],
        "created": "2026-01-01T00:00:00Z",
    })
    identity = ("span_id", "root_span_id", "span_parents", "created")
    before = fields(stack.row(project, "a"), *identity)

    stack.insert(project, {
        "id": "a", "_is_merge": True, "span_id": "other", "root_span_id": "other",
        "span_parents": [], "created": "2026-03-03T00:00:00Z",
    })

    assert fields(stack.row(project, "a"), *identity) == before


def test_merge_paths_stop_the_descent(stack: Stack, project: str) -> None:
    # The example of the public interface description.
    stack.insert(project, {
        "id": "foo", "input": {"a": {"b": 10}, "c": {"d": 20}}, "output": {"a": 20}
    })
    stack.insert(project, {
        "id": "foo", "_is_merge": True, "_merge_paths": [["input", "a"], ["output"]],
        "input": {"a": {"q": 30}, "c": {"e": 30}, "bar": "baz"}, "output": {"d": 40},
    })

    assert fields(stack.row(project, "foo"), "input", "output") == {
        "input": {"a": {"q": 30}, "c": {"d": 20, "e": 30}, "bar": "baz"}, "output": {"d": 40}
    }


def test_array_delete_takes_values_out(stack: Stack, project: str) -> None:
    stack.insert(project, {
        "id": "a", "tags": ["a", "b", "c", "b"], "metadata": {"list": [1, {"x": 1}, "1"]},
        "input": "untouched",
    })
    stack.insert(project, {
        "id": "a", "_is_merge": True,
        "_array_delete": [
            {"path": ["tags"], "delete": ["b", "nothing"]},
            {"path": ["metadata", "list"], "delete": [{"x": 1}, 1]},
            {"path": ["metadata", "none", "there"], "delete": [1]},
            {"path": ["input"], "delete": ["untouched"]},
        ],
    })

    assert fields(stack.row(project, "a"), "tags", "metadata", "input") == {
        "tags": ["a", "c"], "metadata": {"list": ["1"]}, "input": "untouched"
    }


def test_array_delete_does_not_take_true_for_one(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "metadata": {"list": [True, 1, 0, False]}})
    stack.insert(project, {
        "id": "a", "_is_merge": True,
        "_array_delete": [{"path": ["metadata", "list"], "delete": [1, False]}],
    })

    row = stack.row(project, "a")
    assert row is not None
    assert [repr(item) for item in row["metadata"]["list"]] == ["True", "0"]


# --- deletion


def test_a_deleted_row_is_hidden_and_a_later_plain_row_brings_it_back_clean(
    stack: Stack, project: str
) -> None:
    stack.insert(project, {"id": "a", "input": 1, "metadata": {"x": 1}, "scores": {"s": 1}})
    stack.insert(project, {"id": "a", "_object_delete": True})
    assert stack.row(project, "a") is None
    assert stack.http("GET", f"/v1/project_logs/{project}/explain?id=a").status == 404

    stack.insert(project, {"id": "a", "_is_merge": True, "output": "a late merge"})
    assert stack.row(project, "a") is None

    stack.insert(project, {"id": "a", "output": 2})
    assert fields(stack.row(project, "a"), "input", "output", "metadata", "scores") == {
        "input": None, "output": 2, "metadata": None, "scores": None
    }


def test_a_row_that_names_its_parent_can_be_deleted(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "parent"}, {"id": "child", "_parent_id": "parent"})

    stack.insert(project, {"id": "child", "_parent_id": "parent", "_object_delete": True})

    assert [row["id"] for row in stack.rows(project)] == ["parent"]


def test_deleting_what_was_never_there_is_fine(stack: Stack, project: str) -> None:
    assert stack.insert(project, {"id": "ghost", "_object_delete": True}) == ["ghost"]
    assert stack.row(project, "ghost") is None


def test_deleting_a_row_deletes_its_scores_and_outcomes(stack: Stack, project: str) -> None:
    stack.rule(project, "ExactMatch")
    done = {"id": "a", "output": 1, "expected": 1, "metrics": {"end": 1.0}}
    stack.insert(project, done)
    stack.scored(project, "a")
    assert stack.score_spans(project)

    stack.insert(project, {"id": "a", "_object_delete": True})

    assert stack.rows(project) == []
    stack.insert(project, {"id": "a", "output": 1})
    row = stack.row(project, "a")
    assert row is not None
    assert row["scores"] is None
    assert stack.explain(project, "a")["rules"][0]["outcomes"] == []


# --- several versions, any order


def test_versions_in_one_request_apply_in_order_as_one_version(
    stack: Stack, project: str
) -> None:
    ids = stack.insert(
        project,
        {"id": "a", "input": 1, "metadata": {"old": 1}},
        {"id": "b", "input": "other"},
        {"id": "a", "input": {"x": 2}},
        {"id": "a", "_is_merge": True, "input": {"y": 3}, "metadata": {"m": 1}},
        {"id": "c", "_object_delete": True},
        {"id": "c", "input": "back"},
        {"id": "d", "input": 1},
        {"id": "d", "_object_delete": True},
    )

    assert ids == ["a", "b", "a", "a", "c", "c", "d", "d"]
    rows = {row["id"]: row for row in stack.rows(project)}
    assert set(rows) == {"a", "b", "c"}
    assert rows["a"]["input"] == {"x": 2, "y": 3}
    assert rows["a"]["metadata"] == {"m": 1}
    assert rows["c"]["input"] == "back"
    assert len({row["_xact_id"] for row in rows.values()}) == 1


PARTS: list[dict[str, Any]] = [
    {"id": "a", "input": "q", "metadata": {"m": {"base": 1, "both": "base"}},
     "span_id": "s", "root_span_id": "r", "span_attributes": {"name": "long"},
     "created": "2026-01-01T00:00:00Z", "metrics": {"start": 1.0}},
    {"id": "a", "_is_merge": True, "output": "o", "metadata": {"m": {"one": 1}}},
    {"id": "a", "_is_merge": True, "metrics": {"end": 2.0}, "metadata": {"m": {"both": "two"}}},
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_parts_of_a_span_make_the_same_row_in_whatever_order_they_come(
    stack: Stack, project: str, order: tuple[int, ...]
) -> None:
    for part in order:
        stack.logs3(project, PARTS[part])

    assert fields(
        stack.row(project, "a"), "input", "output", "metadata", "metrics", "span_id",
        "root_span_id", "span_attributes", "created", "is_root",
    ) == {
        "input": "q", "output": "o", "metrics": {"start": 1.0, "end": 2.0}, "span_id": "s",
        "metadata": {"m": {"base": 1, "both": "two", "one": 1}}, "root_span_id": "r",
        "span_attributes": {"name": "long"}, "created": "2026-01-01T00:00:00.000Z",
        "is_root": True,
    }


def test_a_span_whose_parts_come_backwards_is_scored_as_a_whole(
    stack: Stack, project: str
) -> None:
    stack.rule(project, "ExactMatch", apply_to_span_names=["long"])
    stack.logs3(project, {"id": "a", "_is_merge": True, "metrics": {"end": 2.0}})
    stack.logs3(project, {"id": "a", "_is_merge": True, "output": "o", "expected": "o"})

    stack.logs3(project, {"id": "a", "input": "i", "span_attributes": {"name": "long"}})

    assert stack.scored(project, "a")["scores"] == {"ExactMatch": 1}


# --- parents


def test_parent_id_fills_in_the_span_fields(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "abc", "input": "foo"})
    stack.insert(project, {"id": "known", "span_id": "s1", "root_span_id": "r1"})
    stack.insert(
        project,
        {"_parent_id": "abc", "id": "llm_call", "input": 1},
        {"_parent_id": "llm_call", "id": "inner", "input": 2},
        {"_parent_id": "known", "id": "child", "input": 3},
    )

    rows = {row["id"]: row for row in stack.rows(project)}
    assert rows["llm_call"]["span_parents"] == [rows["abc"]["span_id"]]
    assert rows["inner"]["span_parents"] == [rows["llm_call"]["span_id"]]
    assert {rows[name]["root_span_id"] for name in ("abc", "llm_call", "inner")} == {
        rows["abc"]["root_span_id"]
    }
    assert rows["abc"]["is_root"] is True
    assert rows["llm_call"]["is_root"] is False
    assert (rows["child"]["span_parents"], rows["child"]["root_span_id"]) == (["s1"], "r1")


def test_a_child_may_come_before_the_parent_that_it_names(stack: Stack, project: str) -> None:
    stack.insert(project, {"_parent_id": "later", "id": "child"})
    stack.insert(project, {"id": "later", "input": 1})

    rows = {row["id"]: row for row in stack.rows(project)}
    assert rows["child"]["span_parents"] == [rows["later"]["span_id"]]
    assert rows["child"]["root_span_id"] == rows["later"]["root_span_id"]


# --- versions


def test_versions_are_19_digits_and_strictly_increasing(stack: Stack, project: str) -> None:
    versions = [stack.logs3(project, {"id": str(n), "input": n})["xact_id"] for n in range(20)]

    assert all(version.isdigit() and len(version) == 19 for version in versions)
    assert versions == sorted(set(versions))
    rows = {row["id"]: row["_xact_id"] for row in stack.rows(project)}
    assert [rows[str(n)] for n in range(20)] == versions


def test_concurrent_requests_have_versions_of_their_own(stack: Stack, project: str) -> None:
    def log(n: int) -> str:
        return str(stack.logs3(project, {"id": f"r{n % 7}", "metadata": {str(n): n},
                                         "_is_merge": True})["xact_id"])

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(log, range(200)))

    assert len(set(versions)) == 200
    merged: dict[str, Any] = {}
    for row in stack.rows(project):
        merged |= row["metadata"]
    assert merged == {str(n): n for n in range(200)}


def test_a_rows_version_never_steps_back_under_concurrent_writers(
    stack: Stack, project: str
) -> None:
    seen: list[str] = []
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.is_set():
            if (row := stack.row(project, "a")) is not None:
                seen.append(row["_xact_id"])

    def write(n: int) -> None:
        stack.logs3(project, {"id": "a", "input": n})

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        for writing in [pool.submit(write, n) for n in range(150)]:
            writing.result()
        is_done.set()
        watching.result()

    assert seen
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    "identity",
    [{"created": "2026-01-01T00:00:00Z", "span_id": "s", "root_span_id": "r",
      "span_parents": None},
     {"created": "2026-01-01T00:00:00Z"}, {}],
    ids=["as an SDK sends it", "without span ids", "without ids or created"],
)
def test_identical_content_keeps_its_version(
    stack: Stack, project: str, identity: dict[str, Any]
) -> None:
    row = {"id": "a", "input": {"b": 1, "a": 2}, "metadata": {"x": 1}, "scores": {"s": 0.5},
           "metrics": {"start": 1, "end": 2.5}, "tags": ["t"], "extra": [1], **identity}
    stack.insert(project, row)
    before = stack.row(project, "a")

    again = stack.logs3(project, row)   # another route: not a resent request
    merged = stack.logs3(project, {"id": "a", "_is_merge": True, "metadata": {"x": 1}})

    assert before is not None
    assert stack.row(project, "a") == before
    assert before["_xact_id"] < again["xact_id"] < merged["xact_id"]


def tried(
    stack: Stack, project: str, *events: dict[str, Any], tries: int | None = None,
    **headers: str,
) -> Any:
    """The answer to an insert that the REST client has tried so often before."""
    if tries is not None:
        headers["x-stainless-retry-count"] = str(tries)
    path = f"/v1/project_logs/{project}/insert"
    return stack.http("POST", path, {"events": list(events)}, headers=headers)


def test_a_retried_insert_gets_its_first_answer_and_changes_nothing(
    stack: Stack, project: str
) -> None:
    events = ({"input": "no id"}, {"id": "a", "input": 1})
    first = tried(stack, project, *events, tries=0).json
    stack.insert(project, {"id": "a", "input": 2})

    again = tried(stack, project, *events, tries=1).json

    assert again == first
    assert len(stack.rows(project)) == 2
    assert fields(stack.row(project, "a"), "input") == {"input": 2}


def test_equal_inserts_that_are_no_retries_are_all_stored(stack: Stack, project: str) -> None:
    event = {"input": "no id"}
    stack.insert(project, event)
    stack.insert(project, event)
    tried(stack, project, event, tries=0)
    second = tried(stack, project, event, tries=0).json

    assert tried(stack, project, event, tries=1).json == second
    assert len(stack.rows(project)) == 4


def test_no_count_of_tries_costs_a_request(stack: Stack, project: str) -> None:
    for tries in (2**31, 10**17, 10**30):
        assert tried(stack, project, {"input": tries // 10**17}, tries=tries).status == 200

    assert len(stack.rows(project)) == 3


@pytest.mark.parametrize("send", ["insert", "logs3"])
def test_what_a_client_sets_last_is_what_it_reads(
    stack: Stack, project: str, send: str
) -> None:
    write = getattr(stack, send)
    write(project, {"id": "a", "input": 1})
    for thumbs in (1, 0, 1):
        write(project, {"id": "a", "_is_merge": True, "scores": {"thumbs": thumbs}})
    assert fields(stack.row(project, "a"), "scores") == {"scores": {"thumbs": 1}}

    write(project, {"id": "a", "_object_delete": True})
    write(project, {"id": "a", "input": 1})
    assert fields(stack.row(project, "a"), "input", "scores") == {"input": 1, "scores": None}


def test_an_idempotency_key_stores_once_and_only_one_body(stack: Stack, project: str) -> None:
    key = {"idempotency-key": f"{uuid.uuid4()}"}

    def send(_: int) -> Any:
        return tried(stack, project, {"input": "no id"}, **key).json

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(40)))
    refused = tried(stack, project, {"input": "another"}, **key)

    assert all(answer == answers[0] for answer in answers)
    assert [row["id"] for row in stack.rows(project)] == answers[0]["row_ids"]
    assert (refused.status, "Idempotency-Key" in refused.error) == (400, True)


def test_retried_feedback_leaves_one_comment(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a"})
    path = f"/v1/project_logs/{project}/feedback"
    for tries in (0, 1, 2):
        stack.ok(
            "POST", path, {"feedback": [{"id": "a", "comment": "hm"}]},
            headers={"x-stainless-retry-count": str(tries)},
        )
    assert stack.count("comment", project) == 1


def test_a_retried_request_still_says_what_it_rejected(stack: Stack, project: str) -> None:
    rows = [{"project_id": project}, {"project_id": project, "id": "bad\n"}]
    first, again = (
        stack.ok("POST", "/logs3", {"rows": rows}, headers={"idempotency-key": project})
        for _ in range(2)
    )
    assert again == first
    assert [each["id"] for each in again["rejected"]] == ["bad\n"]
    listed = stack.ok("GET", f"/v1/project_logs/{project}/rejected")["rejected"]
    assert len(listed) == 1


def test_the_same_retry_of_another_key_is_another_request(stack: Stack, project: str) -> None:
    path, body = f"/v1/project_logs/{project}/insert", {"events": [{"input": "no id"}]}
    counted = {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}

    one = stack.ok("POST", path, body, headers=counted[0])
    two = stack.ok("POST", path, body, headers=counted[1], key=stack.key("ingest"))

    assert one["row_ids"] != two["row_ids"]


@pytest.mark.parametrize(("row", "status", "said"), [
    ({"id": "x", "input": 1}, 400, "a row must name its project"),
    ({"id": "x", "project_id": str(uuid.UUID(int=7))}, 404,
     f"no such project: '{uuid.UUID(int=7)}' (row 'x')"),
    ({"id": "x", "input": "x" * 6_300_000}, 413, "TALLYARD_SPAN_BYTES_MAX"),
])
def test_a_request_of_which_nothing_was_stored_is_refused_and_its_rows_are_listed(
    stack: Stack, project: str, row: dict[str, Any], status: int, said: str
) -> None:
    if status == 413:
        row = {**row, "project_id": project}
    row["id"] = f"{uuid.uuid4()}"
    answer = stack.http("POST", "/logs3", {"rows": [row], "api_version": 2})

    assert answer.status == status
    assert said.replace("'x'", repr(row["id"])) in answer.error
    listed = stack.ok("GET", "/v1/rejected?limit=1000")["rejected"]
    (own,) = [each for each in listed if each["id"] == row["id"]]
    told = stack.ok("GET", f"/v1/project_logs/{project}/explain?id={row['id']}")
    assert told["is_stored"] is False
    assert [part["reason"] for part in told["rejected"]] == [own["reason"]]


@pytest.mark.parametrize("text", [
    '"input": ' + "[" * 100_000 + "]" * 100_000,
    '"input": ' + '{"a": [' * 600 + "]}" * 600,
    '"input": ', '"input" 7', '"input": "\\x"', '"input": undefined',
], ids=lambda text: f"{text[:16]} {len(text)}")
def test_a_row_that_no_parser_reads_costs_no_other_and_its_id_is_explained(
    stack: Stack, project: str, text: str
) -> None:
    odd, span = f"odd-{project}", f"s-{project}"   # no other test's rejected rows have these
    named = f'"project_id": "{project}", "id"'
    bad = f'{{{named}: "{odd}", "span_id": "{span}", {text}}}'
    rows = f'{{{named}: "a"}}, {bad}, {{{named}: "b"}}'

    told = stack.ok("POST", "/logs3", f'{{"rows": [{rows}], "api_version": 2}}'.encode())

    assert told["ids"] == ["a", "b"]
    (rejected,) = told["rejected"]
    assert rejected["id"] == odd
    for name in (odd, span):
        (part,) = stack.explain(project, name)["rejected"]
        assert part["reason"] == rejected["reason"]
        assert part["excerpt"].startswith('"{')


@pytest.mark.parametrize("depth", [60, 200, 300, 900])
def test_a_row_of_any_depth_is_stored_or_listed(
    stack: Stack, project: str, depth: int
) -> None:
    deep = {"id": "odd", "input": 1}
    for _ in range(depth):
        deep["input"] = {"x": [deep["input"]]} if depth % 2 else [deep["input"]]

    told = stack.logs3(project, {"id": "a"}, deep, {"id": "b"})

    listed = [row["id"] for row in told.get("rejected", [])]
    assert sorted([*told["ids"], *listed]) == ["a", "b", "odd"]
    assert {row["id"] for row in stack.rows(project)} == set(told["ids"])


def test_rows_logged_to_a_deleted_project_are_refused(stack: Stack) -> None:
    gone = stack.project()
    stack.ok("DELETE", f"/v1/project/{gone}")
    answer = stack.http("POST", "/logs3", {"rows": [{"id": "a", "project_id": gone}]})
    assert answer.status == 404


def test_a_request_without_rows_is_no_error(stack: Stack) -> None:
    assert stack.ok("POST", "/logs3", {"rows": []})["ids"] == []


def test_fifty_batches_of_the_same_ids_in_any_order_all_succeed(
    stack: Stack, project: str
) -> None:
    ids = [f"id{n}" for n in range(30)]
    shuffle = random.Random(7)
    batches = []
    for batch in range(50):
        order = shuffle.sample(ids, len(ids))
        batches.append([
            {"id": row_id, "_is_merge": True, "metadata": {f"b{batch}": 1}} for row_id in order
        ])

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda batch: stack.insert(project, *batch), batches))

    rows = stack.rows(project)
    assert sorted(row["id"] for row in rows) == sorted(ids)
    assert all(len(row["metadata"]) == 50 for row in rows)


def test_the_same_id_in_another_project_is_another_row(stack: Stack, project: str) -> None:
    other = stack.project()
    stack.insert(project, {"id": "a", "input": "here"})
    stack.insert(other, {"id": "a", "input": "there", "_is_merge": True})
    stack.insert(other, {"id": "a", "_object_delete": True})

    assert fields(stack.row(project, "a"), "input") == {"input": "here"}
    assert stack.row(other, "a") is None


def test_one_request_may_log_to_several_projects(stack: Stack, project: str) -> None:
    other = stack.project()
    rows = [{"id": "a", "project_id": project, "input": 1, "log_id": "g"},
            {"id": "a", "project_id": other, "input": 2, "log_id": "g"},
            {"id": "b", "input": "nowhere"},
            {"id": "c", "experiment_id": "00000000-0000-4000-8000-000000000000"},
            {"id": "d", "project_id": "no uuid"}]

    told = stack.ok("POST", "/logs3", {"rows": rows, "api_version": 2})

    assert told["ids"] == ["a", "a"]
    assert [each["id"] for each in told["rejected"]] == ["b", "c", "d"]
    assert fields(stack.row(other, "a"), "input") == {"input": 2}


# --- feedback


def feedback(stack: Stack, project: str, *items: dict[str, Any]) -> None:
    path = f"/v1/project_logs/{project}/feedback"
    assert stack.ok("POST", path, {"feedback": list(items)}) == {"status": "success"}


def test_feedback_merges_scores_and_replaces_expected(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "output": "o", "expected": {"x": 1}, "metadata": {"m": 1},
                           "scores": {"old": 1}})

    feedback(stack, project, {
        "id": "a", "scores": {"human": 0.5}, "expected": "better", "tags": ["reviewed"],
        "comment": "hm", "metadata": {"user": 1}, "source": "app",
    })

    row = stack.row(project, "a")
    assert fields(row, "scores", "expected", "metadata", "output") == {
        "scores": {"old": 1, "human": 0.5}, "expected": "better", "metadata": {"m": 1},
        "output": "o",
    }
    assert row is not None
    assert "reviewed" in row["tags"]
    assert len(stack.rows(project)) == 1


def test_a_comment_alone_changes_no_row(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "input": 1})
    before = stack.rows(project)

    feedback(stack, project, {"id": "a", "comment": "just a word"})
    stack.logs3(project, {"id": "c1", "created": "2026-01-01T00:00:00Z", "origin": {"id": "a"},
                          "comment": {"text": "from an SDK"}, "_audit_source": "external"})

    assert stack.rows(project) == before


def test_an_unknown_source_of_feedback_defaults_to_external(stack: Stack, project: str) -> None:
    stack.insert(project, {"id": "a", "input": 1})
    feedback(stack, project, {"id": "a", "scores": {"s": 1}, "source": None})

    assert fields(stack.row(project, "a"), "scores") == {"scores": {"s": 1}}


# --- reading


def test_pages_give_each_row_once_while_rows_are_written(stack: Stack, project: str) -> None:
    stack.insert(project, *({"id": f"old {n}", "input": n} for n in range(50)))
    asked: dict[str, Any] = {"limit": 7}
    found: list[str] = []
    path = f"/v1/project_logs/{project}/fetch"
    for turn in itertools.count():
        page = stack.ok("POST", path, asked)
        found += [row["id"] for row in page["events"]]
        stack.insert(project, {"id": f"new {turn}"}, {"id": f"old {turn}", "input": "changed"})
        if page["cursor"] is None:
            break
        asked["cursor"] = page["cursor"]

    assert sorted(found) == sorted(f"old {n}" for n in range(50))


def test_get_and_post_fetch_the_same_rows(stack: Stack, project: str) -> None:
    stack.insert(project, *({"id": str(n)} for n in range(5)))
    path = f"/v1/project_logs/{project}/fetch"

    first = stack.ok("GET", f"{path}?limit=3")
    rest = stack.ok("GET", f"{path}?limit=3&cursor={first['cursor']}")

    assert [row["id"] for row in first["events"] + rest["events"]] == ["4", "3", "2", "1", "0"]
    assert rest["cursor"] is None
    assert stack.ok("POST", path, {})["events"] == first["events"] + rest["events"]
    assert stack.ok("POST", path, {"limit": 0})["events"] == []


def test_an_exact_page_says_that_there_is_no_more(stack: Stack, project: str) -> None:
    stack.insert(project, *({"id": str(n)} for n in range(3)))

    assert stack.ok("POST", f"/v1/project_logs/{project}/fetch", {"limit": 3})["cursor"] is None


def test_path_filters_compare_by_value_and_kind(stack: Stack, project: str) -> None:
    stack.insert(
        project,
        {"id": "a", "metadata": {"n": 1, "t": "x"}, "input": {"q": [1, 2]}, "tags": ["t"]},
        {"id": "b", "metadata": {"n": "1", "t": "y"}}, {"id": "c", "metadata": {"n": True}},
        {"id": "d", "metadata": {"n": None}}, {"id": "e"},
    )

    def found(*filters: tuple[list[Any], Any]) -> list[str]:
        asked = [{"type": "path_lookup", "path": path, "value": value}
                 for path, value in filters]
        return sorted(row["id"] for row in stack.rows(project, filters=asked))

    assert found((["metadata", "n"], 1)) == ["a"]
    assert found((["metadata", "n"], "1")) == ["b"]
    assert found((["metadata", "n"], True)) == ["c"]
    assert found((["metadata", "n"], None)) == ["d", "e"]
    assert found((["metadata", "n"], 1), (["metadata", "t"], "x")) == ["a"]
    assert found((["metadata", "n"], 1), (["metadata", "t"], "y")) == []
    assert found((["id"], "e")) == ["e"]


def test_the_older_way_to_page_ends_and_gives_every_row(stack: Stack, project: str) -> None:
    for n in range(6):
        stack.insert(project, {"id": str(n)})
    path = f"/v1/project_logs/{project}/fetch"
    found: list[str] = []
    asked: dict[str, Any] = {"limit": 2}
    while page := stack.ok("POST", path, asked)["events"]:
        found += [row["id"] for row in page]
        oldest = min(page, key=lambda row: (row["_xact_id"], row["root_span_id"]))
        asked |= {"max_xact_id": oldest["_xact_id"],
                  "max_root_span_id": oldest["root_span_id"]}

    assert found == ["5", "4", "3", "2", "1", "0"]


def test_every_row_has_the_fields_that_clients_require(stack: Stack, project: str) -> None:
    stack.insert(project, {"input": "least"})

    (row,) = stack.rows(project)
    assert {"id", "_xact_id", "created", "span_id", "root_span_id", "project_id", "org_id",
            "log_id", "is_root", "_async_scoring_state"} <= set(row)
    assert row["project_id"] == project
    assert row["org_id"] == stack.ok("GET", f"/v1/project/{project}")["org_id"]
    assert (row["log_id"], row["is_root"], row["_async_scoring_state"]) == ("g", True, None)
    created = datetime.fromisoformat(row["created"])
    assert abs(time.time() - created.timestamp()) < 60
