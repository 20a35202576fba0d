"""What every store does with budgets, what is spent of them, and what they hold back."""

from __future__ import annotations

import uuid
from uuid import UUID

from store_behaviours.circuits import claimed, judged, queues
from store_behaviours.scoring import ScoringWorld, record

from flows.budgets.budgets import BudgetStatus, NewBudget
from rules.budgets.model import Budget, BudgetUse, Caps, Period, SubjectKind
from rules.budgets.reserve import CallAsk, Refusal, Reservation, Settlement, whole
from spans.ids import OrgId
from spans.queues import JUDGE, budget_queue
from spans.work import BudgetHold, RunnableClaim

NO_SUBJECT = uuid.uuid4()


def put(
    world: ScoringWorld, *, rule: UUID | None = None, money: int | None = None,
    calls: int | None = None, period: Period = Period.TOTAL,
) -> Budget:
    budget, _ = world.budgets.put(NewBudget(
        new_id=uuid.uuid4(), project_id=world.where.project_id,
        subject_kind=SubjectKind.RULE if rule else SubjectKind.PROJECT,
        subject_id=rule or world.where.project_id, period=period,
        caps=Caps(money=money, calls=calls), created_by="key",
    ))
    return budget


def ask(
    world: ScoringWorld, money: int | None = 0, rule: UUID = NO_SUBJECT
) -> Reservation | Refusal | None:
    subjects = frozenset({UUID(str(world.where.project_id)), rule})
    (found,) = world.purses.transact([], [CallAsk(subjects=subjects, money=money)])
    return found


def settle(world: ScoringWorld, *settlements: Settlement) -> None:
    assert world.purses.transact(settlements, []) == []


def statuses(world: ScoringWorld) -> list[BudgetStatus]:
    return world.budgets.statuses(world.where.project_id)


def use(world: ScoringWorld) -> BudgetUse:
    (status,) = statuses(world)
    return status.use


def refuse(world: ScoringWorld, claims: list[RunnableClaim], money: int = 0) -> None:
    """Hold claims back by the first budget, which has refused calls of them."""
    for claim in claims:
        refusal = ask(world, money)
        assert isinstance(refusal, Refusal)
        world.worker.ledger.hold_for_budget([
            BudgetHold(claim=claim, budget_no=refusal.budget_no, reason=refusal.reason)
        ])


class BudgetBehaviours:
    """A subclass has a fixture `world` that gives a ScoringWorld."""

    def test_a_subject_has_one_budget_for_each_period_and_a_change_keeps_what_is_spent(
        self, world: ScoringWorld
    ) -> None:
        first = put(world, money=10)
        reserved = ask(world, 4)
        assert isinstance(reserved, Reservation)
        settle(world, whole(reserved))

        again = put(world, calls=7)
        daily = put(world, calls=3, period=Period.DAY)

        assert (again.id, again.caps) == (first.id, Caps(calls=7))
        assert [(one.budget.id, one.use.money_spent) for one in statuses(world)] == [
            (first.id, 4), (daily.id, 0)
        ]
        assert world.budgets.find(world.org_id, first.id) == again
        assert world.budgets.find(OrgId(uuid.uuid4()), first.id) is None

    def test_which_subjects_have_budgets_and_whether_money_is_capped_is_known(
        self, world: ScoringWorld
    ) -> None:
        rule = uuid.uuid4()
        put(world, calls=1)
        assert world.purses.capped() == {world.where.project_id: False}

        put(world, money=1, period=Period.DAY)
        put(world, rule=rule, calls=1)

        assert world.purses.capped() == {world.where.project_id: True, rule: False}

    def test_what_is_reserved_counts_until_it_is_settled(self, world: ScoringWorld) -> None:
        put(world, money=10, calls=2)

        reserved = ask(world, 10)

        assert isinstance(reserved, Reservation)
        assert isinstance(ask(world, 1), Refusal)
        settle(world, Settlement(reservation=reserved, money=3, calls=1))
        assert isinstance(ask(world, 7), Reservation)
        assert isinstance(ask(world, 0), Refusal)   # no third call
        found = use(world)
        assert (found.money_spent, found.money_reserved) == (3, 7)
        assert (found.calls_spent, found.calls_reserved) == (1, 1)

    def test_a_call_is_reserved_from_all_its_budgets_or_from_none(
        self, world: ScoringWorld
    ) -> None:
        rule = uuid.uuid4()
        put(world, money=100)
        put(world, rule=rule, money=5)

        refused = ask(world, 6, rule)

        assert isinstance(refused, Refusal)
        assert str(rule) in refused.reason
        assert [one.use.money for one in statuses(world)] == [0, 0]
        assert isinstance(ask(world, 5, rule), Reservation)
        assert [one.use.money for one in statuses(world)] == [5, 5]

    def test_no_budget_has_a_say_in_calls_of_others(self, world: ScoringWorld) -> None:
        put(world, rule=uuid.uuid4(), calls=0)

        assert ask(world, 5, uuid.uuid4()) is None

    def test_many_calls_of_one_transaction_are_decided_one_after_another(
        self, world: ScoringWorld
    ) -> None:
        put(world, calls=2)
        one = CallAsk(subjects=frozenset({UUID(str(world.where.project_id))}), money=None)

        found = world.purses.transact([], [one, one, one])

        assert [isinstance(each, Reservation) for each in found] == [True, True, False]

    def test_a_settlement_of_a_deleted_budget_does_nothing(self, world: ScoringWorld) -> None:
        budget = put(world, money=10)
        reserved = ask(world, 4)
        assert isinstance(reserved, Reservation)

        world.budgets.delete(budget.id)

        settle(world, whole(reserved))
        assert ask(world, 4) is None
        assert statuses(world) == []
        put(world, money=10)
        assert use(world).money == 0

    def test_what_is_held_is_not_claimed_counts_no_attempt_and_tells_its_reason(
        self, world: ScoringWorld
    ) -> None:
        put(world, calls=0)

        refuse(world, judged(world, "a", "b"))

        assert claimed(world) == []
        assert {one.attempts for one in world.outcomes()} == {0}
        assert {one.error_class for one in world.outcomes()} == {"budget_spent"}
        (status,) = statuses(world)
        assert status.held == 2
        assert status.reason is not None
        assert "of 0 calls, 0 are made" in status.reason

    def test_what_a_budget_of_one_rule_holds_runs_for_another_rule(
        self, world: ScoringWorld
    ) -> None:
        for name in ("first", "second"):
            world.rule(name, "ContextRelevancy")
        world.defer("a")
        (claim,) = claimed(world)
        capped = claim.lead.origin.id
        put(world, rule=capped, calls=0)
        refusal = ask(world, rule=capped)
        assert isinstance(refusal, Refusal)

        world.worker.ledger.hold_for_budget([
            BudgetHold(claim=claim, budget_no=refusal.budget_no, reason=refusal.reason)
        ])

        (other,) = claimed(world)
        assert other.lead.origin.id != capped
        record(world.worker, other)
        assert {one.state for one in world.outcomes()} == {"completed"}

    def test_a_claim_that_others_hold_by_now_cannot_be_held_back(
        self, world: ScoringWorld
    ) -> None:
        put(world, calls=0)
        before = judged(world, "a")
        world.worker.ledger.give_back(before)
        (now,) = claimed(world)

        refuse(world, before)
        assert queues(world) == {"a": JUDGE}

        refuse(world, [now])
        assert queues(world)["a"] != JUDGE

    def test_nothing_is_released_until_there_is_room(self, world: ScoringWorld) -> None:
        put(world, money=10)
        reserved = ask(world, 8)
        assert isinstance(reserved, Reservation)
        refuse(world, judged(world, "a", "b", "c"), money=3)

        assert world.held.release_some(10) == set()
        settle(world, Settlement(reservation=reserved, money=6, calls=1))

        assert world.held.release_some(10) == {JUDGE}
        (back,) = claimed(world)            # 4 are left, and each asks for 3
        assert (back.attempts, back.last_failure) == (1, None)

    def test_a_budget_that_is_raised_or_deleted_releases_slices(
        self, world: ScoringWorld
    ) -> None:
        budget = put(world, calls=0)
        refuse(world, judged(world, "a", "b", "c"))

        put(world, calls=2)
        world.held.release_some(10)
        assert len(claimed(world)) == 2

        world.budgets.delete(budget.id)
        world.held.release_some(10)
        assert len(claimed(world)) == 1
        assert world.held.release_some(10) == set()

    def test_a_slice_has_live_outcomes_before_bulk_and_the_oldest_first(
        self, world: ScoringWorld
    ) -> None:
        world.rule("judged", "ContextRelevancy")
        put(world, calls=0)
        for name in ("bulk 1", "bulk 2"):
            world.defer_bulk(name)
            refuse(world, claimed(world))
        for name in ("live 1", "live 2"):
            world.defer(name)
            refuse(world, claimed(world))
        put(world, calls=10)

        for wanted in ("live 1", "live 2", "bulk 1", "bulk 2"):
            assert world.held.release_some(1) == {JUDGE}
            assert [claim.lead.subject_id for claim in claimed(world)] == [wanted]

    def test_the_name_of_a_held_queue_tells_the_priority_and_where_it_goes_from_there(
        self, world: ScoringWorld
    ) -> None:
        put(world, calls=0)
        claims = judged(world, "a")
        refusal = ask(world)
        assert isinstance(refusal, Refusal)

        refuse(world, claims)

        assert queues(world) == {
            "a": budget_queue(refusal.budget_no, is_live=True, queue=JUDGE)
        }

    def test_circuits_leave_alone_what_a_budget_holds(self, world: ScoringWorld) -> None:
        put(world, calls=0)
        refuse(world, judged(world, "a"))

        world.circuits.tend(["default"])

        assert claimed(world) == []
