"""Functions are pushed, found, changed, promoted, run and compared by those who may."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.functions import TOOL, bundled

from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage
from flows.functions.comparison import difference_json, verdict_json
from flows.functions.comparison import test_json as json_of_test
from flows.functions.invocations import read_record
from flows.functions.lookup import (
    FunctionById,
    FunctionBySlug,
    identity,
    read_choice,
    read_contained,
)
from flows.functions.shadows import Pair, shadow_json
from flows.logs.ingest import IngestRequest
from flows.logs.row_selection import RowSelection
from scorers.functions.body import read_function
from scorers.functions.function import (
    Definition,
    Function,
    FunctionFilter,
    IfExists,
    Shadow,
    Written,
)
from spans.errors import BadInput, CallFailed, Forbidden, InvalidSource, NotFound, NoWorker
from spans.ids import LARGEST_XACT, FunctionId, ProjectId, Xact
from spans.json import JsonObject
from spans.outcome import verdict_of
from spans.queues import SANDBOX
from spans.row import RowKey, RowWrite
from spans.scoring import Score, ScoringResult, Usage

PAGE = ListPage(limit=100)


def code(text: str = "output", slug: str = "mine", **fields: Any) -> dict[str, Any]:
    return {
        "name": slug, "slug": slug, "function_type": "scorer",
        "function_data": {"type": "code", "data": {
            "type": "inline", "runtime_context": {"runtime": "python", "version": "3.11"},
            "code": text,
        }},
        **fields,
    }


def prompt(slug: str = "prompt") -> dict[str, Any]:
    return {
        "name": slug, "slug": slug, "function_data": {"type": "prompt"},
        "prompt_data": {"prompt": {"type": "completion", "content": "{{input}}"}},
    }


class World(MemoryTallyard):
    """A project with a sandbox worker that answers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.app = self.project("app")
        self.other = self.project("other")

    def definition(self, body: dict[str, Any], project: ProjectId, **asked: Any) -> Definition:
        given = {"if_exists": IfExists.REPLACE, **asked}
        return Definition(project_id=project, body=read_function(body), **given)

    def push(
        self, body: dict[str, Any] | None = None, *, project: ProjectId | None = None,
        caller: Principal | None = None, **asked: Any,
    ) -> Written:
        wanted = self.definition(body or code(), project or self.app, **asked)
        return asyncio.run(self.functions.push(caller or self.admin, wanted))

    def pushed(self, *given: Any, **asked: Any) -> Function:
        return self.push(*given, **asked).function

    def log(self, **outputs: Any) -> None:
        where = self.projects.logs_of(self.admin, self.app)
        writes = tuple(
            RowWrite(key=RowKey(where, row_id), fields={
                "output": output, "metrics": {"end": 1},
            })
            for row_id, output in outputs.items()
        )
        self.rows.write([IngestRequest(
            org_id=self.admin.org_id, sent_by="key", writes=writes
        )])


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.logs.close()


def by_id(function: Function, version: Xact | None = None) -> FunctionById:
    return FunctionById(id=function.id, version=version)


# --- push and change


def test_code_is_checked_before_it_is_stored(world: World) -> None:
    written = world.push(code("0.5"))

    assert not written.existed
    assert written.function.program is not None
    assert (written.function.program.code, world.rung) == ("0.5", [SANDBOX])
    with pytest.raises(InvalidSource, match="neither") as caught:
        world.push(code("no scorer", slug="wrong"))
    assert (caught.value.line, caught.value.column) == (1, 1)
    assert world.functions.list(world.admin, PAGE, FunctionFilter()) == [written.function]


def test_code_that_did_not_change_is_not_checked_again(world: World) -> None:
    first = world.pushed(code("0.5"))
    renamed = world.pushed(code("0.5", name="another"))
    changed = asyncio.run(world.functions.change(
        world.admin, by_id(renamed), {"metadata": {"sandbox": {"time_s": 3}}}
    ))

    assert len(world.sandbox.checked) == 1
    assert changed.version > renamed.version > first.version
    assert changed.program is not None
    assert (changed.program.code, changed.program.limits.time_s) == ("0.5", 3)


def test_code_that_will_not_be_stored_is_not_checked(world: World) -> None:
    first = world.pushed(code("0.5"))
    assert world.pushed(code("1"), if_exists=IfExists.IGNORE) == first
    with pytest.raises(BadInput) as caught:
        world.push(code("1"), if_exists=IfExists.ERROR)
    assert caught.value.path == "slug"
    assert len(world.sandbox.checked) == 1


def test_without_a_worker_no_code_is_stored(world: World) -> None:
    world.refusals[SANDBOX] = "there is no sandbox worker: start one"
    with pytest.raises(NoWorker, match="start one"):
        world.push()
    world.push(prompt())     # which needs none
    assert [each.body.slug for each in world.functions.list(
        world.admin, PAGE, FunctionFilter()
    )] == ["prompt"]


def test_a_pushed_file_is_stored_whole_or_names_the_function_that_is_wrong(
    world: World,
) -> None:
    def push(*bodies: dict[str, Any]) -> list[Written]:
        wanted = [
            world.definition(body, world.app, if_exists=IfExists.ERROR) for body in bodies
        ]
        return asyncio.run(world.functions.push_all(world.admin, wanted))

    with pytest.raises(InvalidSource, match=r"^functions\[1\]: "):
        push(code(slug="a"), code("no scorer", slug="b"))
    assert world.functions.list(world.admin, PAGE, FunctionFilter()) == []
    assert [each.function.body.slug for each in push(code(slug="a"), prompt())] == [
        "a", "prompt"
    ]
    with pytest.raises(BadInput):
        push(code(slug="c"), code(slug="a"))
    assert world.stored_functions.named(world.admin.org_id, world.app, "c") is None


def test_a_bundle_is_looked_into_once_its_bytes_are_there(world: World) -> None:
    upload = world.uploads.make(world.admin)
    early = world.pushed(code(slug="early", function_data=bundled(upload.id)))
    assert (early.program, world.sandbox.checked) == (None, [])

    world.uploads.fill(upload, b"PK zip", None)
    made = world.pushed(code(slug="late", function_data=bundled(upload.id)))

    assert made.program is not None
    assert made.program.parameters == ("output",)      # which only the check can tell
    assert len(world.sandbox.checked) == 1


def test_only_an_administrator_who_reaches_the_project_changes_functions(
    world: World,
) -> None:
    mine = world.pushed(code("0.5"))
    shadow = Shadow(version=mine.version, rate=0.5)
    for caller, error in (
        (world.caller(KeyRole.READ), Forbidden),
        (world.caller(KeyRole.INGEST), Forbidden),
        (world.caller(KeyRole.ADMIN, world.other), NotFound),
        (world.stranger(), NotFound),
    ):
        for attempt in (
            lambda caller=caller: world.push(code("1"), caller=caller),
            lambda caller=caller: asyncio.run(
                world.functions.change(caller, by_id(mine), {"name": "taken"})
            ),
            lambda caller=caller: world.functions.delete(caller, by_id(mine)),
            lambda caller=caller: world.functions.promote(caller, by_id(mine), mine.version),
            lambda caller=caller: world.functions.set_shadow(caller, by_id(mine), shadow),
        ):
            with pytest.raises(error):
                attempt()
    assert world.functions.versions(world.admin, by_id(mine)) == [mine]


def test_a_version_that_is_pushed_as_a_shadow_waits_to_be_promoted(world: World) -> None:
    first = world.pushed(code("0.5"))
    shadowed = asyncio.run(world.functions.change(
        world.admin, by_id(first), {"name": "new", "rollout": {"shadow": 0.1}}
    ))
    assert shadowed.shadow is not None
    assert (shadowed.version, shadowed.body.name) == (first.version, "mine")

    ended = world.functions.set_shadow(world.admin, by_id(first), None)
    set_again = world.functions.set_shadow(world.admin, by_id(first), shadowed.shadow)
    promoted = world.functions.promote(
        world.admin, by_id(first), shadowed.shadow.version
    )

    assert (ended.shadow, set_again.shadow) == (None, shadowed.shadow)
    assert (promoted.body.name, promoted.shadow) == ("new", None)


def test_a_prompt_is_changed_and_deleted_only_as_a_prompt(world: World) -> None:
    asked, scorer = world.pushed(prompt()), world.pushed(code())
    changes: JsonObject = {"description": "new"}
    with pytest.raises(NotFound, match="not a prompt"):
        asyncio.run(
            world.functions.change(world.admin, by_id(scorer), changes, is_prompt=True)
        )
    with pytest.raises(NotFound, match="not a prompt"):
        world.functions.delete(world.admin, by_id(scorer), is_prompt=True)
    changed = asyncio.run(
        world.functions.change(world.admin, by_id(asked), changes, is_prompt=True)
    )
    assert changed.body.description == "new"
    assert world.functions.delete(world.admin, by_id(asked), is_prompt=True) == changed
    with pytest.raises(NotFound):
        world.functions.get(world.admin, by_id(asked))


# --- find


def test_a_function_beyond_a_keys_reach_is_not_found(world: World) -> None:
    mine, theirs = world.pushed(), world.pushed(project=world.other)
    limited = world.caller(KeyRole.READ, world.app)
    assert world.functions.get(limited, by_id(mine)) == mine
    slug = FunctionBySlug(project_name="app", slug="mine")
    assert world.functions.get(limited, slug) == mine
    for caller, which in (
        (limited, by_id(theirs)),
        (limited, FunctionBySlug(project_name="other", slug="mine")),
        (world.stranger(), by_id(mine)),
        (world.admin, by_id(mine, Xact(1))),
        (world.admin, FunctionById(id=FunctionId(uuid.uuid4()))),
        (world.admin, FunctionBySlug(project_name="app", slug="unknown")),
        (world.admin, FunctionBySlug(project_name="app", slug="mine", version=Xact(1))),
    ):
        with pytest.raises(NotFound):
            world.functions.get(caller, which)
        with pytest.raises(NotFound):
            world.functions.require(caller, which)


def test_applications_fetch_prompts_and_nothing_else(world: World) -> None:
    asked, scorer = world.pushed(prompt()), world.pushed(code())
    ingester = world.caller(KeyRole.INGEST)
    assert world.functions.get_prompt(ingester, by_id(asked)) == asked
    assert world.functions.list_prompts(ingester, PAGE, FunctionFilter()) == [asked]
    world.functions.require(ingester, by_id(asked), is_prompt=True)
    for refused in (world.functions.get_prompt, world.functions.require):
        options = {"is_prompt": True} if refused == world.functions.require else {}
        with pytest.raises(NotFound, match="not a prompt"):
            refused(ingester, by_id(scorer), **options)
    with pytest.raises(Forbidden):
        world.functions.get(ingester, by_id(asked))


def test_a_list_has_only_what_the_key_reaches(world: World) -> None:
    mine, theirs = world.pushed(), world.pushed(project=world.other)
    limited = world.caller(KeyRole.READ, world.app)

    def listed(caller: Principal, **wanted: Any) -> list[Function]:
        name = wanted.pop("project_name", None)
        return world.functions.list(
            caller, PAGE, FunctionFilter(**wanted), project_name=name
        )

    assert listed(world.admin) == [theirs, mine]
    assert listed(limited) == listed(limited, project_name="app") == [mine]
    assert listed(world.admin, project_id=world.other) == [theirs]
    assert listed(limited, project_id=world.other) == []
    assert listed(world.admin, project_name="unknown") == []
    assert listed(world.stranger()) == []


# --- a request names or contains a function


def test_a_request_names_a_function_by_its_id_or_slug(world: World) -> None:
    function_id = uuid.uuid4()
    assert read_choice({"function_id": str(function_id), "version": "7"}) == FunctionById(
        id=FunctionId(function_id), version=Xact(7)
    )
    assert read_choice({"slug": "s", "project_name": "p", "version": ""}) == FunctionBySlug(
        project_name="p", slug="s"
    )
    for wrong in ({"function_id": "no id"}, {"function_id": 7}):
        with pytest.raises(NotFound):
            read_choice(wrong)
    with pytest.raises(BadInput, match="project_name"):
        read_choice({"slug": "s"})
    with pytest.raises(BadInput, match="name the function by"):
        read_choice({})


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"global_function": "ExactMatch"}, "ExactMatch"),
        ({"function": code("0.5", slug="whole")}, "whole"),
        ({"inline_context": {"runtime": "python", "version": "3"}, "code": "0.5"}, "inline"),
        ({"inline_prompt": prompt()["prompt_data"], "name": "asked"}, "asked"),
        ({"inline_function": {"type": "global", "name": "ExactMatch"}}, "inline"),
    ],
)
def test_a_request_contains_a_function_in_each_form_that_clients_send(
    body: Any, slug: str
) -> None:
    assert read_contained(body).slug == slug
    assert read_choice(body) == read_contained(body)


def test_unsaved_functions_spend_of_one_budget_and_share_no_sandbox() -> None:
    owner, another = ProjectId(uuid.uuid4()), ProjectId(uuid.uuid4())
    one, other = (
        read_contained({"global_function": name}) for name in ("Moderation", "Battle")
    )

    (first, version), (second, changed) = identity(owner, one), identity(owner, other)

    assert first == second
    assert version != changed
    assert identity(owner, one) == (first, version)
    assert identity(another, one)[0] != first
    assert all(0 <= each <= LARGEST_XACT for each in (version, changed))


# --- run


def test_a_function_is_invoked_without_being_stored_by_its_project_or_by_all(
    world: World,
) -> None:
    contained = read_contained({
        "inline_context": {"runtime": "python", "version": "3"}, "code": "output",
    })
    invoke = world.invocations.invoke
    verdict = asyncio.run(invoke(world.admin, contained, {"output": 0.25}))
    assert verdict_json(verdict)["scores"] == {"inline": 0.25}
    assert world.functions.list(world.admin, PAGE, FunctionFilter()) == []
    with pytest.raises(Forbidden):    # only administrators make code
        asyncio.run(invoke(world.caller(KeyRole.INGEST), contained, {"output": 1}))
    wrong = read_contained({"inline_context": {"runtime": "python"}, "code": "no scorer"})
    with pytest.raises(InvalidSource):
        asyncio.run(invoke(world.admin, wrong, {}))


def test_a_key_that_logs_may_invoke_a_stored_function_or_a_global_one(world: World) -> None:
    mine, newer = world.pushed(code("0.25")), world.pushed(code("0.75"))
    caller = world.caller(KeyRole.INGEST, world.app)

    def invoked(which: Any, **record: Any) -> Any:
        return verdict_json(asyncio.run(world.invocations.invoke(caller, which, record)))

    assert invoked(by_id(newer))["scores"] == {"mine": 0.75}
    assert invoked(by_id(mine, mine.version))["scores"] == {"mine": 0.25}
    exact = read_contained({"global_function": "ExactMatch"})
    assert invoked(exact, output="a", expected="a")["scores"] == {"ExactMatch": 1}
    assert invoked(by_id(world.pushed(code("output"))), output="text")["error"] == {
        "class": "error", "message": "no number: 'text'",
    }
    for wrong in (by_id(world.pushed(project=world.other)), by_id(mine, Xact(1))):
        with pytest.raises(NotFound):
            invoked(wrong)
    with pytest.raises(Forbidden):
        asyncio.run(world.invocations.invoke(world.caller(KeyRole.READ), by_id(mine), {}))


def test_a_record_has_the_limits_of_a_span_and_a_function_must_be_a_scorer(
    world: World,
) -> None:
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    invoke = world.invocations.invoke
    with pytest.raises(BadInput, match="nested too deep"):
        asyncio.run(invoke(world.admin, by_id(world.pushed()), {"output": deep}))
    for body in (prompt(), code(slug="tool", function_data=TOOL)):
        with pytest.raises(BadInput):
            asyncio.run(invoke(world.admin, by_id(world.pushed(body)), {}))
    with pytest.raises(BadInput, match="input"):
        read_record({"input": "text"})


def test_a_crash_of_the_worker_is_told_to_the_caller(world: World) -> None:
    mine = world.pushed(code("crash"))
    with pytest.raises(CallFailed, match="ZeroDivisionError"):
        asyncio.run(world.invocations.invoke(world.admin, by_id(mine), {}))


def test_a_scorer_is_tested_on_stored_rows_of_a_project(world: World) -> None:
    world.log(a=0.25, b=0.5, c=1)
    mine = by_id(world.pushed())

    def tested(caller: Principal = world.admin, **selection: Any) -> Any:
        run = asyncio.run(world.invocations.test(
            caller, world.app, mine, RowSelection(**selection)
        ))
        rows = json_of_test(run.rows, run.verdicts)["rows"]
        return {row["id"]: row["scores"]["mine"] for row in rows}

    assert tested() == {"c": 1, "b": 0.5, "a": 0.25}
    assert tested(last=1) == {"c": 1}
    assert tested(ids=("a", "c")) == {"a": 0.25, "c": 1}
    assert tested(filter="output < 1") == {"b": 0.5, "a": 0.25}
    for caller, error in (
        (world.caller(KeyRole.READ), Forbidden), (world.stranger(), NotFound),
        (world.caller(KeyRole.ADMIN, world.other), NotFound),
    ):
        with pytest.raises(error):
            tested(caller)
    with pytest.raises(NotFound):
        tested(ids=("unknown",))


def test_a_version_is_compared_with_the_one_before_it(world: World) -> None:
    world.log(a=0.25, b=1)
    first = world.pushed(code("output"))
    with pytest.raises(NotFound, match="no version before"):
        asyncio.run(world.invocations.diff(
            world.admin, by_id(first), RowSelection(), before=None
        ))
    world.pushed(code("0.5"))
    latest = world.pushed(code("1"))

    def diff(before: Xact | None, after: Xact | None = None) -> Any:
        return asyncio.run(world.invocations.diff(
            world.admin, by_id(latest, after), RowSelection(), before=before
        ))

    usual = diff(None)
    assert (usual.after, usual.difference.mean_difference) == (latest.version, 0.5)
    oldest = diff(first.version)
    assert (oldest.before, oldest.difference.agreement) == (first.version, 0.5)
    assert [flip.row.id for flip in oldest.difference.flips] == ["a"]
    told = difference_json(oldest.difference, "http://x/")
    assert (told["flip_count"], told["rows"]) == (1, 2)
    pinned = diff(None, usual.before)
    assert (pinned.before, pinned.after) == (first.version, usual.before)


# --- shadows


def test_a_shadow_is_compared_on_rows_that_both_have_scored_each_counted_once(
    world: World,
) -> None:
    mine = world.pushed(code("0.25"))
    with pytest.raises(NotFound, match="has no shadow"):
        world.functions.compare_shadow(world.admin, by_id(mine), 9)
    shadow = world.pushed(code("0.75"), shadow_rate=0.5).shadow
    where = world.projects.logs_of(world.admin, world.app)
    world.pairs = [
        Pair(row=RowKey(where, row_id), content=Xact(1), in_force=gave(0.25),
             shadow=gave(value))
        for row_id, value in (("a", 0.75), ("a", 0.75), ("b", 0.25))
    ]

    compared = world.functions.compare_shadow(world.admin, by_id(mine), 9)

    assert compared.shadow == shadow
    assert (compared.difference.rows, compared.difference.agreement) == (2, 0.5)
    told = shadow_json(compared, "http://x")
    assert (told["from"], told["rate"]) == (str(mine.version), 0.5)
    assert [flip["id"] for flip in told["flips"]] == ["a"]
    assert told["flips"][0]["to"]["usage"]["calls"] == 1


def gave(value: float) -> Any:
    result = ScoringResult(
        scores=(Score(name="mine", value=value, metadata={"why": 1}),), arguments={},
        usage=Usage(calls=1, prompt_tokens=2, completion_tokens=3, model="m"),
    )
    return verdict_of(result, started_at=1.0, run_ms=2.0)
