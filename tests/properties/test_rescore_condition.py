"""The condition that a rule asks of a job's rows agrees with what the rule decides live."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from btql_strategies import conditions, rows, values
from hypothesis import given
from hypothesis import strategies as st

from btql.closure import compile_filter
from btql.errors import BtqlError
from btql.parse import parse_filter
from btql.tree import TRUE, Expr
from rules.model import Rule, Scope, ScorerChoice
from rules.planning import plan
from rules.rescore.condition import condition_of, conjuncts, rule_condition
from rules.rescore.model import Selection
from spans.columns import API_COLUMNS
from spans.errors import BadInput
from spans.ids import ObjectId, ProjectId, RuleId
from spans.json import JsonObject
from spans.row import is_made_by_scorer, project_logs
from spans.scoring import Reason

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
RULE = Rule(
    id=RuleId(uuid.UUID(int=1)), project_id=ProjectId(uuid.UUID(int=9)), name="rule",
    created=NOW, scorers=(ScorerChoice(kind="global", name="Levenshtein"),), sampling_rate=1.0,
)
NAMES = ["chat", "tool", "é", ""]
attributes = st.one_of(
    st.none(), values,
    st.fixed_dictionaries({"name": st.sampled_from(NAMES) | values}, optional={"type": values}),
    st.fixed_dictionaries({"name": st.sampled_from([["chat"], {"name": "chat"}, 1, None])}),
)
states = st.one_of(
    st.none(), values,
    st.fixed_dictionaries({"status": st.sampled_from(["disabled", "enabled", ["disabled"]])}),
)


def passes(condition: Expr, row: JsonObject) -> bool:
    return compile_filter(condition, now=lambda: NOW)(row) is True


@given(
    rows, attributes, states, st.booleans(), st.lists(st.sampled_from(NAMES), max_size=3),
    st.just("") | conditions,
)
def test_a_row_passes_if_the_rule_would_select_it(
    row: JsonObject, named: object, state: object, to_root: bool, names: list[str], text: str,
) -> None:
    try:
        parse_filter(text)
    except BtqlError:
        return
    whole = {
        **dict.fromkeys(API_COLUMNS), "id": "row", **row, "span_attributes": named,
        "_async_scoring_state": state,
    }
    if is_made_by_scorer(whole):
        return   # no job takes it, whatever its condition is
    rule = replace(
        RULE, btql_filter=text, apply_to_root_span=to_root, apply_to_span_names=tuple(names),
    )
    (planned,) = plan([rule], clock=lambda: NOW)

    assert passes(rule_condition(rule), whole) is (planned.decide(whole) is Reason.SELECTED)


def test_a_paused_rule_and_its_sampling_rate_do_not_count() -> None:
    row = {**dict.fromkeys(API_COLUMNS), "is_root": True}

    assert passes(rule_condition(replace(RULE, is_paused=True, sampling_rate=0.0)), row)


@pytest.mark.parametrize(("rule", "why"), [
    (replace(RULE, btql_filter="metadata.x ="), "the filter of the rule 'rule' has an error"),
    (replace(RULE, scope=Scope.TRACE), "scores a trace: a job scores spans"),
    (None, "is gone: name scorers and a filter"),
    (replace(RULE, id=RuleId(uuid.UUID(int=2))), "is gone: name scorers and a filter"),
])
def test_a_rule_that_selects_nothing_is_refused_with_the_reason(
    rule: Rule | None, why: str
) -> None:
    selection = Selection(objects=(), rule_id=RULE.id)
    with pytest.raises(BadInput, match=why):
        condition_of(selection, rule)


def test_a_filter_with_an_error_is_refused() -> None:
    with pytest.raises(BadInput, match="the filter has an error"):
        condition_of(Selection(objects=(), btql_filter="metadata.x ="), None)


def test_a_window_begins_with_its_first_time_and_ends_before_its_last() -> None:
    where = project_logs(ProjectId(ObjectId(uuid.UUID(int=9))))
    selection = Selection(
        objects=(where,), created_from=NOW, created_before=NOW + timedelta(hours=1),
        btql_filter="is_root",
    )
    condition = condition_of(selection, None)

    def is_taken(moment: datetime, is_root: bool = True) -> bool:
        return passes(condition, {"created": moment.isoformat(), "is_root": is_root})

    assert is_taken(NOW)
    assert not is_taken(NOW, is_root=False)
    assert not is_taken(NOW - timedelta(milliseconds=1))
    assert is_taken(NOW + timedelta(minutes=59))
    assert not is_taken(NOW + timedelta(hours=1))
    assert len(conjuncts(condition)) == 3


def test_a_selection_of_all_rows_asks_nothing() -> None:
    condition = condition_of(Selection(objects=()), None)

    assert condition == TRUE
    assert conjuncts(condition) == ()
