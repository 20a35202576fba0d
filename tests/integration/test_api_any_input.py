"""Any input over HTTP: a bad row does not affect other rows, and no input causes a 500."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack import Stack

from spans.event import CONTROL_FIELDS

DEPTH = "tallyard_queue_depth{"
STRUCTURED = (
    "scores", "metadata", "metrics", "tags", "span_attributes", "context", "origin", "facets",
    "classifications",
)

EXAMPLES = settings(
    max_examples=60, suppress_health_check=[
        HealthCheck.function_scoped_fixture, HealthCheck.too_slow
    ],
)
"""A request each, beside those of the database."""

TEXTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from([
        "\0", "\\u0000", "\\N", "\\.", "\ufffe", "'\"", "2026-01-01T00:00:00Z", "id", "%s",
        "9999-12-31T23:59:59-23:59", "0001-01-01", "a" * 300, "\U0001f600" * 100,
    ]),
).filter(lambda text: text.encode(errors="ignore").decode() == text)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, 0.5, 1763628000, 1e300, 5e-324]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
FIELD_NAMES = [
    *sorted(CONTROL_FIELDS), *STRUCTURED, "input", "output", "expected", "error", "created",
    "span_id", "root_span_id", "span_parents",
]
LIKELY = st.fixed_dictionaries({}, optional={
    "id": st.sampled_from(["a", "b", "c"]), "_is_merge": st.booleans(),
    "_object_delete": st.booleans(), "_parent_id": st.sampled_from(["a", "b", "z"]),
    "_merge_paths": st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=2),
    "_array_delete": st.lists(st.fixed_dictionaries({
        "path": st.lists(st.sampled_from(["tags", "metadata", "a"]), min_size=1, max_size=2),
        "delete": st.lists(VALUES, max_size=2)}), max_size=2),
    "_async_scoring_control": st.fixed_dictionaries({
        "kind": st.sampled_from(["state_override", "state_force_reselect"]), "state": VALUES}),
    "comment": st.fixed_dictionaries({"text": TEXTS}), "_audit_source": TEXTS,
    "_audit_metadata": st.dictionaries(TEXTS, VALUES, max_size=2),
    "origin": st.fixed_dictionaries({"id": st.sampled_from(["a", "b"])}),
    "scores": st.dictionaries(TEXTS, st.floats(0, 1) | st.none() | st.booleans(), max_size=2),
    "metrics": st.fixed_dictionaries({}, optional={"start": st.floats(0, 7e9),
                                                   "end": st.floats(0, 7e9)}),
    "tags": st.lists(TEXTS, max_size=3), "metadata": st.dictionaries(TEXTS, VALUES, max_size=3),
    "span_attributes": st.dictionaries(
        st.sampled_from(["name", "type", "purpose"]), TEXTS, max_size=3),
    "created": st.datetimes().map(str),
})
EVENTS = st.builds(
    lambda odd, likely: {**odd, **likely},
    st.dictionaries(st.one_of(st.sampled_from(FIELD_NAMES), TEXTS), VALUES, max_size=3), LIKELY,
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def project(stack: Stack) -> str:
    """Its filters and scorers meet whatever is stored."""
    project = stack.project()
    stack.rule(project, "ExactMatch", "Levenshtein", "JSONDiff",
               btql_filter="metadata.a > 0 or tags includes 'a' or input is not null")
    return project


def as_floats(value: Any) -> Any:
    """jsonb keeps numbers exactly, and writes 6.6e16 as 66000000000000000."""
    return json.loads(json.dumps(value), parse_int=float)


@given(st.lists(EVENTS, min_size=1, max_size=5))
@EXAMPLES
def test_a_batch_of_anything_is_answered_and_its_good_row_is_stored(
    stack: Stack, project: str, events: list[dict[str, Any]]
) -> None:
    good = f"good {next(_numbers)}"
    rows = [{**event, "project_id": project} for event in [*events, {"id": good}]]

    answer = stack.http("POST", "/logs3", {"rows": rows})

    assert answer.status == 200, answer.body
    told = answer.json
    assert good in told["ids"]
    assert len(told["ids"]) + len(told.get("rejected", [])) == len(rows)
    row = stack.row(project, good)
    assert row is not None


@given(EVENTS)
@EXAMPLES
def test_an_event_of_anything_is_stored_and_read_back_or_refused(
    stack: Stack, project: str, event: dict[str, Any]
) -> None:
    row_id = f"row {next(_numbers)}"
    event = {"input": 1, **event, "id": row_id}

    answer = stack.http("POST", f"/v1/project_logs/{project}/insert", {"events": [event]})

    assert answer.status in {200, 400}, answer.body
    row = stack.row(project, row_id)
    gone = event.get("_object_delete") is True or isinstance(event.get("comment"), dict)
    assert (row is not None) == (answer.status == 200 and not gone)
    if row is not None and "\\u0000" not in json.dumps(event):
        for name in ("input", "output", "expected", "error", "metadata"):
            assert as_floats(row[name]) == as_floats(event.get(name))


@given(VALUES, st.sampled_from(["limit", "cursor", "filters", "version", "max_xact_id",
                                "max_root_span_id"]))
@EXAMPLES
def test_any_page_asked_for_is_given_or_refused(
    stack: Stack, project: str, value: Any, name: str
) -> None:
    path = f"/v1/project_logs/{project}/fetch"

    assert stack.http("POST", path, {name: value}).status in {200, 400}


@given(st.lists(TEXTS | st.sampled_from(["metadata", "input", "a", "id"]), min_size=1,
                max_size=3), VALUES)
@EXAMPLES
def test_any_path_is_looked_up_or_refused(
    stack: Stack, project: str, path: list[str], value: Any
) -> None:
    lookup = {"type": "path_lookup", "path": path, "value": value}

    answer = stack.http("POST", f"/v1/project_logs/{project}/fetch", {"filters": [lookup]})

    assert answer.status in {200, 400}, answer.body


BODIES = ["/v1/project", "/api/project/register", "/v1/project_score", "/btql",
          "/v1/project_logs/{}/outcomes/retry", "/v1/project_logs/{}/feedback",
          "/v1/project_logs/{}/insert", "/logs3"]
BODY_FIELDS = ["name", "project_name", "project_id", "org_name", "description", "score_type",
               "config", "query", "class", "since", "rule_id", "feedback", "events", "rows",
               "fmt", "tz_offset", "categories", "position", "cursor"]


@given(st.sampled_from(BODIES),
       st.one_of(VALUES, st.dictionaries(st.sampled_from(BODY_FIELDS), VALUES, max_size=4)))
@settings(EXAMPLES, max_examples=150)
def test_any_body_is_understood_or_refused(
    stack: Stack, project: str, path: str, body: Any
) -> None:
    answer = stack.http("POST", path.format(project), json.dumps(body).encode())

    assert answer.status in {200, 400, 404}, answer.body


@given(TEXTS, st.sampled_from(["/v1/project", "/v1/project_score", "/api/project",
                               "/v1/project_logs/{}/explain", "/v1/project_logs/{}/fetch",
                               "/v1/project_logs/{}/rejected"]),
       st.sampled_from(["id", "limit", "cursor", "ids", "starting_after", "ending_before",
                        "project_name", "project_id", "org_name", "project_score_name"]))
@settings(EXAMPLES, max_examples=150)
def test_any_query_string_is_understood_or_refused(
    stack: Stack, project: str, value: str, path: str, name: str
) -> None:
    answer = stack.http("GET", f"{path.format(project)}?{name}={quote(value, safe='')}")

    assert answer.status in {200, 400, 404}, answer.body


def test_whatever_was_stored_was_scored_or_its_outcome_says_why(
    stack: Stack, project: str
) -> None:
    stack.insert(project, {"id": "last", "input": 1, "output": "o", "expected": "o",
                           "metrics": {"end": 1.0}})

    assert stack.scored(project, "last", deadline_s=60)["scores"]

    def waiting() -> list[str]:
        metrics = stack.http("GET", "/metrics", key="").body.decode()
        depths = [line for line in metrics.splitlines() if line.startswith(DEPTH)]
        assert len(depths) == 4
        return [line for line in depths if float(line.split()[-1])]

    stack.wait_until(lambda: not waiting(), deadline_s=60, what=lambda: str(waiting()))
    assert "Traceback" not in stack.log_text("match")
    errors = stack.ok("GET", f"/v1/project_logs/{project}/errors")["errors"]
    assert not [each for each in errors if each["error_class"] in {"bug", "poisoned"}], errors


# --- hostile queries (58-62 of the list)

HOSTILE = [
    "' OR 1=1 --", '"; DROP TABLE span; --', "true /* x */ -- y", "\u2018a\u2019 = 1",
    "true; select 1", "true UNION SELECT * FROM api_key", "pg_sleep(10)", "pg_read_file('/x')",
    "current_setting('x')", 'id"; --', "metadata.'a''b' = 1", "metadata.${x} = 1",
    "pg_catalog.pg_user = 1", " and ".join(["id = 'a'"] * 10_000),
    "(" * 500 + "true" + ")" * 500,
    "not " * 5000 + "true", "id = '" + "a" * 1_000_000 + "'",
    "id in (" + ", ".join(["'a'"] * 100_000) + ")", "input ilike '" + "%a" * 500 + "'",
    "metadata.x > 5", "metadata.x > 1e400", "id = '\\u0000'", "id = '\0'", "a.b.c[0].d = 1",
    "metadata['\0'] = 1", "1/0 = 1", "input + 1 > metadata", "created > 'no date'",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text)[:30])
def test_a_hostile_query_is_data_or_refused_and_tells_nothing_of_the_database(
    stack: Stack, project: str, text: str
) -> None:
    query = f"select: * | from: project_logs('{project}') | filter: {text} | limit: 1"

    answer = stack.http("POST", "/btql", {"query": query})

    assert answer.status in {200, 400, 413}, answer.body[:500]
    told = answer.body.decode()
    if answer.status != 200:
        for secret in ("psycopg", "sqlalchemy", "relation", "pg_catalog does", "SQLSTATE"):
            assert secret not in told


def test_odd_values_do_not_match_a_number_and_break_nothing(stack: Stack) -> None:
    project = stack.project()
    values = ["abc", None, [1], {"a": 1}, 6, 7.5, True, "8", 5, -1, 1e300]
    stack.insert(project, *(
        {"id": str(n), "metadata": {"x": value}} for n, value in enumerate(values)
    ))
    query = f"select: id | from: project_logs('{project}') | filter: metadata.x > 5"

    found = stack.ok("POST", "/btql", {"query": query})["data"]

    assert {"4", "5", "10"} <= {row["id"] for row in found}
    assert not {"1", "2", "3", "8", "9"} & {row["id"] for row in found}
