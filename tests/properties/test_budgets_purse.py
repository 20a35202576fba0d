"""Purses that share budgets: no interleaving of calls, ends and changes passes a cap."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest
from fakes.memory.access import MemoryProjects
from fakes.memory.budgets import MemoryBudgets
from fakes.memory.ticks import Ticks
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flows.budgets.budgets import NewBudget
from flows.budgets.purse import CallReceipt, Purses
from rules.budgets.model import Caps, Period, SubjectKind
from rules.budgets.reserve import (
    Balance,
    CallAsk,
    Refusal,
    Reservation,
    Settlement,
    releasable,
    whole,
)
from spans.errors import BudgetSpent, Contended, NoPrice, StoreUnavailable
from spans.ids import ProjectId

SUBJECTS = [uuid.UUID(int=one) for one in range(1, 4)]
PROJECT = SUBJECTS[0]


class Spending(RuleBasedStateMachine):
    """Calls that are reserved in groups, end in any way and order, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Ticks()
        self.budgets = MemoryBudgets(MemoryProjects(self.clock), self.clock)
        self.under_way: list[tuple[frozenset[UUID], Reservation, str]] = []
        self.spent: list[tuple[frozenset[UUID], int, str]] = []
        self.lost: list[tuple[frozenset[UUID], int, str]] = []
        self.caps: dict[tuple[UUID, Period], Caps] = {}

    def _day(self) -> str:
        return self.clock().date().isoformat()

    @rule(
        subject=st.sampled_from(SUBJECTS), period=st.sampled_from(Period),
        money=st.none() | st.integers(0, 60), calls=st.integers(0, 8),
    )
    def set_budget(
        self, subject: UUID, period: Period, money: int | None, calls: int
    ) -> None:
        """Caps are only raised, so that what was spent before fits them."""
        before = self.caps.get((subject, period))
        if before is None and (self.spent or self.under_way or self.lost):
            return
        if before is not None:
            money = None if before.money is None else max(before.money, money or 0)
            calls = max(before.calls or 0, calls)
        self.caps[subject, period] = Caps(money=money, calls=calls)
        self.budgets.put(NewBudget(
            new_id=uuid.uuid4(), project_id=ProjectId(PROJECT),
            subject_kind=SubjectKind.PROJECT, subject_id=subject, period=period,
            caps=self.caps[subject, period], created_by="key",
        ))

    @rule(asks=st.lists(
        st.tuples(st.sets(st.sampled_from(SUBJECTS), min_size=1), st.integers(0, 20)),
        max_size=6,
    ))
    def reserve(self, asks: list[tuple[set[UUID], int]]) -> None:
        given = [CallAsk(subjects=frozenset(who), money=money) for who, money in asks]
        for ask, found in zip(given, self.budgets.transact([], given), strict=True):
            has_budget = any(subject in ask.subjects for subject, _ in self.caps)
            assert (found is None) is not has_budget
            if isinstance(found, Reservation):
                self.under_way.append((ask.subjects, found, self._day()))

    @rule(data=st.data(), how=st.sampled_from(["cost", "whole", "refused", "lost"]))
    def end(self, data: st.DataObject, how: str) -> None:
        if not self.under_way:
            return
        place = data.draw(st.integers(0, len(self.under_way) - 1))
        who, reserved, day = self.under_way.pop(place)
        if how == "lost":
            self.lost.append((who, reserved.money, day))
            return
        done = whole(reserved)
        if how == "cost":
            cost = data.draw(st.integers(0, reserved.money))
            done = Settlement(reservation=reserved, money=cost, calls=1)
        elif how == "refused":
            done = Settlement(reservation=reserved, money=0, calls=0)
        self.budgets.transact([done], [])
        if done.calls:
            self.spent.append((who, done.money, day))

    @rule(hours=st.integers(1, 30))
    def let_pass(self, hours: int) -> None:
        self.clock.pass_s(hours * 3600)

    @invariant()
    def no_cap_is_passed_and_every_call_is_counted(self) -> None:
        for status in self.budgets.statuses(ProjectId(PROJECT)):
            budget, use = status.budget, status.use
            is_of_today = budget.period is Period.DAY

            def counts(who: frozenset[UUID], day: str) -> bool:
                return budget.subject_id in who and (  # noqa: B023 called at once
                    not is_of_today or day == self._day()  # noqa: B023 called at once
                )

            spent = [money for who, money, day in self.spent if counts(who, day)]
            open_calls = [
                one.money for who, one, day in self.under_way if counts(who, day)
            ] + [money for who, money, day in self.lost if counts(who, day)]
            assert (use.money_spent, use.calls_spent) == (sum(spent), len(spent))
            assert (use.money_reserved, use.calls_reserved) == (
                sum(open_calls), len(open_calls)
            )
            caps = self.caps[budget.subject_id, budget.period]
            assert caps.money is None or use.money <= caps.money
            assert caps.calls is None or use.calls <= caps.calls
            room = releasable(Balance(no=1, budget=budget, use=use), 5)
            assert 0 <= room <= 5


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


class CountingStore(MemoryBudgets):
    """Counts its transactions and looks, and fails as it is told."""

    def __init__(self) -> None:
        clock = Ticks()
        super().__init__(MemoryProjects(clock), clock)
        self.groups: list[int] = []
        self.looks = 0
        self.errors: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def transact(
        self, settlements: Sequence[Settlement], asks: Sequence[CallAsk]
    ) -> list[Reservation | Refusal | None]:
        assert self.gate.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append(len(settlements) + len(asks))
        return super().transact(settlements, asks)

    def capped(self) -> Mapping[UUID, bool]:
        self.looks += 1
        return super().capped()

    def cap(self, *, money: int | None = None, calls: int | None = None) -> None:
        self.put(NewBudget(
            new_id=uuid.uuid4(), project_id=ProjectId(PROJECT),
            subject_kind=SubjectKind.PROJECT, subject_id=PROJECT, period=Period.TOTAL,
            caps=Caps(money=money, calls=calls), created_by="key",
        ))

    @property
    def reserved(self) -> tuple[int, int]:
        (status,) = self.statuses(ProjectId(PROJECT))
        return status.use.money_reserved, status.use.calls_reserved


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def test_without_a_budget_nothing_is_asked_but_who_has_one(store: CountingStore) -> None:
    purses = Purses(store, answer_tokens_max=50)

    async def calls() -> list[CallReceipt | None]:
        purse = purses.of_project(ProjectId(PROJECT))
        assert await purse.answer_tokens_max() is None
        return [await purse.reserve(None) for _ in range(100)]

    assert asyncio.run(calls()) == [None] * 100
    assert (store.looks, store.groups) == (1, [])


def test_calls_that_wait_together_share_transactions_and_pass_no_cap(
    store: CountingStore,
) -> None:
    store.cap(money=150)
    purses = Purses(store, answer_tokens_max=50)

    async def call() -> bool:
        try:
            receipt = await purses.of_project(ProjectId(PROJECT)).reserve(1)
        except BudgetSpent:
            return False
        assert receipt is not None
        receipt.settle(1)
        return True

    async def calls() -> list[bool]:
        return await asyncio.gather(*(call() for _ in range(300)))

    made = asyncio.run(calls())
    purses.close()

    assert sum(made) == 150
    assert len(store.groups) < 60
    assert max(store.groups) <= 64
    assert store.reserved == (0, 0)


def test_a_call_that_nobody_waits_for_any_more_gives_back_what_was_reserved(
    store: CountingStore,
) -> None:
    store.cap(calls=1)
    purses = Purses(store, answer_tokens_max=50)
    store.gate.clear()

    async def give_up() -> None:
        purse = purses.of_project(ProjectId(PROJECT))
        waiting = asyncio.ensure_future(purse.reserve(None))
        await asyncio.wait([waiting], timeout=0.1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        store.gate.set()
        while store.groups[:2] != [1, 1]:
            await asyncio.to_thread(threading.Event().wait, 0.01)

    asyncio.run(give_up())
    purses.close()

    assert store.reserved == (0, 0)


def test_a_transaction_that_loses_is_repeated_and_other_errors_reach_who_waits(
    store: CountingStore,
) -> None:
    store.cap(calls=5)
    purses = Purses(store, answer_tokens_max=50)
    store.errors = [Contended("undone"), Contended("undone")]

    receipt = asyncio.run(purses.of_project(ProjectId(PROJECT)).reserve(None))
    assert receipt is not None

    store.errors = [StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable):
        asyncio.run(purses.of_project(ProjectId(PROJECT)).reserve(None))
    assert store.reserved == (0, 1)


def test_a_settlement_that_may_be_stored_is_not_repeated(store: CountingStore) -> None:
    store.cap(money=10)
    purses = Purses(store, answer_tokens_max=50)
    receipt = asyncio.run(purses.of_project(ProjectId(PROJECT)).reserve(10))
    assert receipt is not None
    store.errors = [StoreUnavailable("away")]

    receipt.settle(1)
    purses.close()

    assert store.reserved == (10, 1)


def test_a_budget_of_money_that_was_made_a_moment_ago_asks_for_the_price(
    store: CountingStore,
) -> None:
    store.cap(calls=5)
    purses = Purses(store, answer_tokens_max=50)

    async def calls() -> None:
        purse = purses.of_project(ProjectId(PROJECT))
        assert await purse.answer_tokens_max() is None
        store.cap(money=100, calls=5)
        with pytest.raises(NoPrice):
            await purse.reserve(None)
        assert await purse.answer_tokens_max() == 50

    asyncio.run(calls())


def test_who_has_a_budget_is_known_for_a_job_from_its_first_call_on(
    store: CountingStore,
) -> None:
    purses = Purses(store, answer_tokens_max=50)
    job = uuid.uuid4()

    async def calls() -> None:
        project = frozenset({PROJECT})
        assert await purses.capped_among(project, None) == []
        store.put(NewBudget(
            new_id=uuid.uuid4(), project_id=ProjectId(PROJECT),
            subject_kind=SubjectKind.JOB, subject_id=job, period=Period.TOTAL,
            caps=Caps(money=1), created_by="key",
        ))
        assert await purses.capped_among(project | {job}, job) == [True]

    asyncio.run(calls())
