"""Functions in the store: complete revisions, and bundles that no function uses."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_behaviours.functions import FunctionBehaviours, FunctionStores, bundled

from rules.wire import read_rule
from scorers.functions.function import Function
from spans.clock import system_clock
from spans.ids import ProjectId, RuleId
from store.access.projects import StoredProjects
from store.functions.bundles import Bundles
from store.functions.functions import StoredFunctions
from store.postgres.database import Database
from store.retention import Retention, Upkeep
from store.rules.rules import StoredRules

pytestmark = pytest.mark.every_postgres

_numbers = itertools.count(1)


class World(FunctionStores):
    """An organisation of its own, in the session's database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.rules = StoredRules(self.database)
        super().__init__(
            functions=StoredFunctions(self.database), bundles=Bundles(self.database),
            projects=StoredProjects(self.database),
        )

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


class TestStoredFunctions(FunctionBehaviours):
    @pytest.fixture
    def stores(self, world: World) -> FunctionStores:
        return world


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
    bundles = world.bundles
    used, unused, young = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    for bundle_id in (used, unused, young):
        bundles.add_bundle(world.org, bundle_id, bytes(32))
        assert bundles.fill(bundle_id, b"zip", None)
    world.write(world.project(), "bundled", bundled(used))
    with world.database.cursor() as cursor:
        cursor.execute(
            "update bundle set created = now() - interval '2 days' where id = any(%s)",
            ([used, unused],),
        )

    Upkeep(world.database, Retention(
        match_record_days=30, rejected_row_days=30, resend_minutes=60, invocation_days=1,
        judge_cache_days=0,
    ), system_clock).drop_expired()

    there = [bundles.secret_of(each) is not None for each in (used, unused, young)]
    assert there == [True, False, True]
