"""Which judge calls a budget allows, and why not."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.budgets.model import (
    BILLION,
    Budget,
    BudgetUse,
    Caps,
    Period,
    SubjectKind,
    money_of,
    money_text,
)
from rules.budgets.reserve import (
    Balance,
    CallAsk,
    Refusal,
    Reservation,
    Settlement,
    day_of,
    releasable,
    reserve,
    settled,
    whole,
)
from spans.ids import ProjectId

PROJECT, RULE = uuid.uuid4(), uuid.uuid4()
DAY = date(2026, 12, 1)


def balance(
    *, no: int = 1, money: int | None = None, calls: int | None = None,
    rule: bool = False, period: Period = Period.TOTAL, **use: int | None,
) -> Balance:
    budget = Budget(
        id=uuid.UUID(int=no), project_id=ProjectId(PROJECT),
        subject_kind=SubjectKind.RULE if rule else SubjectKind.PROJECT,
        subject_id=RULE if rule else PROJECT, period=period,
        caps=Caps(money=money, calls=calls), created=datetime(2026, 12, 1, tzinfo=UTC),
    )
    day = DAY if period is Period.DAY else None
    return Balance(no=no, budget=budget, use=replace(BudgetUse(day=day), **use))


def ask(money: int | None, *, rule: bool = True) -> CallAsk:
    return CallAsk(subjects=frozenset({PROJECT, RULE} if rule else {PROJECT}), money=money)


def test_a_call_that_no_budget_concerns_is_reserved_nowhere() -> None:
    assert reserve([ask(5, rule=False)], [balance(money=1, rule=True)]) == [None]


def test_what_is_reserved_counts_like_what_is_spent() -> None:
    one = balance(money=10, money_spent=4)

    first, second, third = reserve([ask(4), ask(3), ask(2)], [one])

    assert isinstance(first, Reservation)
    assert isinstance(second, Refusal)
    assert isinstance(third, Reservation)      # a cheaper call still fits
    assert one.use.money == 10
    assert one.use.wanted == 3


def test_a_call_is_reserved_from_all_its_budgets_or_from_none() -> None:
    project, rule = balance(no=1, calls=10), balance(no=2, money=5, rule=True)

    (refused,) = reserve([ask(6)], [project, rule])
    assert isinstance(refused, Refusal)
    assert refused.budget_no == 2
    assert (project.use.calls, rule.use.calls) == (0, 0)

    (reserved,) = reserve([ask(5)], [project, rule])
    assert reserved == Reservation(of=((1, None), (2, None)), money=5)
    assert (project.use.calls, rule.use.calls) == (1, 1)


def test_a_model_without_a_price_is_refused_only_where_money_is_capped() -> None:
    (allowed,) = reserve([ask(None)], [balance(calls=1)])
    assert isinstance(allowed, Reservation)

    (refused,) = reserve([ask(None)], [balance(money=BILLION)])
    assert isinstance(refused, Refusal)
    assert refused.needs_price
    assert "TALLYARD_PRICES" in refused.reason


def test_the_reason_names_the_budget_the_cap_what_is_spent_and_when_it_goes_on() -> None:
    one = balance(
        money=BILLION, money_spent=BILLION // 2, money_reserved=BILLION // 4,
        period=Period.DAY, rule=True,
    )

    (refused,) = reserve([ask(BILLION)], [one])

    assert isinstance(refused, Refusal)
    assert refused.reason == (
        f"the daily budget of rule {RULE} ({uuid.UUID(int=1)}) holds it back: of 1, 0.5 are "
        "spent and 0.25 reserved for calls, and this call may cost 1; it goes on at "
        "2026-12-02T00:00:00+00:00, or when the budget is raised"
    )
    (of_calls,) = reserve([ask(0)], [balance(calls=2, calls_spent=2)])
    assert isinstance(of_calls, Refusal)
    assert "of 2 calls, 2 are made and 0 reserved" in of_calls.reason
    assert of_calls.reason.endswith("it goes on when the budget is raised")


def test_a_settled_call_has_spent_what_it_cost_and_no_more() -> None:
    one = balance(money=10)
    (reserved,) = reserve([ask(10)], [one])
    assert isinstance(reserved, Reservation)

    cheap = settled(one.use, Settlement(reservation=reserved, money=3, calls=1))
    assert (cheap.money, cheap.money_spent, cheap.calls_spent) == (3, 3, 1)
    assert settled(one.use, whole(reserved)).money_spent == 10
    refused = settled(one.use, Settlement(reservation=reserved, money=0, calls=0))
    assert (refused.money, refused.calls) == (0, 0)


@pytest.mark.parametrize(
    ("given_balance", "wanted"),
    [
        (balance(money=10, money_spent=10), 0),
        (balance(money=10), 100),
        (balance(money=10, wanted=3), 3),
        (balance(money=10, money_reserved=8, wanted=3), 0),
        (balance(calls=7, wanted=3), 7),
        (balance(calls=7, calls_spent=7), 0),
        (balance(money=10, calls=2, wanted=1), 2),
    ],
)
def test_as_many_are_released_as_there_is_room_for(given_balance: Balance, wanted: int) -> None:
    assert releasable(given_balance, 100) == wanted


def test_a_day_begins_at_midnight_utc() -> None:
    late = datetime.fromisoformat("2026-12-01T01:00:00+02:00")

    assert day_of(Period.DAY, late) == date(2026, 11, 30)
    assert day_of(Period.TOTAL, late) is None


def test_money_is_told_without_needless_digits() -> None:
    assert money_text(money_of(12.5)) == "12.5"
    assert money_text(1) == "0.000000001"
    assert money_text(3 * BILLION) == "3"


@given(
    cap=st.integers(0, 50), calls=st.integers(0, 8),
    asks=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20),
)
def test_no_cap_is_passed_whatever_the_calls_cost_up_to_what_was_reserved(
    cap: int, calls: int, asks: list[tuple[int, int]]
) -> None:
    one = balance(money=cap, calls=calls)
    under_way: list[tuple[Reservation, int]] = []
    for most, cost in asks:
        (found,) = reserve([ask(most)], [one])
        if isinstance(found, Reservation):
            under_way.append((found, min(cost, most)))
        if len(under_way) > 2:
            done, spent = under_way.pop(0)
            one.use = settled(one.use, Settlement(reservation=done, money=spent, calls=1))
        assert one.use.money <= cap
        assert one.use.calls <= calls
