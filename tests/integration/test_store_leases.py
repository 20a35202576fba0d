"""Leases of each leased table: claimed, renewed, released, abandoned, run out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.servers.children import wait_until
from spans.clock import system_clock
from spans.ids import OrgId, RuleId
from spans.outcome import RuleOrigin, ScorerUse
from spans.queues import HEAVY, JUDGE
from spans.row import project_logs
from spans.scoring import Role, ScorerRef
from store.access.projects import StoredProjects
from store.automations.due_deliveries import DueDeliveries
from store.invocations.invocations import Invocations
from store.postgres.database import Database
from store.postgres.leases import (
    DELIVERIES,
    INVOCATIONS,
    LEASED,
    OUTBOX,
    OUTCOMES,
    Leased,
    Leases,
)
from store.scoring.ledger import Ledger
from store.scoring.match_records import MatchRecords

pytestmark = pytest.mark.every_postgres

STORE = Path(__file__).parents[2] / "store"
LEASE_S = 60.0
INSERT = {
    "outbox": """
        insert into outbox (object_no, xact, row_seqs, rescored)
        values (%(object)s, 1, '{1}', false) returning seq""",
    "outcome": """
        insert into outcome (subject_seq, subject_version, use_no, object_no, role, state,
                             queue)
        values (1, 1, %(use)s, %(object)s, 'live', 'pending', 'judge')
        returning subject_seq, subject_version, use_no""",
    "delivery": """
        insert into delivery (id, project_id, is_test, state, time_start, time_end, matches,
                              body, target)
        values (gen_random_uuid(), %(project)s, true, 'pending', now(), now(), 1, '{}',
                '{"type": "webhook", "url": "https://example.com/"}')
        returning id""",
    "invocation": """
        insert into invocation (id, org_id, queue, request)
        values (gen_random_uuid(), %(org)s, 'judge',
                '{"kind": "check", "runtime": "python", "code": "x"}')
        returning id""",
}


@dataclass
class World:
    """One waiting row of a leased table, and a worker that may claim it."""

    leased: Leased
    database: Database
    url: str
    key: tuple[Any, ...]

    def claim(self, database: Database | None = None) -> None:
        database = database or self.database
        if self.leased is OUTBOX:
            MatchRecords(database, system_clock, lease_s=LEASE_S).claim_entries(10)
        elif self.leased is OUTCOMES:
            Ledger(database, system_clock, lease_s=LEASE_S, time_limits_s={}).claim(JUDGE, 9)
        elif self.leased is DELIVERIES:
            DueDeliveries(database, lease_s=LEASE_S).claim(1)
        else:
            Invocations(database, lease_s=LEASE_S, patience_s=60).claim(JUDGE)

    def run(self, operation: Callable[..., Any], **given: Any) -> Any:
        with self.database.cursor() as cursor:
            return operation(cursor, **given)

    def row(self) -> dict[str, Any]:
        with self.database.cursor() as cursor:
            cursor.execute(
                f"select to_jsonb(leased) from {self.leased.table} leased where "
                + " and ".join(f"{name} = %s" for name in self.leased.key),
                self.key,
            )
            ((row,),) = cursor.fetchall()
            return row

    def change(self, assignment: str) -> None:
        with self.database.cursor() as cursor:
            cursor.execute(f"update {self.leased.table} set {assignment}")

    def is_held(self) -> bool:
        row = self.row()
        assert (row["owner"] is None) == (row["lease_until"] is None), row
        return row["owner"] is not None

    def deaths(self) -> int:
        return self.row().get("deaths", 0)

    def dead_owner(self) -> None:
        """Have the row claimed by a process that is gone."""
        other = Database(self.url)
        self.claim(other)
        assert self.row()["owner"] == other.owner
        other.close()
        assert wait_until(lambda: not self.is_connected(other.owner), deadline_s=10)

    def is_connected(self, owner: str) -> bool:
        with self.database.cursor() as cursor:
            cursor.execute(
                "select count(*) from pg_stat_activity where application_name like %s",
                (f"%{owner}",),
            )
            return cursor.fetchone() != (0,)


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    opened = Database(fresh_database_url)
    yield opened
    opened.close()


@pytest.fixture(params=LEASED, ids=lambda leased: leased.table)
def world(
    request: pytest.FixtureRequest, database: Database, fresh_database_url: str
) -> World:
    projects = StoredProjects(database)
    org_id = projects.ensure_organization(OrgId(uuid.uuid4()), "tallyard")
    with database.cursor() as cursor:
        cursor.execute(
            "insert into project (id, org_id, name) values (gen_random_uuid(), %s, 'p')"
            " returning id",
            (org_id,),
        )
        ((project,),) = cursor.fetchall()
    rule = ScorerUse(
        origin=RuleOrigin(RuleId(uuid.uuid4())), role=Role.LIVE,
        scorer=ScorerRef(kind="global", name="Levenshtein", version="1"),
    )
    numbers = database.numbers
    with database.cursor() as cursor:
        cursor.execute(INSERT[request.param.table], {
            "org": org_id, "project": project, "use": numbers.use_no(rule),
            "object": numbers.object_no(project_logs(project)),
        })
        (key,) = cursor.fetchall()
    return World(request.param, database, fresh_database_url, key)


def test_a_claim_counts_its_attempt_raises_the_fence_and_is_made_once(world: World) -> None:
    world.claim()
    world.claim()
    row = world.row()
    assert (row["attempts"], row["fence"], row["owner"]) == (1, 1, world.database.owner)
    assert world.is_held()


def test_a_release_needs_the_fence_of_the_claim(world: World) -> None:
    world.claim()
    world.run(world.leased.release, claims={world.key: 0})
    assert world.is_held()
    world.run(world.leased.release, claims={world.key: 1})
    assert not world.is_held()
    assert world.deaths() == 0


def test_the_next_claim_raises_the_fence_over_that_of_a_released_one(world: World) -> None:
    world.claim()
    world.run(world.leased.release, claims={world.key: 1})
    world.claim()
    assert (world.row()["fence"], world.row()["attempts"]) == (2, 2)
    world.run(world.leased.release, claims={world.key: 1})
    assert world.is_held()


@pytest.mark.parametrize(   # an entry of the outbox is deleted once it is matched
    "world", [OUTCOMES, INVOCATIONS], ids=lambda leased: leased.table, indirect=True
)
def test_what_is_done_is_not_released_again(world: World) -> None:
    world.claim()
    world.change(
        "state = 'completed'" if world.leased is OUTCOMES else "answered_at = now()"
    )
    world.run(world.leased.release, claims={world.key: 1})
    assert world.is_held()


def test_a_renewed_lease_lasts_from_now_on(world: World) -> None:
    world.claim()
    before = world.row()["lease_until"]
    world.run(world.leased.renew, owner="another", queue=JUDGE, lease_s=600)
    assert world.row()["lease_until"] == before
    world.run(world.leased.renew, owner=world.database.owner, queue=JUDGE, lease_s=600)
    assert world.row()["lease_until"] > before
    assert world.row()["fence"] == 1


def test_a_process_releases_what_it_holds_of_a_queue(world: World) -> None:
    world.claim()
    world.run(world.leased.release_own, owner="another", queue=JUDGE)
    assert world.is_held()
    if world.leased.has_queue:
        world.run(world.leased.release_own, owner=world.database.owner, queue=HEAVY)
        assert world.is_held()
    world.run(world.leased.release_own, owner=world.database.owner, queue=JUDGE)
    assert not world.is_held()
    assert world.deaths() == 0


def test_blame_releases_and_counts_a_death_where_the_table_does(world: World) -> None:
    world.claim()
    world.run(world.leased.blame, owner=world.database.owner, queue=JUDGE)
    assert not world.is_held()
    assert world.deaths() == int(world.leased.counts_deaths)


def test_what_a_living_process_holds_is_not_abandoned(world: World) -> None:
    world.claim()
    assert world.run(world.leased.abandon, lease_s=LEASE_S) == 0
    assert world.is_held()


def test_what_a_dead_process_held_is_released_and_its_death_counted(world: World) -> None:
    world.dead_owner()
    assert world.run(world.leased.abandon, lease_s=LEASE_S) == 1
    assert not world.is_held()
    assert world.deaths() == int(world.leased.counts_deaths)
    assert world.leased.counts_deaths == (world.leased in (OUTBOX, OUTCOMES))
    world.claim()
    assert world.row()["fence"] == 2


def test_a_claim_from_before_a_restart_ends_by_time_alone(world: World) -> None:
    world.dead_owner()
    world.change("lease_until = pg_postmaster_start_time()")
    if world.leased is OUTCOMES:
        world.change("started_at = pg_postmaster_start_time() - interval '1 second'")
    assert world.run(world.leased.abandon, lease_s=LEASE_S) == 0
    assert world.deaths() == 0


def test_a_lease_that_ran_out_ends_as_its_table_says_and_counts_no_death(world: World) -> None:
    world.claim()
    world.change("lease_until = now() - interval '1 second'")
    swept = world.run(world.leased.expire)
    world.claim()
    assert (world.leased.table, swept, world.row()["fence"]) in {
        ("outbox", 0, 2), ("outcome", 1, 2), ("invocation", 0, 1),
        ("delivery", 1, 2),
    }
    assert world.deaths() == 0


def test_leases_end_with_their_process_in_every_table(world: World) -> None:
    world.dead_owner()
    assert Leases(world.database, lease_s=LEASE_S).release_abandoned() == 1
    assert not world.is_held()


def test_a_lease_is_released_by_one_fragment_in_every_statement() -> None:
    by_hand = [
        path.name
        for path in STORE.rglob("*.py")
        if "migrations" not in path.parts and path.name != "leases.py"
        and ("lease_until = " in path.read_text() or "owner = null" in path.read_text())
    ]
    assert by_hand == []
