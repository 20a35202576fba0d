"""Planning, over drawn rules and spans: one reason each, the first that holds, in any order."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from btql_strategies import conditions, rows
from hypothesis import given
from hypothesis import strategies as st

from rules.model import Rule, Scope, ScorerChoice
from rules.planning import PlannedRule, is_target, plan
from rules.sampling import sampling_number
from spans.columns import API_COLUMNS
from spans.ids import ProjectId, RuleId
from spans.json import JsonObject
from spans.scoring import Reason

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
LEVENSHTEIN = ScorerChoice(kind="global", name="Levenshtein")
ALWAYS_READ = frozenset(name for name, column in API_COLUMNS.items() if column.is_always_read)


def rule_of(number: int = 1, **fields: object) -> Rule:
    return replace(
        Rule(
            id=RuleId(uuid.UUID(int=number)), project_id=ProjectId(uuid.UUID(int=9)),
            name=f"rule {number}", created=NOW, scorers=(LEVENSHTEIN,), sampling_rate=1.0,
        ),
        **fields,   # type: ignore[arg-type]
    )


def planned(rule: Rule) -> PlannedRule:
    (only,) = plan([rule], clock=lambda: NOW)
    return only


# What the row `span` makes of each filter, or None for one that does not compile.
SPAN: JsonObject = {
    "id": "row", "span_id": "span", "root_span_id": "trace", "is_root": False,
    "metrics": {"end": 1.0}, "metadata": {"model": "m"}, "span_attributes": {"name": "other"},
    "_async_scoring_state": None,
}
FILTERS = {
    "": True, " \n": True,
    "metadata.model = 'm'": True, "metadata.model = 'n'": False,
    "metadata.none = 'm'": None,
    "metadata.model =": "broken", "no_such_function(1)": "broken",
}
# (apply_to_root_span, apply_to_span_names), (is_root, span_attributes), whether it is a target
TARGETS = [
    (False, (), False, {"name": "other"}, True),
    (False, (), False, None, True),
    (True, (), True, {"name": "other"}, True),
    (True, (), False, {"name": "other"}, False),
    (False, ("chat", "llm"), False, {"name": "llm"}, True),
    (False, ("chat",), True, {"name": "other"}, False),
    (False, ("chat",), False, {}, False),
    (False, ("chat",), False, None, False),
    (True, ("chat",), False, {"name": "chat"}, True),
    (True, ("chat",), True, {"name": "other"}, True),
    (True, ("chat",), False, {"name": "other"}, False),
]
MADE_BY_SCORER = [{"purpose": "scorer"}, {"type": "score"}]
NOT_DISABLED = [None, {}, {"status": "enabled"}, {"status": None}]


@dataclass(frozen=True)
class Case:
    """A rule and a span, and what was put into them that keeps the one from the other."""

    rule: Rule
    span: JsonObject
    obstacles: frozenset[Reason]


# The order in which reasons are told: first what keeps the span from every rule, last what the
# rule would take with a higher rate.
PRECEDENCE = [
    Reason.IS_SCORE_SPAN, Reason.DISABLED, Reason.PAUSED, Reason.UNSUPPORTED_SCOPE,
    Reason.WRONG_TARGET, Reason.FILTER_ERROR, Reason.FILTER_FALSE, Reason.FILTER_NULL,
    Reason.SAMPLED_OUT,
]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    obstacles: set[Reason] = set()

    def hinders(reason: Reason) -> bool:
        if draw(st.sampled_from([False, False, False, True])):
            obstacles.add(reason)
            return True
        return False

    to_root, to_names, is_root, attributes, is_aim = draw(st.sampled_from(TARGETS))
    if not is_aim:
        obstacles.add(Reason.WRONG_TARGET)
    if hinders(Reason.IS_SCORE_SPAN):
        attributes = {**(attributes or {}), **draw(st.sampled_from(MADE_BY_SCORER))}
    state = draw(st.sampled_from(NOT_DISABLED))
    if hinders(Reason.DISABLED):
        state = {**(state or {}), "status": "disabled"}
    text, passes = draw(st.sampled_from(sorted(FILTERS.items())))
    if passes is not True:
        obstacles.add({
            "broken": Reason.FILTER_ERROR, False: Reason.FILTER_FALSE, None: Reason.FILTER_NULL,
        }[passes])
    rule = rule_of(
        draw(st.integers(1, 50)), btql_filter=text, apply_to_root_span=to_root,
        apply_to_span_names=to_names, is_paused=hinders(Reason.PAUSED),
        scope=draw(st.sampled_from([Scope.TRACE, Scope.GROUP]))
        if hinders(Reason.UNSUPPORTED_SCOPE) else Scope.SPAN,
    )
    trace = draw(st.sampled_from(["trace", "4bf92f35", "größe"]))
    number = sampling_number(rule.id, trace)
    rate = draw(st.floats(0, number) if hinders(Reason.SAMPLED_OUT) else
                st.floats(number, 1, exclude_min=True))
    return Case(
        rule=replace(rule, sampling_rate=rate),
        span={**SPAN, "root_span_id": trace, "is_root": is_root, "span_attributes": attributes,
              "_async_scoring_state": state},
        obstacles=frozenset(obstacles),
    )


@given(cases())
def test_a_span_is_selected_if_nothing_hinders_it_else_the_first_obstacle_is_told(
    case: Case,
) -> None:
    expected = next((one for one in PRECEDENCE if one in case.obstacles), Reason.SELECTED)

    assert planned(case.rule).decide(case.span) is expected


@pytest.mark.parametrize("reason", [Reason.SELECTED, *PRECEDENCE])
def test_every_reason_is_told_where_nothing_else_hinders(reason: Reason) -> None:
    hindrances: dict[Reason, tuple[dict[str, object], JsonObject]] = {
        Reason.SELECTED: ({}, {}),
        Reason.IS_SCORE_SPAN: ({}, {"span_attributes": {"purpose": "scorer"}}),
        Reason.DISABLED: ({}, {"_async_scoring_state": {"status": "disabled"}}),
        Reason.PAUSED: ({"is_paused": True}, {}),
        Reason.UNSUPPORTED_SCOPE: ({"scope": Scope.GROUP}, {}),
        Reason.WRONG_TARGET: ({"apply_to_root_span": True}, {}),
        Reason.FILTER_ERROR: ({"btql_filter": "metadata.model ="}, {}),
        Reason.FILTER_FALSE: ({"btql_filter": "metadata.model = 'n'"}, {}),
        Reason.FILTER_NULL: ({"btql_filter": "metadata.none = 'm'"}, {}),
        Reason.SAMPLED_OUT: ({"sampling_rate": 0.0}, {}),
    }
    of_rule, of_span = hindrances[reason]

    assert planned(rule_of(**of_rule)).decide({**SPAN, **of_span}) is reason


@given(
    st.lists(cases(), min_size=1, max_size=6, unique_by=lambda case: case.rule.id), st.data()
)
def test_rules_decide_the_same_in_any_order_and_beside_any_others(
    drawn: list[Case], data: st.DataObject
) -> None:
    rules = [case.rule for case in drawn]
    span = drawn[0].span
    alone = {rule.id: planned(rule).decide(span) for rule in rules}

    together = plan(data.draw(st.permutations(rules)), clock=lambda: NOW)

    assert {one.rule.id: one.decide(span) for one in together} == alone
    assert [one.rule.id for one in together] == sorted(rule.id for rule in rules)


@given(cases())
def test_deciding_twice_and_planning_twice_decide_the_same(case: Case) -> None:
    once = planned(case.rule)
    again = planned(once.rule)

    assert once.decide(case.span) is once.decide(case.span) is again.decide(case.span)


@given(conditions, rows)
def test_a_rule_decides_by_the_columns_that_it_names_and_those_that_are_always_read(
    text: str, row: JsonObject
) -> None:
    # Matching reads no others from the store.
    whole = {**dict.fromkeys(API_COLUMNS), **SPAN, **row}
    one = planned(rule_of(btql_filter=text))
    read = {name: whole[name] for name in one.columns | ALWAYS_READ}

    assert one.decide(read) is one.decide(whole)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_the_root_or_a_named_span_or_any_if_the_rule_names_none(
    target: tuple[bool, tuple[str, ...], bool, JsonObject | None, bool],
) -> None:
    to_root, to_names, is_root, attributes, expected = target
    rule = rule_of(apply_to_root_span=to_root, apply_to_span_names=to_names)

    assert is_target(rule, {"is_root": is_root, "span_attributes": attributes}) is expected


@pytest.mark.parametrize("text", [text for text, is_ in FILTERS.items() if is_ == "broken"])
def test_a_filter_that_does_not_compile_says_why_and_reads_nothing(text: str) -> None:
    broken = planned(rule_of(btql_filter=text))

    assert broken.filter_error
    assert broken.columns == frozenset()
