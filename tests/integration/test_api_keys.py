"""Who may do what: every route, every role, foreign and missing ids."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from stack import Stack
from starlette.routing import BaseRoute, Route

from api.asgi import make_app
from ops.servers.children import wait_until
from wiring.services import open_services

INGEST, READ, ADMIN = "ingest", "read", "admin"
FORMED_S = 60.0
"""How long a busy machine may take to form a notification, seconds."""

OPEN = {("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics"),
        ("GET", "/v1")}
"""What a probe, a scraper or a client that looks for the API asks, without a key; none of it
tells of any span."""

LOGS = "/v1/project_logs/{project_id}"
RULE = "/v1/project_score/{rule_id}"
AUTOMATION = "/v1/project_automation/{automation_id}"
JOB = "/v1/rescore/{job_id}"
BUDGET = "/v1/budget/{budget_id}"
DELIVERY = "/v1/automation_delivery/{delivery_id}"
WITHOUT_BODY = {
    f"{AUTOMATION}/secret", f"{AUTOMATION}/test", f"{DELIVERY}/redeliver",
    *(f"{JOB}/{action}" for action in ("pause", "resume", "cancel", "rollback")),
}
FUNCTION, PROMPT = "/v1/function/{function_id}", "/v1/prompt/{function_id}"
UPLOAD = ("PUT", "/function/code/{bundle_id}/{secret}")
"""What the secret in its URL opens, and no key."""

ROLES: dict[tuple[str, str], set[str]] = {
    ("POST", "/logs3"): {INGEST},
    ("POST", f"{LOGS}/insert"): {INGEST},
    ("POST", f"{LOGS}/feedback"): {INGEST},
    ("GET", f"{LOGS}/fetch"): {READ},
    ("POST", f"{LOGS}/fetch"): {READ},
    ("GET", f"{LOGS}/explain"): {READ},
    ("GET", f"{LOGS}/errors"): {READ},
    ("GET", f"{LOGS}/rejected"): {READ},
    ("GET", "/v1/rejected"): set(),
    ("POST", f"{LOGS}/outcomes/retry"): set(),
    ("POST", "/btql"): {READ},
    ("POST", "/v1/project"): {INGEST},
    ("PUT", "/v1/project"): set(),
    ("GET", "/v1/project"): {READ},
    ("GET", "/v1/project/{project_id}"): {INGEST, READ},
    ("PATCH", "/v1/project/{project_id}"): set(),
    ("DELETE", "/v1/project/{project_id}"): set(),
    ("POST", "/api/project/register"): {INGEST},
    ("GET", "/api/project"): {INGEST, READ},
    ("POST", "/v1/project_score"): set(),
    ("PUT", "/v1/project_score"): set(),
    ("GET", "/v1/project_score"): {READ},
    ("GET", RULE): {READ},
    ("PATCH", RULE): set(),
    ("DELETE", RULE): set(),
    ("POST", f"{RULE}/score_recent"): set(),
    ("POST", "/v1/project_automation"): set(),
    ("PUT", "/v1/project_automation"): set(),
    ("GET", "/v1/project_automation"): {READ},
    ("GET", AUTOMATION): {READ},
    ("PATCH", AUTOMATION): set(),
    ("DELETE", AUTOMATION): set(),
    ("POST", f"{AUTOMATION}/secret"): set(),
    ("GET", f"{AUTOMATION}/history"): {READ},
    ("POST", f"{AUTOMATION}/test"): set(),
    ("POST", "/v1/project_automation/test"): set(),
    ("GET", f"{AUTOMATION}/deliveries"): {READ},
    ("POST", f"{AUTOMATION}/redeliver"): set(),
    ("GET", DELIVERY): {READ},
    ("POST", f"{DELIVERY}/redeliver"): set(),
    ("PUT", "/v1/budget"): set(),
    ("GET", "/v1/budget"): {READ},
    ("DELETE", BUDGET): set(),
    ("POST", "/v1/rescore"): set(),
    ("GET", "/v1/rescore"): {READ},
    ("GET", JOB): {READ},
    ("PATCH", JOB): set(),
    ("GET", f"{JOB}/report"): {READ},
    ("POST", f"{JOB}/pause"): set(),
    ("POST", f"{JOB}/resume"): set(),
    ("POST", f"{JOB}/cancel"): set(),
    ("POST", f"{JOB}/rollback"): set(),
    ("POST", "/v1/function"): set(),
    ("PUT", "/v1/function"): set(),
    ("GET", "/v1/function"): {READ},
    ("GET", FUNCTION): {READ},
    ("PATCH", FUNCTION): set(),
    ("DELETE", FUNCTION): set(),
    ("GET", f"{FUNCTION}/versions"): {READ},
    ("GET", f"{FUNCTION}/shadow"): {READ},
    ("POST", f"{FUNCTION}/shadow"): set(),
    ("DELETE", f"{FUNCTION}/shadow"): set(),
    ("POST", f"{FUNCTION}/promote"): set(),
    ("POST", f"{FUNCTION}/invoke"): {INGEST},
    ("POST", f"{FUNCTION}/diff"): set(),
    ("POST", "/v1/function/test"): set(),
    ("POST", "/function/invoke"): {INGEST},
    ("POST", "/v1/prompt"): set(),
    ("PUT", "/v1/prompt"): set(),
    ("GET", "/v1/prompt"): {INGEST, READ},
    ("GET", PROMPT): {INGEST, READ},
    ("PATCH", PROMPT): set(),
    ("DELETE", PROMPT): set(),
    ("POST", "/insert-functions"): set(),
    ("POST", "/function/code"): set(),
    ("GET", "/api/apikey/login"): {INGEST, READ},
    ("POST", "/api/apikey/login"): {INGEST, READ},
    ("GET", "/version"): {INGEST, READ},
    ("GET", "/ping"): {INGEST, READ},
}
"""The roles beside admin, which may do everything."""

CASES = [
    pytest.param(method, path, role, id=f"{role or 'nobody'} {method} {path}")
    for (method, path) in ROLES for role in (INGEST, READ, ADMIN)
]


def routes_of(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        assert isinstance(route, Route), f"{route}: teach this test about it"
        for method in route.methods or set():
            if method != "HEAD":
                yield method, route.path


@dataclass(frozen=True)
class World:
    """Two projects of one organisation, and a stranger. The function's shadow is its older
    version."""

    stack: Stack
    project: str
    rule: str
    automation: str
    delivery: str
    function: str
    older: str
    version: str
    prompt: str
    neighbour_key: str
    stranger_key: str

    def request(self, method: str, path: str, *, missing: bool = False) -> dict[str, Any]:
        """The arguments of a request that an admin would succeed with, or of the same for
        what does not exist."""
        nothing = str(uuid.uuid4())
        function = self.prompt if path == PROMPT else self.function
        project, rule, automation, delivery, function = (
            nothing if missing else each
            for each in (self.project, self.rule, self.automation, self.delivery, function)
        )
        job = self.job(path) if path.startswith(JOB) and not missing else nothing
        budget = self.budget() if path == BUDGET and not missing else nothing
        event = {"id": "a", "input": 1}
        bodies: dict[str, Any] = {
            "/logs3": {"rows": [{**event, "project_id": project}]},
            f"{LOGS}/insert": {"events": [event]},
            f"{LOGS}/feedback": {"feedback": [{"id": "a", "scores": {"s": 1}}]},
            f"{LOGS}/fetch": {"limit": 1},
            f"{LOGS}/outcomes/retry": {"class": "timeout"},
            "/btql": {"query": f"select: * | from: project_logs('{project}') | limit: 1"},
            "/v1/project": {"name": f"made {uuid.uuid4().hex}"},
            "/v1/project/{project_id}": {"description": "changed"},
            "/api/project/register": {"project_name": f"made {uuid.uuid4().hex}"},
            "/v1/project_score": {
                "project_id": project, "name": "slider", "score_type": "slider",
            },
            RULE: {"description": "changed"},
            f"{RULE}/score_recent": {"last": 1},
            "/v1/project_automation": alert(project, "made"),
            "/v1/project_automation/test": alert(project, "tried"),
            AUTOMATION: {"description": "changed"},
            f"{AUTOMATION}/redeliver": {"since": "2026-01-01T00:00:00Z"},
            "/v1/rescore": {"project_id": project, "filter": "", "scorers": ["ValidJSON"]},
            "/v1/budget": {"project_id": project, "period": "day", "calls": 10**9},
            JOB: {"max_per_second": 5},
            "/v1/function": alias(project, "made"),
            FUNCTION: {"description": "changed"},
            f"{FUNCTION}/shadow": {"version": self.older, "rate": 0.5},
            f"{FUNCTION}/promote": {"version": self.version},
            f"{FUNCTION}/invoke": {"input": {"output": "a", "expected": "a"}},
            f"{FUNCTION}/diff": {"from": self.older, "last": 1},
            "/v1/function/test": {"function_id": function, "project_id": project, "last": 1},
            "/function/invoke": {
                "function_id": function, "input": {"output": "a", "expected": "a"},
            },
            "/v1/prompt": prompt(project, "made too"),
            PROMPT: {"description": "changed"},
            "/insert-functions": {"functions": [alias(project, "x", if_exists="ignore")]},
            "/function/code": {"runtime_context": {"runtime": "python", "version": "3.11"}},
        }
        query = {
            f"{LOGS}/explain": "?id=a", "/api/project": f"?id={project}",
            "/v1/budget": f"?project_id={project}", "/v1/rescore": f"?project_id={project}",
        }.get(path, "")
        given = path.format(
            project_id=project, rule_id=rule, automation_id=automation, delivery_id=delivery,
            function_id=function, job_id=job, budget_id=budget,
        )
        body = bodies.get(path) if method in {"POST", "PUT", "PATCH"} else None
        return {"method": method, "path": given + query, "body": body}


    def budget(self) -> str:
        """A budget that is far from spent."""
        body = {"project_id": self.project, "period": "total", "calls": 10**9}
        return str(self.stack.ok("PUT", "/v1/budget", body)["id"])

    def job(self, path: str) -> str:
        """A job that is not over, or one that is cancelled for a path that needs its end."""
        job = self.stack.ok("POST", "/v1/rescore", {
            "project_id": self.project, "filter": "", "scorers": ["ValidJSON"],
            "max_per_second": 0.001,
        })["id"]
        if path.endswith("rollback"):
            self.stack.ok("POST", f"/v1/rescore/{job}/cancel", {})
            assert wait_until(
                lambda: self.stack.ok("GET", f"/v1/rescore/{job}")["state"] == "cancelled",
                deadline_s=FORMED_S,
            )
        return job


def alias(project: str, slug: str, **fields: str) -> dict[str, Any]:
    data = {"type": "global", "name": "ExactMatch"}
    return {"project_id": project, "name": slug, "slug": slug, "function_data": data, **fields}


def alert(project: str, name: str) -> dict[str, Any]:
    return {"project_id": project, "name": name, "config": {
        "event_type": "logs", "btql_filter": "", "interval_seconds": 60,
        "action": {"type": "webhook", "url": "http://127.0.0.1:9/hook"},   # nobody is there
    }}


def prompt(project: str, slug: str) -> dict[str, Any]:
    return {"project_id": project, "name": slug, "slug": slug, "prompt_data": {}}


def make_world(stack: Stack) -> World:
    project, neighbour = stack.project(), stack.project()
    rule = stack.rule(project, "ExactMatch")
    stack.insert(project, {"id": "a", "input": 1, "output": "a", "expected": "a"})
    ended = {"output": "{}", "metrics": {"start": 1, "end": 2}}
    stack.insert(project, *({"id": f"ended {number}", **ended} for number in range(5)))
    first = stack.ok("POST", "/v1/function", alias(project, "mine"))
    second = stack.ok("PATCH", f"/v1/function/{first['id']}", {"description": "second"})
    shadow = {"version": first["_xact_id"], "rate": 0.5}
    stack.ok("POST", f"/v1/function/{first['id']}/shadow", shadow)
    automation = stack.ok("POST", "/v1/project_automation", alert(project, "mine"))["id"]
    stack.insert(project, {"id": "b"})
    return World(
        stack=stack, project=project, rule=rule, function=first["id"],
        automation=automation, delivery=delivery_of(stack, automation),
        older=first["_xact_id"], version=second["_xact_id"],
        prompt=stack.ok("POST", "/v1/prompt", prompt(project, "words"))["id"],
        neighbour_key=stack.new_key(ADMIN, project=neighbour),
        stranger_key=stack.new_key(ADMIN, org="strangers"),
    )


def delivery_of(stack: Stack, automation: str) -> str:
    """The id of the automation's first notification, once it has been formed."""
    found: list[str] = []

    def is_formed() -> bool:
        listed = stack.ok("GET", f"/v1/project_automation/{automation}/deliveries")
        found.extend(each["id"] for each in listed["objects"])
        return bool(found)

    assert wait_until(is_formed, deadline_s=FORMED_S)
    return found[0]


@pytest.fixture(scope="module")
def world(stack: Stack) -> World:
    """Nothing in it is ever deleted."""
    return make_world(stack)


def test_every_route_is_in_the_table_of_roles_or_of_open_routes(stack: Stack) -> None:
    services = open_services(stack.settings)
    try:
        served = set(routes_of(make_app(services).routes))
    finally:
        services.close()
    assert served == ROLES.keys() | OPEN | {UPLOAD}


@pytest.mark.parametrize(("method", "path", "role"), CASES)
def test_a_key_may_do_what_its_role_allows_and_nothing_else(
    stack: Stack, world: World, method: str, path: str, role: str
) -> None:
    if method == "DELETE" or (method, path) == ("GET", f"{FUNCTION}/shadow"):
        world = make_world(stack)     # a change of the function ends its shadow
    asked = world.request(method, path)

    answer = stack.http(**asked, key=stack.key(role))

    allowed = role == ADMIN or role in ROLES[method, path]
    assert answer.status == (200 if allowed else 403), answer.body
    if not allowed:
        assert role in answer.error


@pytest.mark.parametrize(("method", "path"), ROLES)
def test_without_a_key_nothing_is_answered(world: World, method: str, path: str) -> None:
    asked = world.request(method, path)

    answer = world.stack.http(**asked, key="")

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_open_routes_answer_without_a_key(world: World, method: str, path: str) -> None:
    assert world.stack.http(method, path, key="").status == 200


@pytest.mark.parametrize("whose", ["neighbour_key", "stranger_key"])
@pytest.mark.parametrize(
    ("method", "path"), [each for each in ROLES if "{" in each[1]] + [
        ("POST", "/btql"), ("GET", "/api/project"), ("POST", "/v1/project_score"),
        ("PUT", "/v1/project_score"), ("POST", "/v1/project_automation"),
        ("PUT", "/v1/project_automation"), ("POST", "/v1/project_automation/test"),
        ("POST", "/v1/function"), ("PUT", "/v1/function"), ("POST", "/v1/prompt"),
        ("PUT", "/v1/prompt"), ("POST", "/insert-functions"),
        ("POST", "/function/invoke"), ("POST", "/v1/function/test"),
    ],
)
def test_anothers_id_is_answered_like_one_that_does_not_exist(
    world: World, method: str, path: str, whose: str
) -> None:
    key = getattr(world, whose)
    foreign = world.request(method, path)
    missing = world.request(method, path, missing=True)

    answer = world.stack.http(**foreign, key=key)
    expected = world.stack.http(**missing, key=key)

    assert (answer.status, expected.status) == (404, 404), answer.body
    assert answer.body == expected.body


@pytest.mark.parametrize("whose", ["neighbour_key", "stranger_key"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        each for each in ROLES
        if "{" in each[1] and each[0] in {"POST", "PATCH", "PUT"}
        and each[1] not in WITHOUT_BODY
    ],
)
def test_reach_is_checked_before_the_body_is_read(
    world: World, method: str, path: str, whose: str
) -> None:
    foreign = world.request(method, path)
    key = getattr(world, whose)

    answer = world.stack.http(method, foreign["path"], b"not JSON", key=key)

    assert answer.status == 404, answer.body
    assert world.stack.http(method, foreign["path"], b"not JSON").status == 400


def test_logs3_rejects_rows_for_anothers_project(world: World) -> None:
    rows = [{"id": "stolen", "project_id": world.project, "input": "mine now"}]

    for key in (world.neighbour_key, world.stranger_key):
        answer = world.stack.http("POST", "/logs3", {"rows": rows}, key=key)
        assert answer.status == 404
        assert answer.error == (
            f"nothing was stored: no such project: '{world.project}' (row 'stolen')"
        )
    assert world.stack.row(world.project, "stolen") is None


def test_lists_show_only_what_the_key_may_reach(world: World) -> None:
    for key in (world.neighbour_key, world.stranger_key):
        projects = world.stack.ok("GET", "/v1/project", key=key)["objects"]
        assert world.project not in [each["id"] for each in projects]
        rules = world.stack.ok("GET", "/v1/project_score", key=key)["objects"]
        assert world.rule not in [each["id"] for each in rules]
        automations = world.stack.ok("GET", "/v1/project_automation", key=key)["objects"]
        assert world.automation not in [each["id"] for each in automations]
        path = f"/v1/project_score?project_id={world.project}"
        assert world.stack.http("GET", path, key=key).json.get("objects", []) == []
        for kind in ("function", "prompt"):
            found = world.stack.ok("GET", f"/v1/{kind}", key=key)["objects"]
            assert not {world.function, world.prompt} & {each["id"] for each in found}


def test_an_id_that_is_no_uuid_is_not_found(world: World) -> None:
    for path in ("/v1/project/x", "/v1/project_score/x", "/v1/project_logs/x/fetch"):
        assert world.stack.http("GET", path).status == 404


KEYS = {
    "unknown": "sk-AAAAAAAAAAAA-" + "a" * 43,
    "no key of ours": "sk-proj-1234",
    "10 kB": "sk-" + "a" * 10_000,
    "quote": "sk-' or 1=1 --",
    "percent": "%00%0d%0a",
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_none_of_ours_is_refused_in_the_same_words(
    world: World, name: str
) -> None:
    answer = world.stack.http(
        "GET", "/ping", key="", headers={"authorization": f"Bearer {KEYS[name]}"}
    )

    assert answer.status == 401
    assert answer.error == "Invalid API key: make one with `tallyard keys create`"


def test_a_key_of_one_project_finds_that_project_and_makes_no_other(world: World) -> None:
    stack = world.stack
    own = stack.project()
    name = stack.ok("GET", f"/v1/project/{own}")["name"]
    for role in (INGEST, ADMIN):
        key = stack.new_key(role, project=own)
        assert stack.ok("POST", "/v1/project", {"name": name}, key=key)["id"] == own
        registered = stack.ok("POST", "/api/project/register", {"project_name": name}, key=key)
        assert registered["project"]["id"] == own
        answer = stack.http("POST", "/v1/project", {"name": f"not {name}"}, key=key)
        assert answer.status in {403, 404}
    assert f"not {name}" not in stack.projects()


def test_a_right_id_with_a_wrong_secret_is_refused_like_an_unknown_key(world: World) -> None:
    key = world.stack.new_key()
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")

    answer = world.stack.http("GET", "/ping", key=wrong)
    unknown = world.stack.http("GET", "/ping", key=KEYS["unknown"])

    assert answer.status == unknown.status == 401
    assert answer.body == unknown.body


def test_a_revoked_key_stops_working_within_5_s(world: World) -> None:
    key = world.stack.new_key()
    assert world.stack.http("GET", "/ping", key=key).status == 200

    world.stack.revoke(key)

    world.stack.wait_until(
        lambda: world.stack.http("GET", "/ping", key=key).status == 401, deadline_s=5
    )


def test_a_key_in_the_query_string_is_not_accepted(world: World) -> None:
    key = world.stack.key()

    for name in ("api_key", "key", "token", "authorization"):
        assert world.stack.http("GET", f"/ping?{name}={key}", key="").status == 401
    assert key not in world.stack.log_text("api")


def test_other_schemes_than_bearer_are_refused(world: World) -> None:
    key = world.stack.key()

    for header in (f"Basic {key}", key, "Bearer", f"Token {key}"):
        answer = world.stack.http("GET", "/ping", key="", headers={"authorization": header})
        assert answer.status == 401


def test_keys_are_made_listed_and_revoked_on_the_command_line(stack: Stack) -> None:
    name = stack.ok("GET", f"/v1/project/{stack.project()}")["name"]
    made = stack.tallyard(
        "keys", "create", "--json", "--role", "read", "--project", name, "--name", "of a test"
    )
    key = json.loads(made.stdout)["key"]
    key_id = key.split("-")[1]

    assert [each["name"] for each in stack.ok("GET", "/v1/project", key=key)["objects"]] == [
        name
    ]
    assert stack.http("POST", "/v1/project", {"name": "x"}, key=key).status == 403
    listed = stack.tallyard("keys", "list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith(key_id)]
    assert "read" in line
    assert "valid" in line
    assert "of a test" in line
    assert key not in listed
    assert stack.tallyard("keys", "revoke", key_id).returncode == 0
    listed = stack.tallyard("keys", "list").stdout
    assert f"{key_id}  read    revoked" in listed
    missing = stack.tallyard("keys", "revoke", "nothing")
    assert (missing.returncode, "keys list" in missing.stderr) == (1, True)
