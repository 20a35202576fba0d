"""Functions and prompts over HTTP: kept in versions, pushed, uploaded, and used by rules."""

from __future__ import annotations

import gzip
import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from stack import Stack

from ops.servers.children import wait_until
from store.postgres.database import Database

DONE: dict[str, Any] = {"metrics": {"start": 1.0, "end": 2.0}}
PYTHON = {"runtime": "python", "version": "3.11"}
_numbers = itertools.count(1)


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def alias(project: str, scorer: str = "ExactMatch", **fields: Any) -> dict[str, Any]:
    """An autoevals scorer under a name of the user's own."""
    slug = fields.pop("slug", f"alias-{next(_numbers)}")
    return {
        "project_id": project, "name": slug, "slug": slug, "function_type": "scorer",
        "function_data": {"type": "global", "name": scorer}, **fields,
    }


def judge(project: str, **fields: Any) -> dict[str, Any]:
    """A classifier whose judge says `good` or `bad`."""
    content = "Is {{output}} right?"
    return alias(project, function_data={"type": "prompt"}, prompt_data={
        "prompt": {"type": "chat", "messages": [{"role": "user", "content": content}]},
        "options": {"model": "gpt-4o"},
        "parser": {
            "type": "llm_classifier", "use_cot": True, "choice_scores": {"good": 1, "bad": 0},
        },
    }, **fields)


def prompt(project: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say {{input}}"}]
    slug = f"prompt-{next(_numbers)}"
    return {
        "project_id": project, "name": slug, "slug": slug,
        "prompt_data": {"prompt": {"type": "chat", "messages": messages}}, **fields,
    }


def bundled(project: str, bundle_id: str, **fields: Any) -> dict[str, Any]:
    return alias(project, function_data={"type": "code", "data": {
        "type": "bundle", "runtime_context": PYTHON, "bundle_id": bundle_id,
        "location": {"type": "function", "index": 0}, "preview": "def f(output): ...",
    }}, **fields)


def make(stack: Stack, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return dict(stack.ok("PUT", "/v1/function", body, **more))


def status(stack: Stack, method: str, path: str, body: Any = None, **more: Any) -> int:
    return stack.http(method, path, body, **more).status


def listed(stack: Stack, query: str = "", kind: str = "function", **more: Any) -> list[str]:
    objects = stack.ok("GET", f"/v1/{kind}?{query}", **more)["objects"]
    return [each["slug"] for each in objects]


# --- kept in versions


def test_a_function_comes_back_as_it_was_given(stack: Stack, project: str) -> None:
    body = judge(
        project, description="Judges", tags=["a", "b"], metadata={"__pass_threshold": 0.5},
        function_schema={"parameters": {"type": "object"}}, origin=None,
    )
    made = make(stack, body)
    assert {name: made[name] for name in body} == body
    assert made["log_id"] == "p"
    assert made["org_id"] == str(stack.org_id())
    assert len(made["_xact_id"]) == 19
    assert (made["problem"], made["rollout"]) == (None, None)
    assert stack.ok("GET", f"/v1/function/{made['id']}") == made


@pytest.mark.parametrize(
    "data",
    [{"type": "graph", "nodes": {"a": {"b": [1, None]}}, "edges": {}},
     {"type": "remote_eval", "endpoint": "https://example.com", "eval_name": "e"}],
)
def test_a_kind_that_is_not_run_is_kept_and_is_no_scorer(
    stack: Stack, project: str, data: dict[str, Any]
) -> None:
    made = make(stack, alias(project, function_type="task", function_data=data))
    assert made["function_data"] == data
    answer = stack.http("POST", "/v1/project_score", rule_over(project, made))
    assert answer.status == 400
    assert "not a scorer" in answer.error


def test_post_finds_what_is_there_and_put_replaces_it(stack: Stack, project: str) -> None:
    body = alias(project, "ExactMatch")
    first = stack.http("POST", "/v1/function", body)
    assert "x-bt-found-existing" not in first.headers
    found = stack.http("POST", "/v1/function", {**body, "name": "other"})
    assert found.json == first.json
    assert found.headers["x-bt-found-existing"] == "true"

    replaced = make(stack, {**body, "name": "other"})
    assert replaced["id"] == first.json["id"]
    assert replaced["name"] == "other"
    assert int(replaced["_xact_id"]) > int(first.json["_xact_id"])


def test_what_says_nothing_new_makes_no_version(stack: Stack, project: str) -> None:
    made = make(stack, alias(project, tags=["a"]))
    again = {name: made[name] for name in made if name not in {"id", "_xact_id", "created"}}
    assert make(stack, again)["_xact_id"] == made["_xact_id"]
    path = f"/v1/function/{made['id']}"
    assert stack.ok("PATCH", path, {"tags": ["a"]})["_xact_id"] == made["_xact_id"]
    assert len(stack.ok("GET", f"{path}/versions")["objects"]) == 1


def test_a_version_once_made_is_given_for_ever(stack: Stack, project: str) -> None:
    first = make(stack, alias(project, description="one", metadata={"a": 1}))
    path = f"/v1/function/{first['id']}"
    second = stack.ok("PATCH", path, {"description": "two", "metadata": {"b": 2}})
    assert second["metadata"] == {"a": 1, "b": 2}
    assert second["name"] == first["name"]

    old = stack.ok("GET", f"{path}?version={first['_xact_id']}")
    assert (old["description"], old["metadata"]) == ("one", {"a": 1})
    told = [each["description"] for each in stack.ok("GET", f"{path}/versions")["objects"]]
    assert told == ["two", "one"]
    assert status(stack, "GET", f"{path}?version=1") == 404
    assert status(stack, "GET", f"{path}?version=latest") == 400


def test_code_is_checked_though_its_function_was_there_a_moment_ago(
    stack: Stack, project: str
) -> None:
    body = alias(project, function_data={"type": "code", "data": {
        "type": "inline", "runtime_context": PYTHON,
        "code": "def handler(output):\n    return 1",
    }})
    there = make(stack, body)
    database = Database(stack.database_url)
    with ThreadPoolExecutor(1) as thread:
        # Found by the request, it is gone once that may write.
        with database.cursor() as deleting:
            deleting.execute(
                "select from organization where id = %s for no key update", (stack.org_id(),)
            )
            made = thread.submit(stack.http, "POST", "/v1/function", body)
            assert wait_until(lambda: is_anybody_held_up(database), deadline_s=20)
            deleting.execute(
                "update function set deleted_at = now() where id = %s", (there["id"],)
            )
        answer = made.result()
    database.close()
    assert answer.status == 200, answer.body
    assert answer.json["id"] != there["id"]
    assert answer.json["problem"] is None


def is_anybody_held_up(database: Database) -> bool:
    """Whether a lock is waited for."""
    with database.cursor() as cursor:
        cursor.execute(
            """select exists (
                 select from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock')"""
        )
        return cursor.fetchone() == (True,)


def test_a_slug_names_one_function_of_its_project(stack: Stack, project: str) -> None:
    one, two = make(stack, alias(project)), make(stack, alias(project))
    elsewhere = make(stack, alias(stack.project(), slug=one["slug"]))
    assert len({one["id"], two["id"], elsewhere["id"]}) == 3
    answer = stack.http("PATCH", f"/v1/function/{two['id']}", {"slug": one["slug"]})
    assert answer.status == 400
    assert one["slug"] in answer.error
    moved = stack.ok("PATCH", f"/v1/function/{two['id']}", {"slug": "moved"})
    assert moved["slug"] == "moved"
    assert listed(stack, f"project_id={project}&slug=moved") == ["moved"]


def test_a_deleted_function_is_gone_and_its_slug_is_free(stack: Stack, project: str) -> None:
    made = make(stack, alias(project, slug="again"))
    path = f"/v1/function/{made['id']}"
    assert stack.ok("DELETE", path)["id"] == made["id"]
    assert status(stack, "GET", path) == 404
    assert status(stack, "DELETE", path) == 404
    assert listed(stack, f"project_id={project}") == []
    assert make(stack, alias(project, slug="again"))["id"] != made["id"]


def test_twenty_changes_at_once_are_twenty_versions(stack: Stack, project: str) -> None:
    made = make(stack, alias(project))
    path = f"/v1/function/{made['id']}"

    def change(number: int) -> None:
        body = {"metadata": {f"k{number}": number}}
        # 503: others were quicker, three times.
        stack.wait_until(lambda: status(stack, "PATCH", path, body) == 200, deadline_s=30)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(20)))
    assert stack.ok("GET", path)["metadata"] == {f"k{n}": n for n in range(20)}
    assert len(stack.ok("GET", f"{path}/versions")["objects"]) == 21


# --- lists


def test_lists_are_newest_first_and_their_pages_end(stack: Stack, project: str) -> None:
    slugs = [make(stack, alias(project))["slug"] for _ in range(5)][::-1]
    assert listed(stack, f"project_id={project}") == slugs
    seen: list[str] = []
    after = ""
    while True:
        page = stack.ok("GET", f"/v1/function?project_id={project}&limit=2{after}")["objects"]
        if not page:
            break
        seen += [each["slug"] for each in page]
        after = f"&starting_after={page[-1]['id']}"
    assert seen == slugs


def test_lists_are_narrowed_by_each_filter(stack: Stack) -> None:
    name = f"project of functions {uuid.uuid4().hex[:8]}"
    project = stack.project(name)
    one, two = make(stack, alias(project)), make(stack, alias(project))
    older = one["_xact_id"]
    stack.ok("PATCH", f"/v1/function/{one['id']}", {"name": "renamed"})
    slugs = [two["slug"], one["slug"]]

    assert listed(stack, f"project_name={name}") == slugs
    assert listed(stack, f"project_name={name}&slug={one['slug']}") == [one["slug"]]
    assert listed(stack, f"project_name={name}&function_name=renamed") == [one["slug"]]
    assert listed(stack, f"project_name={name}&ids={two['id']}") == [two["slug"]]
    assert listed(stack, f"project_id={project}&version={older}") == [one["slug"]]
    found = stack.ok("GET", f"/v1/function?project_id={project}&version={older}")["objects"]
    assert found[0]["name"] == one["name"]
    assert listed(stack, f"project_name={name}&org_name=nobody") == []
    assert listed(stack, "project_name=none%20of%20that%20name") == []
    assert status(stack, "GET", "/v1/function?version=x") == 400


# --- prompts


def test_prompts_are_functions_without_a_type(stack: Stack, project: str) -> None:
    body = prompt(project)
    made = stack.ok("POST", "/v1/prompt", body)
    assert made["description"] is None
    assert made["tags"] is None
    assert made["prompt_data"] == body["prompt_data"]
    pushed = {**prompt(project), "function_data": {"type": "prompt"}, "if_exists": "replace"}
    stack.ok("POST", "/insert-functions", {"functions": [pushed]})
    make(stack, judge(project))
    make(stack, alias(project))

    prompts = [pushed["slug"], body["slug"]]
    assert listed(stack, f"project_id={project}", "prompt") == prompts
    assert listed(stack, f"project_id={project}&prompt_name={body['slug']}", "prompt") == [
        body["slug"]
    ]
    assert len(listed(stack, f"project_id={project}")) == 4
    path = f"/v1/prompt/{made['id']}"
    changed = stack.ok("PATCH", path, {"description": "new", "tags": ["x"]})
    assert (changed["description"], changed["tags"]) == ("new", ["x"])
    assert stack.ok("GET", f"{path}?version={made['_xact_id']}")["description"] is None
    stack.ok("DELETE", path)
    assert listed(stack, f"project_id={project}", "prompt") == [pushed["slug"]]


def test_a_judge_keeps_its_choices_in_their_order(stack: Stack, project: str) -> None:
    body = judge(project)
    choices = {"wonderful": 1, "fair": 0.5, "no": 0}
    body["prompt_data"]["parser"]["choice_scores"] = choices
    made = stack.ok("POST", "/v1/function", body)
    kept = stack.ok("GET", f"/v1/function/{made['id']}")["prompt_data"]["parser"]
    assert list(kept["choice_scores"]) == list(choices)


def test_a_scorer_is_no_prompt(stack: Stack, project: str) -> None:
    scorer = make(stack, alias(project))
    assert status(stack, "GET", f"/v1/prompt/{scorer['id']}") == 404
    answer = stack.http("POST", "/v1/prompt", prompt(project, function_type="scorer"))
    assert answer.status == 400
    assert "/v1/function" in answer.error


# --- pushed


def pushed(stack: Stack, *functions: dict[str, Any]) -> Any:
    return stack.http("POST", "/insert-functions", {"functions": list(functions)})


def test_a_push_says_what_becomes_of_what_is_there(stack: Stack, project: str) -> None:
    body = alias(project)
    first = pushed(stack, body).json["functions"][0]
    assert not first["found_existing"]

    refused = pushed(stack, {**body, "name": "b", "if_exists": "error"})
    assert refused.status == 400
    assert body["slug"] in refused.error
    ignored = pushed(stack, {**body, "name": "b", "if_exists": "ignore"}).json["functions"][0]
    assert ignored == {**first, "found_existing": True}
    replaced = pushed(stack, {**body, "name": "b", "if_exists": "replace"})
    (told,) = replaced.json["functions"]
    assert told["id"] == first["id"]
    assert int(told["_xact_id"]) > int(first["_xact_id"])


def test_a_push_is_all_or_nothing(stack: Stack, project: str) -> None:
    good, there = alias(project), alias(project)
    make(stack, there)
    assert pushed(stack, good, there).status == 400
    assert pushed(stack, good, {**there, "function_data": {"type": "global", "name": "No"}}
                  ).status == 400
    assert listed(stack, f"project_id={project}") == [there["slug"]]


@pytest.mark.parametrize(
    "body", [{}, {"functions": {}}, {"functions": ["x"]}, {"functions": [{}]},
             {"functions": [{"project_id": 1}]}]
)
def test_a_push_that_is_not_understood_is_refused(stack: Stack, body: Any) -> None:
    answer = stack.http("POST", "/insert-functions", body)
    assert answer.status == 400
    assert "functions" in answer.error


# --- uploads


def place(stack: Stack, **body: Any) -> dict[str, str]:
    asked = {"org_id": str(stack.org_id()), "runtime_context": PYTHON, **body}
    return dict(stack.ok("POST", "/function/code", asked))


def put(url: str, content: bytes, **headers: str) -> httpx2.Response:
    """As the SDKs do: no key, no type."""
    return httpx2.put(url, content=content, headers=headers, trust_env=False, timeout=30)


def test_a_bundle_is_uploaded_to_its_url_once(stack: Stack, project: str) -> None:
    given = place(stack)
    assert given["url"].startswith(stack.api_url)
    made = make(stack, bundled(project, given["bundleId"]))
    assert "not been uploaded" in made["problem"]

    assert put(given["url"], b"PK zip").status_code == 200
    assert stack.ok("GET", f"/v1/function/{made['id']}")["problem"] is None
    assert put(given["url"], b"PK zip").status_code == 200    # a client that heard nothing
    assert put(given["url"], b"another").status_code == 400


def test_an_upload_url_tells_nothing_without_its_secret(stack: Stack) -> None:
    url = place(stack)["url"]
    base, bundle_id, secret = url.rsplit("/", 2)
    for wrong in (
        f"{base}/{bundle_id}/{secret[:-1]}", f"{base}/{uuid.uuid4()}/{secret}",
        f"{base}/x/{secret}",
    ):
        answer = put(wrong, b"x")
        assert answer.status_code == 404
        assert "no such upload" in answer.text
    assert httpx2.get(url, trust_env=False).status_code == 405


def test_an_upload_is_kept_as_it_came_and_never_opened(stack: Stack, project: str) -> None:
    given = place(stack, runtime_context={"runtime": "node", "version": "20"})
    bomb = gzip.compress(bytes(50 * 2**20))
    assert put(given["url"], bomb, **{"content-encoding": "gzip"}).status_code == 200
    other = place(stack)["url"]
    assert put(other, b"x", **{"content-encoding": "br"}).status_code == 400
    assert put(other, b"").status_code == 400
    assert put(other, b"not a zip at all").status_code == 200


def test_equal_bytes_are_of_one_encoding(stack: Stack) -> None:
    # Bundles are found by their bytes, and an upload of another's tells nothing about it.
    url, zipped = place(stack)["url"], gzip.compress(b"1")
    for content, headers in ((zipped, {}), (b"1", {"content-encoding": "gzip"})):
        answer = put(url, content, **headers)
        assert answer.status_code == 400
        assert "gzip" in answer.text


def test_an_upload_has_a_limit(stack: Stack) -> None:
    url = place(stack)["url"]
    most = stack.settings.bundle_bytes_max
    announced = {"content-length": str(most + 1)}
    with httpx2.Client(trust_env=False, timeout=30) as client:
        request = client.build_request("PUT", url, content=b"x", headers=announced)
        assert request.headers["content-length"] == str(most + 1)
    chunk = bytes(2**20)
    answer = httpx2.put(
        url, content=(chunk for _ in range(most // len(chunk) + 2)), trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"runtime_context": None}, 400), ({"runtime_context": {"runtime": "ruby"}}, 400),
        ({"runtime_context": {"runtime": "python"}}, 400),
        ({"runtime_context": {"runtime": "python", "version": "3" * 65}}, 400),
        ({"org_id": str(uuid.uuid4()), "runtime_context": PYTHON}, 404),
    ],
)
def test_a_place_for_no_bundle_is_not_made(stack: Stack, body: Any, expected: int) -> None:
    assert status(stack, "POST", "/function/code", body) == expected


def test_a_bundle_of_another_organisation_is_not_there(stack: Stack, project: str) -> None:
    theirs = stack.new_key(org="another organisation")
    given = stack.ok("POST", "/function/code", {"runtime_context": PYTHON}, key=theirs)
    answer = stack.http("PUT", "/v1/function", bundled(project, given["bundleId"]))
    assert answer.status == 400
    assert "/function/code" in answer.error




# --- used by rules


def rule_over(project: str, *functions: dict[str, Any], **more: Any) -> dict[str, Any]:
    scorers = [
        {"type": "function", "id": each["id"]}
        | ({"version": each["version"]} if "version" in each else {})
        for each in functions
    ]
    return {
        "project_id": project, "name": f"rule {next(_numbers)}", "score_type": "online",
        "config": {"online": {"sampling_rate": 1, "scorers": scorers, **more}},
    }


def outcomes(stack: Stack, project: str, row_id: str) -> list[dict[str, Any]]:
    return [one for rule in stack.explain(project, row_id)["rules"] for one in rule["outcomes"]]


def versions_used(stack: Stack, project: str, row_id: str) -> dict[str, str]:
    return {one["role"]: one["scorer_version"] for one in outcomes(stack, project, row_id)}


def log(stack: Stack, project: str, row_id: str, **fields: Any) -> dict[str, Any]:
    """A finished span, once every scorer has answered."""
    span = {"id": row_id, "input": "q", "output": "o", "expected": "o", **DONE, **fields}
    stack.insert(project, span)
    row = stack.scored(project, row_id)
    told = stack.explain(project, row_id)["rules"]
    assert all(rule["outcomes"] for rule in told), told
    return row


def test_a_rule_names_a_function_and_its_scores_carry_its_name(
    stack: Stack, project: str
) -> None:
    made = make(stack, alias(stack.project(), "Levenshtein", name="How near"))
    rule = stack.ok("POST", "/v1/project_score", rule_over(project, made))
    assert rule["config"]["online"]["scorers"] == [{"type": "function", "id": made["id"]}]

    row = log(stack, project, "a", output="ox")

    assert row["scores"] == {"How near": pytest.approx(0.5)}
    (one,) = outcomes(stack, project, "a")
    assert (one["label"], one["scorer"]) == ("How near", made["id"])
    assert one["scorer_version"] == made["_xact_id"]
    (span,) = stack.score_spans(project, "a")
    assert span["span_attributes"]["name"] == "How near"
    (told,) = stack.explain(project, "a")["rules"]
    assert told["text"].startswith(f"How near {made['_xact_id']} scored 0.5")


def test_a_rule_follows_the_version_in_force_unless_it_pins_one(
    stack: Stack, project: str
) -> None:
    first = make(stack, alias(project, "ExactMatch", name="Follows"))
    stack.ok("POST", "/v1/project_score", rule_over(project, first))
    pinned = stack.project()
    old = {"id": first["id"], "version": first["_xact_id"]}
    stack.ok("POST", "/v1/project_score", rule_over(pinned, old))
    assert log(stack, project, "a", output="ox")["scores"] == {"Follows": 0}

    second = stack.ok(
        "PATCH", f"/v1/function/{first['id']}",
        {"function_data": {"type": "global", "name": "Levenshtein"}},
    )

    assert log(stack, project, "b", output="ox")["scores"] == {"Follows": pytest.approx(0.5)}
    assert log(stack, pinned, "b", output="ox")["scores"] == {"Follows": 0}
    assert versions_used(stack, project, "a") == {"live": first["_xact_id"]}
    assert versions_used(stack, project, "b") == {"live": second["_xact_id"]}
    assert versions_used(stack, pinned, "b") == {"live": first["_xact_id"]}


def test_a_rule_names_only_scorers_that_are_there(stack: Stack, project: str) -> None:
    made = make(stack, alias(project))
    text = stack.ok("POST", "/v1/prompt", prompt(project))
    gone = make(stack, alias(project))
    stack.ok("DELETE", f"/v1/function/{gone['id']}")
    theirs = make(
        stack, alias(stack.ok("POST", "/v1/project", {"name": f"p {uuid.uuid4()}"},
                              key=stack.new_key(org="another organisation"))["id"]),
        key=stack.new_key(org="another organisation"),
    )
    for function, sentence in (
        ({"id": "mine"}, "no function's id"),
        ({"id": str(uuid.uuid4())}, "there is no function"),
        ({"id": made["id"], "version": "12"}, "version 12"),
        ({"id": made["id"], "version": "v2"}, "_xact_id"),
        (text, "not a scorer"), (gone, "there is no function"),
        (theirs, "there is no function"),
    ):
        answer = stack.http("POST", "/v1/project_score", rule_over(project, function))
        assert answer.status == 400
        assert sentence in answer.error
        assert "config.online.scorers" in answer.error
    answer = stack.http("POST", "/v1/project_score", rule_over(
        project, made, {"id": made["id"], "version": made["_xact_id"]}
    ))
    assert "once" in answer.error


def test_a_key_of_one_project_names_only_its_functions(stack: Stack, project: str) -> None:
    mine, other = make(stack, alias(project)), make(stack, alias(stack.project()))
    key = stack.key("admin", project=project)
    rule = stack.ok("POST", "/v1/project_score", rule_over(project, mine), key=key)
    assert status(stack, "POST", "/v1/project_score", rule_over(project, other), key=key) == 400
    config = rule_over(project, other)["config"]
    path = f"/v1/project_score/{rule['id']}"
    assert status(stack, "PATCH", path, {"config": config}, key=key) == 400
    assert status(stack, "PATCH", path, {"config": config}) == 200


def test_a_deleted_function_is_an_errored_outcome_until_the_rule_is_mended(
    stack: Stack, project: str
) -> None:
    made = make(stack, alias(project, name="Short-lived"))
    rule = stack.ok("POST", "/v1/project_score", rule_over(project, made))
    stack.ok("DELETE", f"/v1/function/{made['id']}")

    row = log(stack, project, "a")

    assert not row["scores"]
    (told,) = stack.explain(project, "a")["rules"]
    assert told["status"] == "errored"
    assert "the function Short-lived has been deleted" in told["text"]
    assert stack.ok("POST", f"/v1/project_logs/{project}/outcomes/retry", {}) == {"retried": 0}
    path = f"/v1/project_score/{rule['id']}"
    answer = stack.http("POST", f"{path}/score_recent", {"last": 1})
    assert answer.status == 400
    assert f"there is no function {made['id']}" in answer.error
    config = {**rule["config"]["online"], "status": "paused"}
    assert status(stack, "PATCH", path, {"config": {"online": config}}) == 200


def test_the_functions_of_a_deleted_project_are_gone_for_rules_of_others(
    stack: Stack, project: str
) -> None:
    home = stack.project()
    made = make(stack, alias(home, name="Homeless"))
    stack.ok("POST", "/v1/project_score", rule_over(project, made))
    stack.ok("DELETE", f"/v1/project/{home}")
    log(stack, project, "a")
    (told,) = stack.explain(project, "a")["rules"]
    assert "the function Homeless has been deleted" in told["text"]


def test_score_recent_runs_the_version_that_is_in_force(stack: Stack, project: str) -> None:
    made = make(stack, alias(project, name="Late"))
    rule = stack.ok("POST", "/v1/project_score", rule_over(project, made, status="paused"))
    stack.insert(project, {"id": "a", "output": "o", "expected": "o", **DONE})
    stack.ok("POST", f"/v1/project_score/{rule['id']}/score_recent", {"last": 5})
    stack.wait_until(
        lambda: (stack.row(project, "a") or {})["scores"] == {"Late": 1}, deadline_s=30
    )
    assert versions_used(stack, project, "a") == {"live": made["_xact_id"]}


# --- shadows


def test_a_shadow_is_run_and_stored_and_never_shown(stack: Stack, project: str) -> None:
    first = make(stack, alias(project, "ExactMatch", name="Shadowed"))
    path = f"/v1/function/{first['id']}"
    stack.ok("POST", "/v1/project_score", rule_over(project, first))
    beside = stack.ok("PATCH", path, {
        "function_data": {"type": "global", "name": "Levenshtein"}, "rollout": {"shadow": 1},
    })
    assert beside["_xact_id"] == first["_xact_id"]
    second = beside["rollout"]["version"]
    assert (beside["rollout"]["shadow"], int(second) > int(first["_xact_id"])) == (1, True)

    row = log(stack, project, "a", output="ox")

    assert row["scores"] == {"Shadowed": 0}
    assert len(stack.score_spans(project, "a")) == 1
    assert versions_used(stack, project, "a") == {"live": first["_xact_id"], "shadow": second}
    shadow = next(one for one in outcomes(stack, project, "a") if one["role"] == "shadow")
    assert shadow["scores"][0]["score"] == pytest.approx(0.5)

    promoted = stack.ok("POST", f"{path}/promote", {"version": second})
    assert (promoted["_xact_id"], promoted["rollout"]) == (second, None)
    assert log(stack, project, "b", output="ox")["scores"] == {"Shadowed": pytest.approx(0.5)}
    assert versions_used(stack, project, "b") == {"live": second}
    back = stack.ok("POST", f"{path}/promote", {"version": first["_xact_id"]})
    assert back["function_data"]["name"] == "ExactMatch"


def test_a_shadow_is_set_and_ended_by_hand(stack: Stack, project: str) -> None:
    first = make(stack, alias(project, "ExactMatch"))
    path = f"/v1/function/{first['id']}"
    second = stack.ok("PATCH", path, {"description": "new"})
    shadow = {"version": first["_xact_id"], "rate": 0.25}
    assert stack.ok("POST", f"{path}/shadow", shadow)["rollout"] == {
        "version": first["_xact_id"], "shadow": 0.25
    }
    assert stack.ok("DELETE", f"{path}/shadow")["rollout"] is None
    for body, expected in (
        ({"version": second["_xact_id"], "rate": 0.5}, 400), ({"version": "1", "rate": 1}, 404),
        ({"version": first["_xact_id"], "rate": 2}, 400), ({"rate": 1}, 400),
        ({"version": first["_xact_id"]}, 400),
    ):
        assert status(stack, "POST", f"{path}/shadow", body) == expected
    assert status(stack, "POST", f"{path}/promote", {"version": "1"}) == 404


def test_a_push_beside_the_version_in_force_needs_one(stack: Stack, project: str) -> None:
    body = alias(project, rollout={"shadow": 0.1}, if_exists="replace")
    refused = pushed(stack, body)
    assert refused.status == 400
    assert "rollout" in refused.error
    make(stack, {**body, "rollout": None})
    new = {**body, "description": "new"}
    (told,) = pushed(stack, new).json["functions"]
    beside = stack.ok("GET", f"/v1/function/{told['id']}")["rollout"]
    assert pushed(stack, {**new, "rollout": {"shadow": 0.5}}).status == 200
    again = stack.ok("GET", f"/v1/function/{told['id']}")["rollout"]
    assert again == {"version": beside["version"], "shadow": 0.5}   # the same, at another rate


# --- in files


def test_a_file_of_rules_names_functions_by_their_slugs(
    stack: Stack, tmp_path: Path
) -> None:
    name, other = f"rules {uuid.uuid4().hex[:8]}", f"shared {uuid.uuid4().hex[:8]}"
    project, shared = stack.project(name), stack.project(other)
    own = make(stack, alias(project, slug="own"))
    theirs = make(stack, alias(shared, slug="theirs"))
    text = f"""\
project: {name}
rules:
- name: both
  scorers:
  - type: function
    slug: own
  - type: function
    slug: theirs
    project_name: {other}
    version: '{theirs['_xact_id']}'
  sampling_rate: 1
"""
    file = tmp_path / "rules.yaml"
    file.write_text(text)

    done = stack.tallyard("rules", "apply", str(file))

    assert done.returncode == 0, done.stderr
    (rule,) = stack.ok("GET", f"/v1/project_score?project_id={project}")["objects"]
    assert rule["config"]["online"]["scorers"] == [
        {"type": "function", "id": own["id"]},
        {"type": "function", "id": theirs["id"], "version": theirs["_xact_id"]},
    ]
    assert "no changes" in stack.tallyard("rules", "apply", str(file)).stdout
    assert stack.tallyard("rules", "export", "--project", name).stdout == text

    file.write_text(text.replace("slug: own", "slug: nobody"))
    refused = stack.tallyard("rules", "apply", str(file))
    assert refused.returncode != 0
    assert "no function 'nobody'" in refused.stderr


# --- code


def code(project: str, source: str, runtime: str = "python", **fields: Any) -> dict[str, Any]:
    context = {"runtime": runtime, "version": "3.11" if runtime == "python" else "20"}
    data = {"type": "inline", "runtime_context": context, "code": source}
    return alias(project, function_data={"type": "code", "data": data}, **fields)


def test_code_is_looked_at_once_and_runs_for_a_rule(stack: Stack, project: str) -> None:
    source = "def handler(output, expected):\n    return len(output) / len(expected)\n"
    made = make(stack, code(project, source, name="Length"))
    assert made["function_data"]["data"]["code"] == source
    stack.ok("POST", "/v1/project_score", rule_over(project, made))
    assert log(stack, project, "a", output="x", expected="four")["scores"] == {"Length": 0.25}
    stopped = stack.ok("PATCH", f"/v1/function/{made['id']}", {
        "metadata": {"sandbox": {"isolation": "record", "memory_mb": 256}}})
    assert stopped["_xact_id"] != made["_xact_id"]
    row = log(stack, project, "b", output="xx", expected="four")
    assert row["scores"] == {"Length": 0.5}, stack.explain(project, "b")


@pytest.mark.parametrize(
    ("runtime", "source", "line"),
    [
        ("python", "def handler(output):\n    return (1\n", 2),
        ("python", "x = 1\ndef handler(:\n", 2),
        ("python", "\ufeffdef handler(output)\n    return 1", 1),
        ("python", "def handler(output):\n\treturn 1\n        return 2", 3),
        ("python", "def handler(output):\n    return '\0'", 2),
        ("python", "x = 1\n", None),
        ("python", "#" * (2**20 + 1), None),
        ("node", "export function handler({output}: {output: string}) {\n  return (1;\n}", 2),
        ("node", "const a: number = 1;", None),
        ("node", "import fs from 'node:fs';\nexport const handler = () => fs.rmSync('/');", 1),
        ("node", "export const handler = () => <div/>;", 1),
    ],
)
def test_source_that_is_no_scorer_is_refused_where_it_is_wrong(
    stack: Stack, project: str, runtime: str, source: str, line: int | None
) -> None:
    answer = stack.http("PUT", "/v1/function", code(project, source, runtime))
    assert answer.status == 422, answer.body
    error = answer.json["error"]
    assert error["class"] == "invalid_source"
    if line is not None:
        assert error["line"] == line
    pushed_one = pushed(stack, code(project, source, runtime))
    assert pushed_one.status == 422
    assert "functions[0]" in pushed_one.error
    assert listed(stack, f"project_id={project}") == []


def test_nothing_of_a_source_is_run_when_it_is_looked_at(
    stack: Stack, project: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    tmp_path.chmod(0o777)
    touch = f"open({str(canary)!r}, 'w')"
    make(stack, code(project, (
        f"{touch}\n"
        f"def decorated(f):\n    {touch}\n    return f\n\n"
        f"class C({touch}.__class__): x = {touch}\n\n"
        f"@decorated\ndef handler(output, a={touch}):\n    return 1\n"
    )))
    make(stack, code(project, "while (true) {}\nexport const handler = () => 1;", "node"))
    assert not canary.exists()


def test_a_bundle_that_is_there_is_looked_into_when_a_function_is_made_of_it(
    stack: Stack, project: str
) -> None:
    given = place(stack)
    assert put(given["url"], b"PK no zip at all").status_code == 200
    answer = pushed(stack, bundled(project, given["bundleId"]))
    assert answer.status == 422
    assert answer.json["error"]["class"] == "invalid_source"
    assert "functions[0]" in answer.error

    late = place(stack)
    made = make(stack, bundled(project, late["bundleId"], name="Broken"))
    assert put(late["url"], b"PK no zip at all, too").status_code == 200
    stack.ok("POST", "/v1/project_score", rule_over(project, made))
    log(stack, project, "a")
    (told,) = stack.explain(project, "a")["rules"]
    assert told["status"] == "errored"
    assert "Broken" in told["text"]


def test_typescript_runs_for_a_rule(stack: Stack, project: str) -> None:
    source = (
        "interface Args { output: string; expected: string }\n"
        "export async function handler({ output, expected }: Args): Promise<number> {\n"
        "  return output === expected ? 1 : 0;\n}\n"
    )
    made = make(stack, code(project, source, "node", name="Same"))
    stack.ok("POST", "/v1/project_score", rule_over(project, made))
    assert log(stack, project, "a")["scores"] == {"Same": 1}
