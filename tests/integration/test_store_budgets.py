"""Budgets on PostgreSQL: what many processes spend of them at once, and what they hold back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from store_behaviours.budgets import BudgetBehaviours, ask, put, statuses, use
from stored_world import StoredWorld, opened_world

from flows.budgets.budgets import NewBudget
from rules.budgets.model import Caps, Period, SubjectKind
from rules.budgets.reserve import CallAsk, Refusal, Reservation, Settlement
from spans.clock import system_clock
from store.budgets.budgets import read_budget_measures
from store.budgets.purses import StoredPurses
from store.postgres.database import Database
from store.retention import BUDGET_USE_DAYS, Retention, Upkeep

pytestmark = pytest.mark.every_postgres

PROCESSES, ROUNDS = 8, 25


def tidy_up(world: StoredWorld) -> None:
    keep = Retention(
        match_record_days=1, rejected_row_days=1, resend_minutes=1, invocation_days=1,
        judge_cache_days=1,
    )
    Upkeep(world.database, keep, system_clock).drop_expired()


class TestStoredBudgets(BudgetBehaviours):
    @pytest.fixture
    def world(self, fresh_database_url: str) -> Iterator[StoredWorld]:
        with opened_world(fresh_database_url) as world:
            yield world

    def test_a_day_has_a_use_of_its_own(self, world: StoredWorld) -> None:
        put(world, money=10, period=Period.DAY)
        reserved = ask(world, 10)
        assert isinstance(reserved, Reservation)
        assert isinstance(ask(world, 1), Refusal)

        with world.database.cursor() as cursor:
            cursor.execute("update budget_use set day = day - 1")
        world.purses = StoredPurses(world.database)

        assert use(world).money == 0
        assert isinstance(ask(world, 10), Reservation)

    def test_a_day_that_begins_meanwhile_is_not_charged_for_the_calls_of_the_day_before(
        self, world: StoredWorld
    ) -> None:
        put(world, money=10, period=Period.DAY)
        reserved = ask(world, 10)
        assert isinstance(reserved, Reservation)
        ((no, day),) = reserved.of
        assert day is not None
        with world.database.cursor() as cursor:
            cursor.execute("update budget_use set day = day - 1")
        before = Reservation(of=((no, day.fromordinal(day.toordinal() - 1)),), money=10)

        world.purses.transact([Settlement(reservation=before, money=7, calls=1)], [])

        assert use(world).money == 0
        assert world.rows("select money_spent, money_reserved from budget_use") == [(7, 0)]

    def test_processes_that_reserve_and_settle_at_once_never_pass_a_cap_and_lose_nothing(
        self, world: StoredWorld
    ) -> None:
        rule = uuid.uuid4()
        put(world, money=1000, calls=90)
        put(world, rule=rule, money=700, period=Period.DAY)
        project = UUID(str(world.where.project_id))

        def work(process: int) -> tuple[int, int]:
            database = Database(world.url)
            purses = StoredPurses(database)
            subjects = frozenset({project, rule} if process % 2 else {project})
            spent = calls = 0
            done: list[Settlement] = []
            for number in range(ROUNDS):
                asks = [CallAsk(subjects=subjects, money=10 + number % 3)] * 2
                found = purses.transact(done, asks)
                got = [one for one in found if isinstance(one, Reservation)]
                done = [
                    Settlement(reservation=one, money=one.money - number % 2, calls=1)
                    for one in got
                ]
                spent += sum(one.money for one in done)
                calls += len(done)
            purses.transact(done, [])
            database.close()
            return spent, calls

        with ThreadPoolExecutor(PROCESSES) as pool:
            ends = list(pool.map(work, range(PROCESSES)))

        of_project, of_rule = statuses(world)
        assert of_project.use.money_spent == sum(spent for spent, _ in ends) <= 1000
        assert of_project.use.calls_spent == sum(calls for _, calls in ends) <= 90
        assert of_rule.use.money_spent == sum(spent for spent, _ in ends[1::2]) <= 700
        for one in (of_project, of_rule):
            assert (one.use.money_reserved, one.use.calls_reserved) == (0, 0)
        assert of_project.use.money_spent > 900 or of_project.use.calls_spent == 90

    def test_upkeep_deletes_budgets_of_rules_and_jobs_that_are_gone(
        self, world: StoredWorld
    ) -> None:
        of_project, of_rule = put(world, money=10), put(world, rule=world.rule(), calls=1)
        put(world, rule=uuid.uuid4(), calls=1)
        world.budgets.put(NewBudget(
            new_id=uuid.uuid4(), project_id=world.where.project_id,
            subject_kind=SubjectKind.JOB, subject_id=uuid.uuid4(), period=Period.TOTAL,
            caps=Caps(calls=1), created_by="key",
        ))
        tidy_up(world)
        assert len(statuses(world)) == 4   # a job may be about to be made

        with world.database.cursor() as cursor:
            cursor.execute("update budget set created = created - interval '25 hours'")
        tidy_up(world)

        assert [one.budget.id for one in statuses(world)] == [of_project.id, of_rule.id]

    def test_upkeep_deletes_what_was_spent_on_former_days_and_keeps_totals(
        self, world: StoredWorld
    ) -> None:
        put(world, money=10)
        put(world, money=10, period=Period.DAY)
        ask(world, 1)
        with world.database.cursor() as cursor:
            cursor.execute(
                """insert into budget_use (budget_no, day)
                   select budget_no, day - days from budget_use, unnest(array[%s, %s]) days
                    where day > '-infinity'""",
                (BUDGET_USE_DAYS, BUDGET_USE_DAYS + 1),
            )

        tidy_up(world)

        assert world.rows(
            """select (now() at time zone 'utc')::date - nullif(day, '-infinity')
                 from budget_use order by day"""
        ) == [(None,), (BUDGET_USE_DAYS,), (0,)]

    def test_what_is_measured_has_the_caps_and_what_is_spent(self, world: StoredWorld) -> None:
        put(world, money=2_000_000_000, calls=3)
        ask(world, 500_000_000)

        (measured,) = read_budget_measures(world.database)

        assert (measured.money, measured.calls) == (2.0, 3)
        assert (measured.money_reserved, measured.calls_reserved) == (0.5, 1)
        assert (measured.money_spent, measured.calls_spent, measured.held) == (0.0, 0, 0)
