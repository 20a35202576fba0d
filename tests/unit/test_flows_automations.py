"""Automations: made, changed and applied from a file by those who may, and their secrets."""

from __future__ import annotations

from typing import Any

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.automations import SLACK, WEBHOOK, automation_body, fields

from api.automations import automation_json
from automations.model import Automation, AutomationStatus
from automations.outbound.policy import Policy
from automations.secrets import SecretBox, new_signing_secret
from automations.wire import AutomationFields
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage
from flows.automations.automations import PAGE, Automations, WrittenAutomation
from spans.errors import BadInput, Forbidden, NotFound, SetupError
from spans.file_plan import FilePlan
from spans.ids import ProjectId

ENVIRONMENT = {"TOKEN": "Bearer of-nobody", "OTHER": "Bearer of-another"}


class World(MemoryTallyard):
    """Two projects of one organisation."""

    def __init__(self) -> None:
        super().__init__()
        self.app, self.other = self.project("app"), self.project("other")

    def make(
        self, given: AutomationFields | None = None, *, project: ProjectId | None = None,
        caller: Principal | None = None, replace: bool = False,
    ) -> WrittenAutomation:
        return self.automations.make(
            caller or self.admin, project or self.app, given or fields(), replace=replace
        )

    def plan(
        self, *items: Any, project: str = "app", prune: bool = False,
        environment: dict[str, str] | None = None,
    ) -> FilePlan[AutomationFields]:
        content = {"project": project, "automations": [*items]}
        return self.automations.plan_file(
            self.admin, content, environment or ENVIRONMENT, prune=prune
        )

    def apply(self, *items: Any, **more: Any) -> list[WrittenAutomation]:
        return self.automations.apply(self.admin, self.plan(*items, **more))

    def all(self) -> list[Automation]:
        return self.automations.list(self.admin, ListPage(limit=PAGE), project_id=self.app)

    def with_box(self, *keys: str) -> Automations:
        """The use cases with other keys for secrets, over the same stores."""
        return Automations(
            self.stored_automations, projects=self.projects, box=SecretBox(keys),
            check_url=Policy().target, new_secret=new_signing_secret,
        )


@pytest.fixture
def world() -> World:
    return World()


def item(name: str = "errors", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "btql_filter": "error is not null", "interval": "1h", "action": WEBHOOK,
        **more,
    }


# --- who may


def test_only_administrators_change_automations(world):
    made = world.make().automation
    plan = world.plan(item())
    for role in (KeyRole.READ, KeyRole.INGEST):
        caller = world.caller(role)
        for call in (
            lambda caller=caller: world.make(caller=caller),
            lambda caller=caller: world.automations.change(caller, made.id, {}),
            lambda caller=caller: world.automations.delete(caller, made.id),
            lambda caller=caller: world.automations.rotate_secret(caller, made.id),
            lambda caller=caller: world.automations.apply(caller, plan),
            lambda caller=caller: world.automations.plan_file(caller, {}, {}, prune=False),
        ):
            with pytest.raises(Forbidden):
                call()
    assert world.automations.get(world.caller(KeyRole.READ), made.id) == made


def test_an_automation_of_anothers_project_does_not_exist(world):
    made = world.make().automation
    for caller in (world.stranger(), world.caller(project_id=world.other)):
        for call in (
            lambda caller=caller: world.automations.get(caller, made.id),
            lambda caller=caller: world.automations.change(caller, made.id, {}),
            lambda caller=caller: world.automations.delete(caller, made.id),
            lambda caller=caller: world.automations.rotate_secret(caller, made.id),
            lambda caller=caller: world.automations.named(caller, world.app, "errors"),
            lambda caller=caller: world.make(caller=caller),
        ):
            with pytest.raises(NotFound):
                call()
        assert world.automations.list(caller, ListPage(limit=10)) == []


def test_an_automation_is_found_by_its_name_or_id_in_its_project(world):
    made = world.make().automation
    for text in ("errors", str(made.id)):
        assert world.automations.named(world.admin, world.app, text) == made
        with pytest.raises(NotFound, match="the project 'other' has no automation"):
            world.automations.named(world.admin, world.other, text)


# --- secrets


def test_a_webhook_gets_a_secret_once_and_again_after_slack(world):
    made = world.make()
    assert made.secret is not None
    assert world.make(replace=True).secret is None
    assert world.automations.change(
        world.admin, made.automation.id, {"config": {"action": SLACK}}
    ).secret is None
    back = world.automations.change(
        world.admin, made.automation.id, {"config": {"action": WEBHOOK}, "name": "renamed"}
    )
    assert back.secret not in {None, made.secret}
    _, rotated = world.automations.rotate_secret(world.admin, made.automation.id)
    sealed = world.stored_automations.secrets[made.automation.id]
    assert [world.secrets.open(each) for each in sealed] == [back.secret, rotated]


def test_what_is_stored_of_secrets_is_sealed(world):
    made = world.make(fields(action={**WEBHOOK, "authorization": "Bearer of-nobody"}))
    id_ = made.automation.id
    (sealed,) = world.stored_automations.secrets[id_]
    assert world.secrets.open(sealed) == made.secret
    header = world.stored_automations.sealed_authorizations[id_]
    assert world.secrets.open(header) == "Bearer of-nobody"
    assert b"of-nobody" not in header


def test_without_a_key_only_what_has_secrets_is_refused(world):
    automations = world.with_box()
    slack = automations.make(world.admin, world.app, fields(action=SLACK), replace=False)
    assert slack.secret is None
    with pytest.raises(SetupError, match="TALLYARD_SECRET_KEY"):
        automations.make(world.admin, world.app, fields("b"), replace=False)
    assert [each.name for each in world.all()] == ["errors"]


def test_slack_has_no_secret_to_replace(world):
    made = world.make(fields(action=SLACK)).automation
    with pytest.raises(BadInput, match="not signed"):
        world.automations.rotate_secret(world.admin, made.id)


# --- where it may be sent


def test_a_url_is_judged_when_it_is_given_and_not_again(world):
    with pytest.raises(BadInput, match=r"^config\.action\.url: the URL is refused"):
        world.make(fields(action={**WEBHOOK, "url": "https://10.0.0.1/x"}))
    made = world.make().automation
    forbidding = Automations(
        world.stored_automations, projects=world.projects, box=world.secrets,
        check_url=_refuse, new_secret=new_signing_secret,
    )
    paused = forbidding.change(world.admin, made.id, {"config": {"status": "paused"}})
    assert paused.automation.status is AutomationStatus.PAUSED
    with pytest.raises(BadInput, match="nowhere"):
        forbidding.change(
            world.admin, made.id, {"config": {"action": {**WEBHOOK, "url": "https://b.example"}}}
        )


def _refuse(_url: str) -> None:
    raise BadInput("nowhere")


# --- paused by Tallyard


def test_one_that_tallyard_paused_says_why_until_it_goes_on(world):
    made = world.make().automation
    world.stored_automations.disable(made.id, "the receiver is gone (410)")
    paused = world.automations.get(world.admin, made.id)
    shown = automation_json(paused, world.admin)
    assert shown["config"]["status"] == "paused"
    assert shown["disabled"] == {
        "at": paused.disabled_at.isoformat(), "reason": "the receiver is gone (410)"
    }
    going = {"config": {"status": "active"}}
    active = world.automations.change(world.admin, made.id, going).automation
    assert "disabled" not in automation_json(active, world.admin)


# --- files


def test_applying_a_file_makes_the_project_and_all_that_it_lists(world):
    written = world.apply(item("a"), item("b", action=SLACK), project="new")
    assert [each.automation.name for each in written] == ["a", "b"]
    assert [each.secret is None for each in written] == [False, True]
    assert world.plan(item("a"), item("b", action=SLACK), project="new").changes == ()


def test_applying_a_file_deletes_only_if_asked_to(world):
    world.make(fields("old"))
    world.apply(item("a"))
    assert [each.name for each in world.all()] == ["a", "old"]
    world.apply(item("a"), prune=True)
    assert [each.name for each in world.all()] == ["a"]


def test_a_file_that_has_been_applied_changes_nothing_until_a_secret_does(world):
    asked = item(action={**WEBHOOK, "authorization": {"env": "TOKEN"}})
    world.apply(asked)
    assert world.plan(asked).changes == ()
    (change,) = world.plan(asked, environment={"TOKEN": "Bearer of-another"}).changes
    assert "of-another" not in str(change.lines)


def test_what_was_sealed_with_a_lost_key_is_replaced_by_a_file(world):
    asked = item(action={**WEBHOOK, "authorization": {"env": "TOKEN"}})
    world.apply(asked)
    others = world.with_box("quite-another-key-of-the-tests")
    content = {"project": "app", "automations": [asked]}
    plan = others.plan_file(world.admin, content, ENVIRONMENT, prune=False)
    assert len(plan.changes) == 1
    others.apply(world.admin, plan)
    assert others.plan_file(world.admin, content, ENVIRONMENT, prune=False).changes == ()


def test_what_is_exported_can_be_applied_again(world):
    world.make(fields("b", action={**WEBHOOK, "authorization": "Bearer of-nobody"}))
    world.make(fields("a", action=SLACK, status="paused"))
    content = world.automations.export(world.caller(KeyRole.READ), world.app)
    assert [each["name"] for each in content["automations"]] == ["b", "a"]
    plan = world.automations.plan_file(world.admin, content, {}, prune=True)
    assert plan.changes == ()


def test_a_mask_in_a_file_for_another_project_is_refused_at_its_place(world):
    masked = item("b", action={**WEBHOOK, "authorization": "********"})
    with pytest.raises(BadInput, match=r"automations\[1\]: action\.authorization: send the"):
        world.plan(item("a"), masked)


def test_a_url_in_a_file_is_judged_before_it_is_applied(world):
    with pytest.raises(BadInput, match=r"automations\[0\]: action\.url: the URL is refused"):
        world.plan(item(action={**WEBHOOK, "url": "http://example.com"}))


def test_more_automations_than_a_page_are_compared_and_pruned(world):
    many = [item(f"a{number}", action=SLACK) for number in range(PAGE + 1)]
    world.apply(*many)
    assert world.plan(*many).changes == ()
    world.apply(many[0], prune=True)
    assert [each.name for each in world.all()] == ["a0"]


def test_a_change_keeps_what_it_does_not_give(world):
    made = world.make(fields(action={**WEBHOOK, "authorization": "Bearer of-nobody"}))
    changed = world.automations.change(
        world.admin, made.automation.id, {"description": "all errors"}
    ).automation
    assert changed.description == "all errors"
    assert changed.has_authorization
    assert automation_body()["config"]["btql_filter"] == changed.btql_filter
