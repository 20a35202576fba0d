"""The condition that a job's rows pass, as a tree of the filter language."""

from __future__ import annotations

from datetime import datetime

from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.tree import (
    TRUE,
    And,
    Compare,
    Comparison,
    Expr,
    Literal,
    LiteralKind,
    Not,
    Or,
    Path,
)
from rules.model import Rule, Scope
from rules.rescore.model import Selection
from spans.errors import BadInput

_NAME = Path(column="span_attributes", keys=("name",))
_STATUS = Path(column="_async_scoring_state", keys=("status",))


def condition_of(selection: Selection, rule: Rule | None) -> Expr:
    """What a selection asks of a row by its filter, its window and its rule.

    `rule` is the rule that the selection names. Its ids, its sampling and `only` are not part
    of it. Raises BadInput if a filter has an error, or the rule is missing.
    """
    parts: list[Expr] = []
    if selection.created_from is not None:
        parts.append(_created(Comparison.GE, selection.created_from))
    if selection.created_before is not None:
        parts.append(_created(Comparison.LT, selection.created_before))
    if selection.btql_filter.strip():
        parts.append(_parsed(selection.btql_filter, "the filter"))
    if selection.rule_id is not None:
        if rule is None or rule.id != selection.rule_id:
            raise BadInput(f"the rule {selection.rule_id} is gone: name scorers and a filter")
        parts.append(rule_condition(rule))
    return _all(parts)


def rule_condition(rule: Rule) -> Expr:
    """What a rule asks of a row by its target and its filter, whatever its sampling rate is.

    A row whose scoring its client disabled does not pass. Whether the rule is paused does not
    count. Raises BadInput if the rule's filter has an error, or it scores traces or groups.
    """
    if rule.scope is not Scope.SPAN:
        raise BadInput(f"the rule {rule.name!r} scores a {rule.scope}: a job scores spans")
    is_disabled = Compare(op=Comparison.IS, left=_STATUS, right=_text("disabled"))
    parts: list[Expr] = [Not(item=is_disabled)]
    targets: list[Expr] = [Path(column="is_root")] if rule.apply_to_root_span else []
    # An IN would also take a span whose name is an array with the name in it.
    targets += [
        Compare(op=Comparison.EQ, left=_NAME, right=_text(name))
        for name in dict.fromkeys(rule.apply_to_span_names)
    ]
    if targets:
        parts.append(targets[0] if len(targets) == 1 else Or(children=tuple(targets)))
    if rule.btql_filter.strip():
        parts.append(_parsed(rule.btql_filter, f"the filter of the rule {rule.name!r}"))
    return _all(parts)


def conjuncts(condition: Expr) -> tuple[Expr, ...]:
    """The conditions that a row must pass each; none for one that every row passes."""
    if isinstance(condition, And):
        return tuple(part for child in condition.children for part in conjuncts(child))
    return () if condition == TRUE else (condition,)


def _parsed(text: str, what: str) -> Expr:
    try:
        return parse_filter(text)
    except BtqlError as error:
        raise BadInput(f"{what} has an error: {error}") from error


def _all(parts: list[Expr]) -> Expr:
    if not parts:
        return TRUE
    return parts[0] if len(parts) == 1 else And(children=tuple(parts))


def _created(op: Comparison, moment: datetime) -> Expr:
    return Compare(op=op, left=Path(column="created"), right=_text(moment.isoformat()))


def _text(value: str) -> Literal:
    return Literal(kind=LiteralKind.STRING, value=value)
