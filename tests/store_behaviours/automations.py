"""What every store of automations does."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

import pytest
from store_behaviours.access import BothStores, create, new_org

from automations.model import Automation, AutomationStatus, SlackAction, WebhookAction
from automations.wire import AutomationFields, read_automation
from flows.access.projects import ListPage
from flows.automations.automations import AutomationStore, AutomationWrite
from spans.errors import BadInput, NotFound
from spans.ids import AutomationId, OrgId, ProjectId

PAGE = ListPage(limit=100)
WEBHOOK = {"type": "webhook", "url": "https://example.com/hook"}
SLACK = {"type": "slack", "url": "https://hooks.slack.com/services/T/B/x"}


def automation_body(name: str = "errors", **config: Any) -> dict[str, Any]:
    return {"name": name, "config": {
        "event_type": "logs", "btql_filter": "error is not null", "interval_seconds": 3600,
        "action": WEBHOOK, **config,
    }}


def fields(name: str = "errors", **config: Any) -> AutomationFields:
    return read_automation(automation_body(name, **config))


def written(
    given: AutomationFields, *, secret: bytes | None = None,
    authorization: bytes | None = None, keeps: bool = False,
) -> AutomationWrite:
    return AutomationWrite(
        new_id=AutomationId(uuid.uuid4()), fields=given, secret=secret,
        authorization=authorization, keeps_authorization=keeps,
    )


@dataclass(kw_only=True)
class AutomationStores:
    """The store of automations of one database, and an organisation of its own in it."""

    automations: AutomationStore
    projects: BothStores

    def __post_init__(self) -> None:
        self.org = new_org(self.projects)
        self.app = self.project("app")

    def project(self, name: str) -> ProjectId:
        return create(self.projects, self.org, name)[0].id

    def put(
        self, *given: AutomationFields, project: ProjectId | None = None, replace: bool = False,
        **secrets: Any,
    ) -> list[tuple[Automation, bool]]:
        return self.automations.put_automations(
            project or self.app, given, lambda each, _: written(each, **secrets),
            created_by="a key", replace=replace,
        )

    def make(self, given: AutomationFields | None = None, **more: Any) -> Automation:
        ((made, _),) = self.put(given or fields(), **more)
        return made

    def change(
        self, automation: Automation, given: AutomationFields, **more: Any
    ) -> Automation:
        return self.automations.change_automation(
            automation, lambda _: written(given, **more)
        )

    def names(self, project: ProjectId | None = None, **page: object) -> list[str]:
        given = ListPage(**{"limit": 100, **page})
        return [
            each.name for each in self.automations.list_automations(self.org, given, project)
        ]


class AutomationBehaviours:
    """A subclass has a fixture `stores` that gives AutomationStores."""

    def test_an_automation_is_stored_as_it_was_sent(self, stores: AutomationStores) -> None:
        webhook = stores.make(fields(
            "a", action={**WEBHOOK, "headers": {"X-Team": "a"}}, status="paused"
        ))
        slack = stores.make(fields("b", action=SLACK, btql_filter=""))

        assert (webhook.action, webhook.status) == (
            WebhookAction(url=WEBHOOK["url"], headers={"X-Team": "a"}), AutomationStatus.PAUSED
        )
        assert (webhook.btql_filter, webhook.interval_s) == ("error is not null", 3600)
        assert (webhook.created_by, webhook.disabled_at) == ("a key", None)
        assert (slack.action, slack.status, slack.btql_filter) == (
            SlackAction(url=SLACK["url"]), AutomationStatus.ACTIVE, ""
        )
        assert stores.automations.find_automation(stores.org, webhook.id) == webhook

    def test_a_name_is_one_automation_of_its_project(self, stores: AutomationStores) -> None:
        made = stores.make()
        elsewhere = stores.make(project=stores.project("other"))
        changed = fields(interval_seconds=60)

        assert elsewhere.id != made.id
        assert stores.put(changed) == [(made, True)]
        replaced = stores.put(changed, replace=True)
        assert replaced == [(replace(made, interval_s=60), True)]

    def test_many_are_written_at_once_in_their_order(self, stores: AutomationStores) -> None:
        stores.make(fields("b"))
        done = stores.put(
            fields("a"), fields("b", interval_seconds=60), fields("c"), replace=True
        )

        assert [(each.name, existed) for each, existed in done] == [
            ("a", False), ("b", True), ("c", False)
        ]
        assert done[1][0].interval_s == 60
        assert stores.names() == ["c", "a", "b"]

    def test_what_is_written_is_decided_by_the_present_automation(
        self, stores: AutomationStores
    ) -> None:
        made = stores.make(fields("a"))
        seen: list[Automation | None] = []

        def write(given: AutomationFields, present: Automation | None) -> AutomationWrite:
            seen.append(present)
            return written(given)

        def put(*, replace: bool) -> None:
            stores.automations.put_automations(
                stores.app, [fields("a"), fields(f"new {replace}")], write, created_by="a key",
                replace=replace,
            )

        put(replace=False)
        assert seen == [None]
        put(replace=True)
        assert sorted(seen, key=lambda each: each is not None) == [None, None, made]

    def test_nothing_is_written_if_one_of_many_is_refused(
        self, stores: AutomationStores
    ) -> None:
        stores.make(fields("b"))

        def write(given: AutomationFields, present: Automation | None) -> AutomationWrite:
            if given.name == "refused":
                raise BadInput("refused")
            return written(given)

        with pytest.raises(BadInput):
            stores.automations.put_automations(
                stores.app, [fields("a"), fields("b", interval_seconds=5), fields("refused")],
                write, created_by="a key", replace=True,
            )
        (left,) = stores.automations.list_automations(stores.org, PAGE, None)
        assert (left.name, left.interval_s) == ("b", 3600)

    def test_only_what_signs_has_a_secret_to_replace(self, stores: AutomationStores) -> None:
        made = stores.make(secret=b"first")

        assert stores.automations.rotate_secret(made.id, b"second")
        stores.change(made, fields(interval_seconds=60))
        assert stores.automations.rotate_secret(made.id, b"third")
        stores.change(made, fields(action=SLACK))
        assert not stores.automations.rotate_secret(made.id, b"fourth")
        assert not stores.automations.rotate_secret(AutomationId(uuid.uuid4()), b"fifth")

    def test_an_authorization_is_kept_replaced_or_taken_away(
        self, stores: AutomationStores
    ) -> None:
        made = stores.make(authorization=b"sealed")

        def has(**change: Any) -> bool:
            return stores.change(made, fields(), **change).has_authorization

        assert made.has_authorization
        assert [has(keeps=True), has(), has(keeps=True), has(authorization=b"new")] == [
            True, False, False, True
        ]
        stores.make(fields("without"))
        assert stores.automations.authorizations(stores.app) == {made.id: b"new"}

    def test_an_automation_is_found_in_its_own_organisation_only(
        self, stores: AutomationStores
    ) -> None:
        made = stores.make()

        other = OrgId(uuid.uuid4())
        assert stores.automations.find_automation(other, made.id) is None
        assert stores.automations.list_automations(other, PAGE, None) == []
        unknown = AutomationId(uuid.uuid4())
        assert stores.automations.find_automation(stores.org, unknown) is None

    def test_the_automations_of_a_deleted_project_are_hidden(
        self, stores: AutomationStores
    ) -> None:
        made = stores.make()
        stores.projects.delete_project(stores.app)

        assert stores.automations.find_automation(stores.org, made.id) is None
        assert stores.names() == stores.names(stores.app) == []

    def test_a_list_is_newest_first_and_limited_by_each_filter(
        self, stores: AutomationStores
    ) -> None:
        first, second = stores.make(fields("a")), stores.make(fields("b"))
        stores.make(fields("c"), project=stores.project("other"))

        assert stores.names() == ["c", "b", "a"]
        assert stores.names(stores.app) == ["b", "a"]
        assert stores.names(stores.app, limit=1) == ["b"]
        assert stores.names(starting_after=str(second.id)) == ["a"]
        assert stores.names(ending_before=str(first.id)) == ["c", "b"]
        assert stores.names(name="b") == ["b"]
        assert stores.names(ids=(str(first.id),)) == ["a"]

    def test_a_change_is_made_of_the_automation_as_it_is_now(
        self, stores: AutomationStores
    ) -> None:
        stale = stores.make()
        stores.put(fields(interval_seconds=60), replace=True)
        seen: list[int] = []

        def patch(present: Automation) -> AutomationWrite:
            seen.append(present.interval_s)
            return written(fields(interval_seconds=60, btql_filter="error = 'x'"))

        changed = stores.automations.change_automation(stale, patch)
        assert seen == [60]
        assert changed.btql_filter == "error = 'x'"
        assert stores.automations.find_automation(stores.org, stale.id) == changed

    def test_a_change_takes_no_name_of_another_automation(
        self, stores: AutomationStores
    ) -> None:
        made = stores.make(fields("a"))
        stores.make(fields("taken"))

        with pytest.raises(BadInput, match="taken") as caught:
            stores.change(made, fields("taken"))
        assert caught.value.path == "name"
        assert stores.change(made, fields("free")).name == "free"

    def test_a_deleted_automation_is_gone_and_its_name_is_free(
        self, stores: AutomationStores
    ) -> None:
        made = stores.make()

        for _ in range(2):
            stores.automations.delete_automations(stores.app, [made.id])

        assert stores.names() == []
        with pytest.raises(NotFound):
            stores.change(made, fields())
        ((anew, existed),) = stores.put(fields())
        assert (anew.id == made.id, existed) == (False, False)
