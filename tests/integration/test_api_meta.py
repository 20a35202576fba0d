"""The first requests of a client, and what remains of deleted objects."""

from __future__ import annotations

import time

import pytest
from stack import Stack

LOGIN = "/api/apikey/login"


def test_login_gives_what_the_sdks_require(stack: Stack) -> None:
    for method in ("POST", "GET"):
        told = stack.ok(method, LOGIN)
        (org,) = told["org_info"]
        assert isinstance(org["id"], str)
        assert org["name"] == stack.settings.org_name
        assert org["api_url"] == org["proxy_url"] == stack.api_url
        assert org["git_metadata"] is None
        assert set(org) == {"id", "name", "api_url", "proxy_url", "realtime_url",
                            "is_universal_api", "git_metadata"}


def test_login_ignores_a_body_that_is_no_json(stack: Stack) -> None:
    answer = stack.http("POST", LOGIN, b"", headers={"content-type": "application/json"})

    assert answer.status == 200


@pytest.mark.parametrize(
    ("headers", "url"),
    [({"host": "tally.example:8443"}, "http://tally.example:8443"),
     ({"host": "tally.example", "x-forwarded-proto": "https"}, "https://tally.example")],
    ids=["another host", "behind a proxy that ends TLS"],
)
def test_login_leads_back_to_where_the_client_came_from(
    stack: Stack, headers: dict[str, str], url: str
) -> None:
    (org,) = stack.ok("POST", LOGIN, headers=headers)["org_info"]

    assert org["api_url"] == org["proxy_url"] == url


def test_a_public_url_that_is_set_is_where_login_leads(own_stack: Stack) -> None:
    own_stack.environment["TALLYARD_PUBLIC_URL"] = "https://scores.example/base/"
    own_stack.start("api")

    (org,) = own_stack.ok("POST", LOGIN)["org_info"]

    assert org["api_url"] == "https://scores.example/base"


def test_version_and_ping_are_objects(stack: Stack) -> None:
    assert stack.ok("GET", "/version")["version"]
    assert isinstance(stack.ok("GET", "/ping"), dict)
    assert stack.http("GET", "/v1").status == 200


def test_a_deleted_projects_rows_and_outcomes_are_removed(stack: Stack) -> None:
    project = stack.project()
    stack.rule(project, "ExactMatch")
    stack.insert(project, *(
        {"id": str(n), "output": 1, "expected": 1, "metrics": {"end": time.time()}}
        for n in range(20)
    ))
    stack.scored(project, "19")
    assert stack.count("span", project) == 40
    assert stack.count("outcome", project) == 20

    stack.ok("DELETE", f"/v1/project/{project}")

    for table in (
        "span", "span_head", "outcome", "outbox", "match_record", "comment", "audit_entry"
    ):
        stack.wait_until(
            lambda table=table: stack.count(table, project) == 0,   # type: ignore[misc]
            deadline_s=30, what=f"{table} to be empty",
        )


def test_a_projects_name_is_free_again_once_it_is_deleted(stack: Stack) -> None:
    project = stack.project("used twice")
    stack.insert(project, {"id": "a", "input": "of the first"})
    stack.ok("DELETE", f"/v1/project/{project}")

    again = stack.project("used twice")

    assert again != project
    assert stack.rows(again) == []
