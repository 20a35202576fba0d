"""What every store of rules does."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import pytest
from store_behaviours.access import BothStores, create, new_org

from flows.access.projects import ListPage
from flows.rules.rules import RuleStore
from rules.wire import ProjectScore, ProjectScoreBody, patch_rule, read_rule
from spans.errors import BadInput, NotFound
from spans.ids import OrgId, ProjectId, RuleId

PAGE = ListPage(limit=100)


def rule_body(name: str = "rule", *scorers: object, **online: object) -> ProjectScoreBody:
    return read_rule({
        "name": name, "score_type": "online", "config": {"online": {
            "sampling_rate": 1,
            "scorers": [*scorers] or [{"type": "global", "name": "ExactMatch"}], **online,
        }},
    })


def slider(name: str) -> ProjectScoreBody:
    return read_rule({"name": name, "score_type": "slider", "categories": [{"name": "a"}]})


@dataclass(kw_only=True)
class RuleStores:
    """The store of rules of one database, and an organisation of its own in it."""

    rules: RuleStore
    projects: BothStores

    def __post_init__(self) -> None:
        self.org = new_org(self.projects)
        self.app = self.project("app")

    def project(self, name: str) -> ProjectId:
        return create(self.projects, self.org, name)[0].id

    def make(
        self, body: ProjectScoreBody, *, project: ProjectId | None = None,
        replace: bool = False,
    ) -> tuple[ProjectScore, bool]:
        return self.rules.create_rule(
            project or self.app, RuleId(uuid.uuid4()), body, replace=replace
        )

    def names(self, project: ProjectId | None = None, **page: object) -> list[str]:
        given = ListPage(**{"limit": 100, **page})
        return [rule.name for rule in self.rules.list_rules(self.org, given, project)]


class RuleBehaviours:
    """A subclass has a fixture `stores` that gives RuleStores."""

    def test_a_rule_is_stored_as_it_was_sent(self, stores: RuleStores) -> None:
        body = rule_body(btql_filter="input = 1", status="paused")
        made, existed = stores.make(body)
        other, _ = stores.make(slider("by hand"))

        assert not existed
        assert made.config == {"online": {
            "sampling_rate": 1.0, "scorers": [{"type": "global", "name": "ExactMatch"}],
            "btql_filter": "input = 1", "status": "paused",
        }}
        assert (other.score_type, other.categories, other.config) == (
            "slider", [{"name": "a"}], None
        )
        assert stores.rules.find_rule(stores.org, made.id) == made

    def test_a_name_is_one_rule_of_its_project(self, stores: RuleStores) -> None:
        made, _ = stores.make(rule_body())
        elsewhere, _ = stores.make(rule_body(), project=stores.project("other"))
        changed = rule_body(sampling_rate=0.5)

        assert elsewhere.id != made.id
        assert stores.make(changed) == (made, True)
        replaced, existed = stores.make(changed, replace=True)
        assert existed
        assert replaced == replace(made, config=replaced.config)
        assert replaced.config["online"]["sampling_rate"] == 0.5

    def test_a_rule_is_found_in_its_own_organisation_only(self, stores: RuleStores) -> None:
        made, _ = stores.make(rule_body())

        assert stores.rules.find_rule(OrgId(uuid.uuid4()), made.id) is None
        assert stores.rules.list_rules(OrgId(uuid.uuid4()), PAGE, None) == []
        assert stores.rules.find_rule(stores.org, RuleId(uuid.uuid4())) is None

    def test_the_rules_of_a_deleted_project_are_hidden(self, stores: RuleStores) -> None:
        made, _ = stores.make(rule_body())
        stores.projects.delete_project(stores.app)

        assert stores.rules.find_rule(stores.org, made.id) is None
        assert stores.names() == stores.names(stores.app) == []

    def test_a_list_is_newest_first_and_limited_by_each_filter(
        self, stores: RuleStores
    ) -> None:
        other = stores.project("other")
        first, _ = stores.make(rule_body("a"))
        second, _ = stores.make(slider("b"))
        stores.make(rule_body("c"), project=other)

        assert stores.names() == ["c", "b", "a"]
        assert stores.names(stores.app) == ["b", "a"]
        assert stores.names(stores.app, limit=1) == ["b"]
        assert stores.names(starting_after=str(second.id)) == ["a"]
        assert stores.names(ending_before=str(first.id)) == ["c", "b"]
        assert stores.names(name="b") == ["b"]
        online = stores.rules.list_rules(stores.org, PAGE, stores.app, "online")
        assert online == [first]

    def test_a_change_is_made_of_the_rule_as_it_is_now(self, stores: RuleStores) -> None:
        stale, _ = stores.make(rule_body())
        stores.make(rule_body(sampling_rate=0.5), replace=True)

        changed = stores.rules.change_rule(
            stale, lambda present: patch_rule(present, {"description": "new"})
        )

        assert changed.description == "new"
        assert changed.config["online"]["sampling_rate"] == 0.5
        assert stores.rules.find_rule(stores.org, stale.id) == changed

    def test_a_change_takes_no_name_of_another_rule(self, stores: RuleStores) -> None:
        made, _ = stores.make(rule_body("a"))
        stores.make(rule_body("taken"))

        with pytest.raises(BadInput, match="taken") as caught:
            stores.rules.change_rule(made, lambda _: rule_body("taken"))
        assert caught.value.path == "name"
        assert stores.rules.change_rule(made, lambda _: rule_body("free")).name == "free"

    def test_a_deleted_rule_is_gone_and_its_name_is_free(self, stores: RuleStores) -> None:
        made, _ = stores.make(rule_body())

        stores.rules.delete_rule(made)
        stores.rules.delete_rule(made)

        assert stores.names() == []
        with pytest.raises(NotFound):
            stores.rules.change_rule(made, lambda _: rule_body())
        anew, existed = stores.make(rule_body())
        assert (anew.id == made.id, existed) == (False, False)
