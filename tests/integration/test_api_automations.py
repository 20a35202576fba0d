"""Automations over HTTP: how they are made, shown, changed and refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from stack import Stack

ALL = "/v1/project_automation"
URL = "https://example.com/hook"
SLACK_URL = "https://hooks.slack.com/services/T0/B0/secret"


@pytest.fixture
def project(stack: Stack) -> str:
    return stack.project()


def alert(project: str, name: str = "errors", **config: Any) -> dict[str, Any]:
    return {"project_id": project, "name": name, "config": {
        "event_type": "logs", "btql_filter": "error is not null", "interval_seconds": 3600,
        "action": {"type": "webhook", "url": URL}, **config,
    }}


def refusal(
    stack: Stack, body: dict[str, Any], *, method: str = "POST", path: str = ALL
) -> str:
    """Why the API refuses it."""
    answer = stack.http(method, path, body)
    assert answer.status == 400, answer.body
    return answer.error


def test_an_automation_is_shown_as_it_was_sent(stack: Stack, project: str) -> None:
    body = alert(project, description="every error")
    body["description"] = body["config"].pop("description")

    made = stack.ok("POST", ALL, body)

    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert made == {
        "id": made["id"], "project_id": project, "user_id": None, "created": made["created"],
        "name": "errors", "description": "every error",
        "config": {**body["config"], "status": "active"},
    }
    assert stack.ok("GET", f"{ALL}/{made['id']}") == made


def test_a_name_that_exists_is_found_by_post_and_replaced_by_put(
    stack: Stack, project: str
) -> None:
    made = stack.ok("POST", ALL, alert(project))
    found = stack.http("POST", ALL, alert(project, interval_seconds=60))
    assert found.headers["x-bt-found-existing"] == "true"
    assert found.json == {name: made[name] for name in made if name != "secret"}

    put = stack.ok("PUT", ALL, alert(project, interval_seconds=60))

    assert (put["id"], put["config"]["interval_seconds"]) == (made["id"], 60)
    assert "secret" not in put


def test_a_patch_replaces_the_fields_that_it_gives(stack: Stack, project: str) -> None:
    made = stack.ok("POST", ALL, alert(project))
    path = f"{ALL}/{made['id']}"

    paused = stack.ok("PATCH", path, {"config": {"status": "paused"}})
    renamed = stack.ok("PATCH", path, {"name": "all", "config": {"btql_filter": ""}})

    assert paused["config"] == {**made["config"], "status": "paused"}
    assert renamed["name"] == "all"
    assert renamed["config"] == {**paused["config"], "btql_filter": ""}


def test_a_deleted_automation_is_shown_once_more_and_gone(stack: Stack, project: str) -> None:
    made = stack.ok("POST", ALL, alert(project))
    path = f"{ALL}/{made['id']}"

    assert stack.ok("DELETE", path)["id"] == made["id"]

    for method in ("GET", "PATCH", "DELETE"):
        assert stack.http(method, path, {} if method == "PATCH" else None).status == 404


def test_a_list_is_limited_by_what_is_asked(stack: Stack, project: str) -> None:
    for name in ("a", "b", "c"):
        stack.ok("POST", ALL, alert(project, name))

    def names(query: str) -> list[str]:
        found = stack.ok("GET", f"{ALL}?project_id={project}{query}")["objects"]
        return [each["name"] for each in found]

    assert names("") == ["c", "b", "a"]
    assert names("&limit=2") == ["c", "b"]
    assert names("&project_automation_name=b") == ["b"]
    assert names(f"&starting_after={one(stack, project, 'b')['id']}") == ["a"]
    assert names(f"&ids={one(stack, project, 'a')['id']}") == ["a"]


def one(stack: Stack, project: str, name: str) -> dict[str, Any]:
    path = f"{ALL}?project_id={project}&project_automation_name={name}"
    (found,) = stack.ok("GET", path)["objects"]
    return found


def test_an_authorization_is_never_shown_and_stays_if_its_mask_comes_back(
    stack: Stack, project: str
) -> None:
    action = {"type": "webhook", "url": URL, "authorization": "Bearer of-nobody"}
    made = stack.ok("POST", ALL, alert(project, action=action))
    shown = made["config"]["action"]
    assert shown == {**action, "authorization": "********"}
    path = f"{ALL}/{made['id']}"

    kept = stack.ok("PATCH", path, {"config": {"action": {**shown, "headers": {"X-A": "1"}}}})
    assert kept["config"]["action"]["authorization"] == "********"
    moved = {"config": {"action": {**shown, "url": "https://elsewhere.example/hook"}}}
    assert "send the value again" in refusal(stack, moved, method="PATCH", path=path)
    gone = stack.ok("PATCH", path, {"config": {"action": {"type": "webhook", "url": URL}}})
    assert "authorization" not in gone["config"]["action"]
    assert "send the value itself" in refusal(
        stack, {"config": {"action": shown}}, method="PATCH", path=path
    )


def test_only_administrators_see_a_url_of_slack(stack: Stack, project: str) -> None:
    action = {"type": "slack", "url": SLACK_URL}
    made = stack.ok("POST", ALL, alert(project, action=action))
    assert "secret" not in made
    assert made["config"]["action"] == action
    path = f"{ALL}/{made['id']}"

    hidden = stack.ok("GET", path, key=stack.key("read"))["config"]["action"]

    assert hidden == {"type": "slack", "url": "https://hooks.slack.com/********"}
    stays = stack.ok("PATCH", path, {"config": {"action": hidden}})
    assert stays["config"]["action"] == action


def test_a_secret_is_shown_when_it_is_made_and_when_it_is_replaced(
    stack: Stack, project: str
) -> None:
    made = stack.ok("POST", ALL, alert(project))
    path = f"{ALL}/{made['id']}"

    anew = stack.ok("POST", f"{path}/secret")

    assert anew["secret"].startswith("whsec_")
    assert anew["secret"] != made["secret"]
    assert "secret" not in stack.ok("GET", path)
    slack = {"config": {"action": {"type": "slack", "url": SLACK_URL}}}
    assert "secret" not in stack.ok("PATCH", path, slack)
    assert "not signed" in refusal(stack, {}, path=f"{path}/secret")
    back = {"config": {"action": {"type": "webhook", "url": URL}}}
    assert stack.ok("PATCH", path, back)["secret"] not in {made["secret"], anew["secret"]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an export": ({"event_type": "btql_export"}, "config.event_type: there are no automations"),
    "an unknown type": ({"event_type": "x"}, "config.event_type: must be 'logs'"),
    "no filter": ({"btql_filter": None}, "config.btql_filter: "),
    "a wrong filter": ({"btql_filter": "error ="}, "config.btql_filter: "),
    "half a second": ({"interval_seconds": 0.5}, "config.interval_seconds: "),
    "no time": ({"interval_seconds": 0}, "config.interval_seconds: "),
    "31 days": ({"interval_seconds": 2_678_400}, "config.interval_seconds: "),
    "an app of Slack": (
        {"action": {"type": "slack", "workspace_id": "T0", "channel": "C0"}},
        '{"type": "slack", "url": ',
    ),
    "a prompt": (
        {"action": {"type": "webhook", "url": URL, "formatting_prompt": "be brief"}},
        "config.action: there is no formatting_prompt",
    ),
    "another action": ({"action": {"type": "email"}}, "config.action: type must be"),
    "a password in the URL": (
        {"action": {"type": "webhook", "url": "https://me:secret@example.com"}},
        "config.action.url: the URL must not hold",
    ),
    "a private address": (
        {"action": {"type": "slack", "url": "https://10.0.0.1/x"}}, "TALLYARD_OUTBOUND_ALLOW="
    ),
    "no URL": ({"action": {"type": "webhook", "url": "https://["}}, "config.action.url: "),
    "a header of the connection": (
        {"action": {"type": "webhook", "url": URL, "headers": {"Host": "x"}}},
        "config.action.headers: 'Host' cannot be sent",
    ),
    "two lines": (
        {"action": {"type": "webhook", "url": URL, "headers": {"X-A": "a\r\nb"}}},
        "config.action.headers: the value of X-A",
    ),
    "the mask of nothing": (
        {"action": {"type": "webhook", "url": URL, "authorization": "********"}},
        "config.action.authorization: send the value itself",
    ),
    "the mask of no URL": (
        {"action": {"type": "slack", "url": "https://hooks.slack.com/********"}},
        "config.action.url: send the whole URL",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_here_is_refused_with_what_to_do(
    stack: Stack, project: str, name: str
) -> None:
    config, reason = REFUSED[name]

    for method in ("POST", "PUT"):
        assert reason in refusal(stack, alert(project, **config), method=method)
    assert stack.ok("GET", f"{ALL}?project_id={project}")["objects"] == []


def test_an_automation_needs_its_project(stack: Stack, project: str) -> None:
    body = alert(project)
    del body["project_id"]
    assert "project_id: missing" in refusal(stack, body)
    assert stack.http("POST", ALL, alert(str(uuid.uuid4()))).status == 404


def test_a_history_is_told_with_the_present_state(stack: Stack, project: str) -> None:
    made = stack.ok("POST", ALL, alert(project))
    told = stack.ok("GET", f"{ALL}/{made['id']}/history?limit=5")
    assert told["present"]["is_active"] is True
    assert told["present"]["collected"] == 0
    assert told["present"]["text"].startswith("It has watched since ")
    assert told["entries"] == []
    assert told["cursor"] is None

    for query in ("limit=0", "limit=1001", "cursor=p0001"):
        answer = stack.http("GET", f"{ALL}/{made['id']}/history?{query}")
        assert answer.status == 400, answer.body
