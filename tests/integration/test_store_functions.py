"""Functions in the store: complete revisions, and bundles that no function uses."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rules.wire import read_rule
from scorers.functions.body import FunctionBody, read_function
from scorers.functions.function import Definition, Function, FunctionWrite, IfExists, Shadow
from spans.errors import BadInput, Contended
from spans.ids import FunctionId, OrgId, ProjectId, RuleId
from store.access.projects import StoredProjects
from store.functions.bundles import Bundles
from store.functions.functions import StoredFunctions
from store.postgres.database import Database
from store.retention import Retention, Upkeep
from store.rules.rules import StoredRules

_numbers = itertools.count(1)

INLINE = {"type": "code", "data": {
    "type": "inline", "runtime_context": {"runtime": "python", "version": "3.11"},
    "code": "def handler(output):\n    return 1",
}}
TOOL = {"type": "code", "data": {"type": "bundle", "location": {"type": "experiment"}}}
"""What is kept, and cannot be run as a scorer."""


class World:
    """An organisation of its own, in the session's database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.functions = StoredFunctions(self.database)
        self.rules = StoredRules(self.database)
        self.org = StoredProjects(self.database).ensure_organization(
            OrgId(uuid.uuid4()), f"org {uuid.uuid4()}"
        )

    def project(self) -> ProjectId:
        made, _ = StoredProjects(self.database).get_or_create_project(
            self.org, ProjectId(uuid.uuid4()), f"project {next(_numbers)}", None
        )
        return made.id

    def write(
        self, project: ProjectId, slug: str, data: object = None, *,
        shadow: float | None = None, if_exists: IfExists = IfExists.REPLACE,
    ) -> Function:
        """A function, or its next version."""
        definition = Definition(
            project_id=project, body=self.body(slug, data), if_exists=if_exists,
            shadow_rate=shadow,
        )
        write = FunctionWrite(
            definition=definition, new_id=FunctionId(uuid.uuid4()), program=None
        )
        (written,) = self.functions.write(self.org, [write])
        return written.function

    def body(self, slug: str, data: object = None) -> FunctionBody:
        """That of a scorer; no two are the same."""
        return read_function({
            "name": slug, "slug": slug, "function_type": "scorer",
            "description": f"version {next(_numbers)}",
            "function_data": data or {"type": "global", "name": "ExactMatch"},
        })

    def rule(self, project: ProjectId, *functions: Function) -> None:
        """A rule, or the one of its project become this."""
        scorers = [{"type": "function", "id": str(each.id)} for each in functions]
        body = read_rule({
            "name": "rule", "score_type": "online",
            "description": f"change {next(_numbers)}",
            "config": {"online": {"sampling_rate": 1, "scorers": scorers}},
        })
        self.rules.create_rule(project, RuleId(uuid.uuid4()), body, replace=True)

    def of_revision(self, project: ProjectId) -> dict[str, str]:
        """The versions of the functions in the project's rule set."""
        with self.database.cursor() as cursor:
            cursor.execute(
                """select functions from rule_set
                     join project on id = project_id and rules_revision = revision
                    where id = %s""",
                (project,),
            )
            (functions,) = cursor.fetchone() or ([],)
        return {one["id"]: one["version"] for one in functions}

    def revision(self, project: ProjectId) -> int:
        with self.database.cursor() as cursor:
            cursor.execute("select rules_revision from project where id = %s", (project,))
            (revision,) = cursor.fetchone() or (0,)
            return int(revision)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    here = World(database_url)
    yield here
    here.database.close()


def test_a_new_version_is_a_new_revision_of_just_the_rules_that_name_it(world: World) -> None:
    home, user, other = (world.project() for _ in range(3))
    function, another = world.write(home, "mine"), world.write(home, "another")
    world.rule(user, function)
    world.rule(other, another)
    before = [world.revision(each) for each in (home, user, other)]

    changed = world.write(home, "mine")

    assert world.of_revision(user) == {str(function.id): str(changed.version)}
    assert [world.revision(each) for each in (home, user, other)] == [
        before[0], before[1] + 1, before[2]
    ]


def test_rules_and_functions_that_change_at_once_agree_in_the_end(world: World) -> None:
    home = world.project()
    users = [world.project() for _ in range(3)]
    functions = [world.write(home, f"f{n}") for n in range(2)]

    def change(step: int) -> None:
        if step % 2:
            world.write(home, f"f{step // 2 % 2}")
        else:
            world.rule(users[step // 2 % 3], *functions)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(change, range(60)))   # a deadlock would raise Contended

    latest = {
        str(each.id): str(now.version)
        for each in functions
        if (now := world.functions.find(world.org, each.id)) is not None
    }
    assert [world.of_revision(each) for each in users] == [latest] * 3


def test_an_upload_that_no_function_is_made_of_goes_after_a_day(world: World) -> None:
    bundles = Bundles(world.database)
    used, unused, young = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    for bundle_id in (used, unused, young):
        bundles.add_bundle(world.org, bundle_id, bytes(32))
        assert bundles.fill(bundle_id, b"zip", None)
    world.write(world.project(), "bundled", {"type": "code", "data": {
        "type": "bundle", "bundle_id": str(used),
        "location": {"type": "function", "index": 0},
        "runtime_context": {"runtime": "python", "version": "3.11"},
    }})
    with world.database.cursor() as cursor:
        cursor.execute(
            "update bundle set created = now() - interval '2 days' where id = any(%s)",
            ([used, unused],),
        )

    Upkeep(world.database, Retention(
        match_record_days=30, rejected_row_days=30, resend_minutes=60, invocation_days=1,
        judge_cache_days=0,
    )).drop_expired()

    there = [bundles.secret_of(each) is not None for each in (used, unused, young)]
    assert there == [True, False, True]


def test_a_slug_is_that_of_all_versions_at_once(world: World) -> None:
    home = world.project()
    first = world.write(home, "a")
    second = world.write(home, "a")

    renamed = world.functions.change(
        second, world.body("b"), None, shadow_rate=0.1
    )

    assert (renamed.body.slug, renamed.version) == ("b", second.version)
    assert {each.body.slug for each in world.functions.versions(renamed)} == {"b"}
    assert world.functions.named(world.org, home, "a") is None
    back = world.functions.promote(renamed, first.version)
    assert back.body.slug == "b"
    assert world.write(home, "b").id == first.id


def test_a_new_slug_alone_makes_no_version(world: World) -> None:
    made = world.write(world.project(), "a")

    renamed = world.functions.change(
        made, made.body.model_copy(update={"slug": "b"}), None, shadow_rate=None
    )

    assert (renamed.version, renamed.body.slug) == (made.version, "b")


@pytest.mark.parametrize("if_exists", [IfExists.IGNORE, IfExists.ERROR])
def test_code_that_nobody_checked_since_there_was_a_function_is_not_kept(
    world: World, if_exists: IfExists
) -> None:
    with pytest.raises(Contended):   # the function was deleted before the write
        world.write(world.project(), "unchecked", INLINE, if_exists=if_exists)


def test_what_is_no_scorer_takes_no_scorers_place(world: World) -> None:
    home = world.project()
    tool = world.write(home, "mixed", TOOL)
    scorer = world.write(home, "mixed")

    with pytest.raises(BadInput, match="cannot be a shadow"):
        world.functions.set_shadow(scorer, Shadow(version=tool.version, rate=0.5))
    with pytest.raises(BadInput, match="cannot be a shadow"):
        world.write(home, "mixed", TOOL, shadow=0.5)
    with pytest.raises(BadInput, match="cannot take a scorer's place"):
        world.functions.promote(scorer, tool.version)


def test_an_older_version_of_what_never_was_a_scorer_is_put_back_in_force(world: World) -> None:
    home = world.project()
    older = world.write(home, "tool", TOOL)
    newer = world.write(home, "tool", TOOL)

    assert world.functions.promote(newer, older.version).version == older.version
