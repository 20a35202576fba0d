"""Which rules select a span, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.paths import columns_read
from rules.model import Rule, Scope
from rules.sampling import is_sampled
from spans.clock import Clock
from spans.row import RowView, is_made_by_scorer
from spans.scoring import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRule:
    """A rule that is ready to decide: its filter is compiled.

    `columns` are those that the filter reads. If the filter does not compile, `filter_error`
    says why.
    """

    rule: Rule
    matches: Callable[[RowView], bool | None] | None
    filter_error: str | None
    columns: frozenset[str]

    def decide(self, row: RowView) -> Reason:
        """Whether this rule selects the finished span, and if not, the first reason why not."""
        rule = self.rule
        if is_made_by_scorer(row):
            return Reason.IS_SCORE_SPAN
        if _is_disabled(row):
            return Reason.DISABLED
        if rule.is_paused:
            return Reason.PAUSED
        if rule.scope is not Scope.SPAN:
            return Reason.UNSUPPORTED_SCOPE
        if not is_target(rule, row):
            return Reason.WRONG_TARGET
        if self.filter_error is not None:
            return Reason.FILTER_ERROR
        if self.matches is not None and (passed := self.matches(row)) is not True:
            return Reason.FILTER_NULL if passed is None else Reason.FILTER_FALSE
        if not is_sampled(rule.id, str(row["root_span_id"]), rate=rule.sampling_rate):
            return Reason.SAMPLED_OUT
        return Reason.SELECTED


def plan(rules: Iterable[Rule], *, clock: Clock) -> tuple[PlannedRule, ...]:
    """The rules, ready to decide, in order of their ids.

    If a filter no longer compiles, its rule decides FILTER_ERROR on every span, which `explain`
    shows to the rule's author. The other rules go on.
    """
    return tuple(_planned(rule, clock) for rule in sorted(rules, key=lambda rule: rule.id))


def is_target(rule: Rule, row: RowView) -> bool:
    """Whether the span is a target of the rule: the root, one of the names, or any span."""
    if not rule.apply_to_root_span and not rule.apply_to_span_names:
        return True
    if rule.apply_to_root_span and row["is_root"]:
        return True
    attributes = row.get("span_attributes")
    return (
        isinstance(attributes, dict) and attributes.get("name") in rule.apply_to_span_names
    )


def _planned(rule: Rule, clock: Clock) -> PlannedRule:
    if not rule.btql_filter.strip():
        return PlannedRule(rule=rule, matches=None, filter_error=None, columns=frozenset())
    try:
        expression = parse_filter(rule.btql_filter)
        return PlannedRule(
            rule=rule,
            matches=compile_filter(expression, now=clock),
            filter_error=None,
            columns=columns_read(expression),
        )
    except BtqlError as error:
        return PlannedRule(
            rule=rule, matches=None, filter_error=str(error), columns=frozenset()
        )


def _is_disabled(row: RowView) -> bool:
    state = row.get("_async_scoring_state")
    return isinstance(state, dict) and state.get("status") == "disabled"
