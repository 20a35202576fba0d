"""Rules: made, changed, applied from a file and run by those who reach what they name."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.functions import body_of
from store_behaviours.rules import rule_body, slider

from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage
from flows.logs.ingest import IngestRequest
from rules.wire import ProjectScore, ProjectScoreBody
from scorers.functions.function import Definition, Function, FunctionWrite, IfExists
from spans.errors import BadInput, Forbidden, NotFound
from spans.file_plan import Change, ChangeKind, FilePlan
from spans.ids import FunctionId, ProjectId, RuleId
from spans.json import JsonObject
from spans.row import RowKey, RowWrite

PAGE = ListPage(limit=100)
ENDED: JsonObject = {"metrics": {"end": 1}}


class World(MemoryTallyard):
    """Two projects of one organisation."""

    def __init__(self) -> None:
        super().__init__()
        self.app, self.other = self.project("app"), self.project("other")

    def function(
        self, slug: str = "mine", *, project: ProjectId | None = None, data: object = None
    ) -> Function:
        definition = Definition(
            project_id=project or self.app, body=body_of(slug, data),
            if_exists=IfExists.REPLACE,
        )
        (written,) = self.stored_functions.write(self.admin.org_id, [FunctionWrite(
            definition=definition, new_id=FunctionId(uuid.uuid4()), program=None
        )])
        return written.function

    def make(
        self, body: ProjectScoreBody | None = None, *, project: ProjectId | None = None,
        caller: Principal | None = None, replace: bool = False,
    ) -> ProjectScore:
        made, _ = self.rules.make(
            caller or self.admin, project or self.app, body or rule_body(), replace=replace
        )
        return made

    def log(self, **fields_by_id: JsonObject) -> None:
        where = self.projects.logs_of(self.admin, self.app)
        self.rows.write([IngestRequest(
            org_id=self.admin.org_id, sent_by="key", writes=tuple(
                RowWrite(key=RowKey(where, row_id), fields={**ENDED, **fields})
                for row_id, fields in fields_by_id.items()
            ),
        )])

    def plan(
        self, *rules: Any, project: str = "app", prune: bool = False
    ) -> FilePlan[ProjectScoreBody]:
        content = {"project": project, "rules": [*rules]}
        return self.rules.plan_file(self.admin, content, prune=prune)


@pytest.fixture
def world() -> World:
    return World()


def naming(function: Function, version: str | None = None) -> dict[str, Any]:
    named = {"type": "function", "id": str(function.id)}
    return named if version is None else {**named, "version": version}


# --- reach


def test_a_rule_beyond_a_keys_reach_is_not_found(world: World) -> None:
    mine, theirs = world.make(), world.make(project=world.other)
    limited = world.caller(KeyRole.ADMIN, world.app)
    assert world.rules.get(limited, mine.id) == mine
    assert world.rules.named(limited, world.app, "rule") == mine
    assert world.rules.named(limited, world.app, str(mine.id)) == mine
    for caller, rule_id in (
        (limited, theirs.id), (world.stranger(), mine.id),
        (world.admin, RuleId(uuid.uuid4())),
    ):
        for attempt in (
            lambda c=caller, r=rule_id: world.rules.get(c, r),
            lambda c=caller, r=rule_id: world.rules.change(c, r, {"name": "taken"}),
            lambda c=caller, r=rule_id: world.rules.delete(c, r),
        ):
            with pytest.raises(NotFound):
                attempt()
    with pytest.raises(NotFound, match="no rule 'unknown'"):
        world.rules.named(limited, world.app, "unknown")
    with pytest.raises(NotFound):
        world.rules.named(limited, world.other, "rule")
    with pytest.raises(NotFound):
        world.make(caller=limited, project=world.other)
    assert {rule.name for rule in world.rules.list(world.admin, PAGE)} == {"rule"}


def test_only_administrators_change_rules(world: World) -> None:
    mine = world.make()
    reader = world.caller(KeyRole.READ)
    for attempt in (
        lambda: world.make(caller=reader),
        lambda: world.rules.change(reader, mine.id, {"name": "x"}),
        lambda: world.rules.delete(reader, mine.id),
        lambda: world.rules.plan_file(reader, {}, prune=False),
        lambda: world.rules.apply(reader, FilePlan(
            project_name="app", is_new_project=False, changes=()
        )),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert world.rules.list(reader, PAGE) == [mine]


def test_a_list_has_only_what_the_key_reaches(world: World) -> None:
    mine, theirs = world.make(), world.make(project=world.other)
    by_hand = world.make(slider("by hand"))
    limited = world.caller(KeyRole.READ, world.app)

    def listed(caller: Principal, **asked: Any) -> list[ProjectScore]:
        return world.rules.list(caller, PAGE, **asked)

    assert listed(world.admin) == [by_hand, theirs, mine]
    assert listed(limited) == listed(world.admin, project_name="app") == [by_hand, mine]
    assert listed(world.admin, score_type="online", project_id=world.app) == [mine]
    assert listed(limited, project_id=world.other) == []
    assert listed(world.admin, project_name="unknown") == []


# --- what a rule may name


def test_a_rule_names_only_scorers_that_the_key_reaches(world: World) -> None:
    mine, theirs = world.function(), world.function(project=world.other)
    tool = world.function("tool", data={"type": "graph", "nodes": {}})
    limited = world.caller(KeyRole.ADMIN, world.app)
    world.make(rule_body("shared", naming(theirs)))         # the organisation's key does
    world.make(rule_body("own", naming(mine, str(mine.version))), caller=limited)
    for scorer, said in (
        (naming(theirs), "there is no function"),
        (naming(mine, "7"), "of version 7"),
        ({"type": "function", "id": str(uuid.uuid4())}, "there is no function"),
        (naming(tool), "'tool' is not a scorer"),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            world.make(rule_body("new", scorer), caller=limited)
        assert caught.value.path == "config.online.scorers.0"
        with pytest.raises(BadInput, match=said):
            world.rules.change(limited, world.make().id, {
                "config": {"online": {"sampling_rate": 1, "scorers": [scorer]}},
            })
    names = {rule.name for rule in world.rules.list(world.admin, PAGE)}
    assert names == {"shared", "own", "rule"}


def test_a_rule_with_a_deleted_function_can_be_paused_and_mended(world: World) -> None:
    gone, stays = world.function("gone"), world.function("stays")
    rule = world.make(rule_body("rule", naming(gone)))
    world.stored_functions.delete(gone)
    online: JsonObject = {"sampling_rate": 1, "scorers": [naming(gone)]}

    paused = world.rules.change(
        world.admin, rule.id, {"config": {"online": {**online, "status": "paused"}}}
    )
    with pytest.raises(BadInput, match="there is no function"):
        world.make(rule_body("another", naming(gone)))
    mended = world.rules.change(
        world.admin, rule.id, {"config": {"online": {**online, "scorers": [naming(stays)]}}}
    )

    assert paused.config["online"]["status"] == "paused"
    assert mended.config["online"]["scorers"] == [naming(stays)]


def test_a_change_is_checked_as_a_whole(world: World) -> None:
    rule = world.make()
    with pytest.raises(BadInput):
        world.rules.change(world.admin, rule.id, {"name": ""})
    changed = world.rules.change(world.admin, rule.id, {"description": "new"})
    assert (changed.description, changed.config) == ("new", rule.config)
    assert world.rules.delete(world.admin, rule.id) == changed
    assert world.rules.list(world.admin, PAGE) == []


# --- rules as a file


def test_a_file_is_planned_applied_and_written_back(world: World) -> None:
    function = world.function("polite", project=world.other)
    rule: JsonObject = {
        "name": "kind", "description": "how kind it is", "sampling_rate": 0.5,
        "scorers": ["ExactMatch", {
            "type": "function", "slug": "polite", "project_name": "other",
            "version": str(function.version),
        }],
        "btql_filter": "input = 1", "apply_to_root_span": True,
    }
    plan = world.plan(rule)
    assert [(change.kind, change.name) for change in plan.changes] == [
        (ChangeKind.CREATE, "kind")
    ]

    project = world.rules.apply(world.admin, plan)

    assert world.rules.export(world.admin, project.id) == {"project": "app", "rules": [rule]}
    assert world.plan(rule).changes == ()
    (changed,) = world.plan({**rule, "sampling_rate": 1}).changes
    assert (changed.kind, changed.lines) == (ChangeKind.CHANGE, ("sampling_rate: 0.5 -> 1",))


def test_a_file_makes_its_project_and_deletes_only_when_told(world: World) -> None:
    world.make(rule_body("old"))
    rule = {"name": "new", "scorers": ["ExactMatch"]}
    kept, pruned = world.plan(rule), world.plan(rule, prune=True)
    assert {change.name: change.kind for change in kept.changes} == {
        "new": ChangeKind.CREATE, "old": ChangeKind.KEEP
    }

    def names(project: str) -> list[str]:
        return [each.name for each in world.rules.list(
            world.admin, PAGE, project_name=project
        )]

    world.rules.apply(world.admin, kept)
    assert names("app") == ["new", "old"]
    world.rules.apply(world.admin, pruned)
    assert names("app") == ["new"]
    fresh = world.plan(rule, project="fresh")
    assert fresh.is_new_project
    world.rules.apply(world.admin, fresh)
    assert names("fresh") == ["new"]


def test_a_file_that_names_what_is_beyond_reach_changes_nothing(world: World) -> None:
    tool = world.function("tool", data={"type": "graph", "nodes": {}})
    for scorer, said in (
        ({"slug": "unknown"}, "'app' has no function 'unknown': push it first"),
        (naming(tool), "not a scorer"),
    ):
        with pytest.raises(BadInput, match=said):
            world.plan({"name": "r", "scorers": [scorer]})
    assert world.rules.list(world.admin, PAGE) == []


def test_a_plan_deletes_only_rules_that_its_project_has_now(world: World) -> None:
    for name in ("a", "b"):
        world.make(rule_body(name))
    world.make(rule_body("c"), project=world.other)

    limited = world.caller(KeyRole.ADMIN, world.app)
    world.rules.apply(limited, FilePlan(
        project_name="app", is_new_project=False,
        changes=tuple(
            Change(kind=ChangeKind.DELETE, name=name, body=None) for name in ("a", "c", "gone")
        ),
    ))

    assert [rule.name for rule in world.rules.list(world.admin, PAGE)] == ["c", "b"]


def test_a_plan_that_names_a_function_beyond_reach_changes_nothing(world: World) -> None:
    mine, foreign = world.make(), world.function(project=world.other)
    limited = world.caller(KeyRole.ADMIN, world.app)

    with pytest.raises(BadInput, match="there is no function"):
        world.rules.apply(limited, FilePlan(
            project_name="app", is_new_project=False,
            changes=(
                Change(kind=ChangeKind.DELETE, name="rule", body=None),
                Change(kind=ChangeKind.CREATE, name="new",
                       body=rule_body("new", naming(foreign))),
            ),
        ))

    assert world.rules.list(world.admin, PAGE) == [mine]


def test_a_function_that_the_key_does_not_reach_is_exported_by_its_id(world: World) -> None:
    foreign = world.function("theirs", project=world.other)
    world.make(rule_body("rule", naming(foreign)))

    def scorers(caller: Principal) -> Any:
        (rule,) = world.rules.export(caller, world.app)["rules"]
        return rule["scorers"]

    assert scorers(world.admin) == [
        {"type": "function", "slug": "theirs", "project_name": "other"}
    ]
    assert scorers(world.caller(KeyRole.READ, world.app)) == [naming(foreign)]
