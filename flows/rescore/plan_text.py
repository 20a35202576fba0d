"""A plan of a re-score job as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from flows.rescore.plan import Plan
from rules.budgets.model import Caps, money_text
from rules.rescore.estimate import JobEstimate, Range, ScorerEstimate
from rules.rescore.selection_count import SelectionCount

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))
_INSTANT = "less than 1 s"


def plan_lines(plan: Plan, caps: Caps | None = None) -> list[str]:
    """What the job would do and take, in plain sentences; `caps` are those of its budget."""
    lines = [_records(plan.counted.records), *_ids(plan.counted)]
    parts = plan.estimate.scorers
    for part, count in zip(parts, plan.counted.scorers, strict=True):
        # The job of one scorer takes as long as its rate allows, not as the scorer by itself.
        seconds = plan.estimate.seconds if len(parts) == 1 else part.seconds
        lines += ["", *_scorer(part, count.kept, seconds)]
    if len(parts) > 1:
        lines += ["", "all scorers", *_taken(plan.estimate)]
    if plan.pins:
        lines.append("")
    lines += [
        f"rule {pin.rule!r} pins version {pin.pinned} of {pin.scorer}; the job scores by"
        f" version {pin.version}"
        for pin in plan.pins
    ]
    if plan.probe is not None and plan.probe_records is not None:
        lines += ["", f"its probe: {_records(plan.probe_records)}", *_taken(plan.probe)]
    if caps is not None:
        lines += ["", *_budget(caps, plan.estimate.unpriced)]
    return lines


def _records(number: int) -> str:
    return f"{number:,} record{'' if number == 1 else 's'}"


def _ids(counted: SelectionCount) -> Iterator[str]:
    for number, why in (
        (counted.unknown, "have no row"),
        (counted.unfinished, "are of spans that have not ended"),
        (counted.made_by_scorers, "are of rows that scorers made"),
    ):
        if number:
            yield f"  {number:,} of the ids {why}: they are left out"


def _scorer(part: ScorerEstimate, kept: int, seconds: Range) -> Iterator[str]:
    yield f"{part.scorer.shown_as} {part.scorer.scorer.version}: {_records(part.records)}"
    if kept:
        yield f"  on {kept:,} of them a logged score of that name stays the one shown"
    if part.calls.high:
        asks = "" if part.model is None else f" of {part.model}"
        yield f"  calls{asks}, estimated {part.source}: {_range(part.calls, _whole)}"
        yield (
            f"  tokens: {_range(part.prompt_tokens, _whole)} of prompts,"
            f" {_range(part.completion_tokens, _whole)} of answers"
        )
        yield f"  money: {_money(part.money)}"
    else:
        yield f"  no calls: {part.source}"
    yield f"  time: {_range(seconds, _time)}"


def _taken(taken: JobEstimate) -> Iterator[str]:
    yield f"  calls: {_range(taken.calls, _whole)}"
    unpriced = f", without {', '.join(taken.unpriced)}" if taken.unpriced else ""
    yield f"  money: {_money(taken.money)}{unpriced}"
    yield f"  time: {_range(taken.seconds, _time)}"


def _budget(caps: Caps, unpriced: Sequence[str]) -> Iterator[str]:
    money = [] if caps.money is None else [f"{money_text(caps.money)} of money"]
    calls = [] if caps.calls is None else [f"{caps.calls:,} calls"]
    yield f"its budget: at most {' and '.join(money + calls)}; what it does not allow waits"
    if money and unpriced:
        yield (
            f"  without a price no model is asked: outcomes of {', '.join(unpriced)} will be"
            " errored (no_price)"
        )


def _money(money: Range | None) -> str:
    return "the model has no price" if money is None else _range(money, _short)


def _range(of: Range, told: Callable[[float], str]) -> str:
    """What is expected, and the range where it is not exact."""
    low, expected, high = told(of.low), told(of.expected), told(of.high)
    if low == high:
        return expected
    about = "" if expected == _INSTANT else "about "
    return f"{about}{expected} ({low} to {high})"


def _whole(number: float) -> str:
    return f"{round(number):,}"


def _short(number: float) -> str:
    """Three digits, never with an exponent."""
    return f"{Decimal(f'{number:.3g}'):,f}" if number < 1000 else f"{number:,.0f}"


def _time(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else _INSTANT
