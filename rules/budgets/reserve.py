"""Decides which judge calls may be made: what each may cost at most is reserved before it.

A call is reserved from all budgets of its subjects, or from none. What is reserved counts like
what is spent, so a cap is never passed, whatever becomes of the calls under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from rules.budgets.model import (
    Budget,
    BudgetUse,
    Period,
    calls_room,
    money_room,
    money_text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAsk:
    """A call that is about to be made, for these subjects (a project, and a rule or a job).

    `money` is the most that it can cost, in billionths; None if nobody knows.
    """

    subjects: frozenset[UUID]
    money: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What was reserved for one call: from which budgets (by number, with the period's day),
    and how much money from each."""

    of: tuple[tuple[int, date | None], ...]
    money: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call may not be made. `needs_price`: since nobody knows what it can cost."""

    budget_no: int
    reason: str
    needs_price: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a reserved call has cost in the end. Nothing of either: it was not begun."""

    reservation: Reservation
    money: int
    calls: int


@dataclass(slots=True, kw_only=True)
class Balance:
    """A budget with what is spent of it in the present period, while calls are decided on."""

    no: int
    budget: Budget
    use: BudgetUse


def whole(reservation: Reservation) -> Settlement:
    """The settlement of a call that may have cost all that was reserved for it."""
    return Settlement(reservation=reservation, money=reservation.money, calls=1)


def reserve(
    asks: Sequence[CallAsk], balances: Iterable[Balance]
) -> list[Reservation | Refusal | None]:
    """What becomes of each call, one after another; None: no budget has a say in it.

    Changes the `use` of the balances to what it is after that.
    """
    of_subject: dict[UUID, list[Balance]] = {}
    for balance in balances:
        of_subject.setdefault(balance.budget.subject_id, []).append(balance)
    return [_reserve_one(ask, of_subject) for ask in asks]


def _reserve_one(
    ask: CallAsk, of_subject: dict[UUID, list[Balance]]
) -> Reservation | Refusal | None:
    concerned = sorted(
        (one for subject in ask.subjects for one in of_subject.get(subject, ())),
        key=lambda one: one.no,
    )
    if not concerned:
        return None
    money = ask.money or 0
    for one in concerned:
        if (refused := refusal(one, ask.money)) is not None:
            if not refused.needs_price:
                wanted = one.use.wanted
                least = money if wanted is None else min(wanted, money)
                one.use = replace(one.use, wanted=least)
            return refused
    for one in concerned:
        one.use = replace(
            one.use, money_reserved=one.use.money_reserved + money,
            calls_reserved=one.use.calls_reserved + 1,
        )
    return Reservation(of=tuple((one.no, one.use.day) for one in concerned), money=money)


def refusal(balance: Balance, money: int | None) -> Refusal | None:
    """Why the budget does not allow a call that may cost so much; None if it does."""
    budget, use = balance.budget, balance.use
    caps = budget.caps
    if caps.money is not None and money is None:
        return Refusal(
            budget_no=balance.no, needs_price=True,
            reason=f"{budget.named} caps money, and the model has no price: add it to "
            "TALLYARD_PRICES, or cap calls",
        )
    if caps.money is not None and (money or 0) > money_room(caps, use):
        reason = (
            f"{budget.named} holds it back: of {money_text(caps.money)}, "
            f"{money_text(use.money_spent)} are spent and {money_text(use.money_reserved)} "
            f"reserved for calls, and this call may cost {money_text(money or 0)}"
        )
    elif calls_room(caps, use) < 1:
        reason = (
            f"{budget.named} holds it back: of {caps.calls} calls, {use.calls_spent} are made "
            f"and {use.calls_reserved} reserved"
        )
    else:
        return None
    return Refusal(budget_no=balance.no, reason=f"{reason}; {_free_again(use.day)}")


def _free_again(day: date | None) -> str:
    """When there is budget again."""
    if day is None:
        return "it goes on when the budget is raised"
    midnight = next_day(day).isoformat(timespec="seconds")
    return f"it goes on at {midnight}, or when the budget is raised"


def next_day(day: date) -> datetime:
    """When the day after begins, in UTC."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)


def settled(use: BudgetUse, settlement: Settlement) -> BudgetUse:
    """The use after a reserved call has ended."""
    return replace(
        use,
        money_reserved=use.money_reserved - settlement.reservation.money,
        calls_reserved=use.calls_reserved - 1,
        money_spent=use.money_spent + settlement.money,
        calls_spent=use.calls_spent + settlement.calls,
    )


def day_of(period: Period, now: datetime) -> date | None:
    """The day by which the use in this period is kept."""
    return now.astimezone(UTC).date() if period is Period.DAY else None


def releasable(balance: Balance, most: int) -> int:
    """How many held outcomes the budget has room for, at most `most`.

    It goes by the least that a call asked for in vain. If nobody knows that, it takes `most`
    where anything is left: those that do not fit are held anew, and then it is known.
    """
    caps, use = balance.budget.caps, balance.use
    fit = most
    if caps.money is not None:
        room = caps.money - use.money
        if use.wanted is not None:
            fit = room // max(1, use.wanted)
        elif room <= 0:
            fit = 0
    return int(max(0, min(most, fit, calls_room(caps, use))))
