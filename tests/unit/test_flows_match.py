"""Matching over a store in memory: what is decided, what runs at once, and what waits where."""

from __future__ import annotations

import pytest
from memory_scoring import MemoryWorld
from store_behaviours.scoring import CHEAP, LEASE_S, NOTHING_IS_CHEAP, RESELECT, ended

from flows.scoring.match import DEATHS_WHILE_MATCHING, ENTRY_DEATHS_MAX, MatchCount, Matcher
from spans.errors import Contended, StaleFence, StoreUnavailable
from spans.json import JsonObject
from spans.queues import HEAVY, JUDGE, MATCH
from spans.scoring import REASON_OF_BYTE, Reason
from spans.work import RunnableClaim


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


def matcher(world: MemoryWorld, cost_limit: float = CHEAP) -> Matcher:
    return Matcher(store=world.worker.records, cost_limit=cost_limit)


def decided(world: MemoryWorld, entry: int = -1) -> dict[str, list[Reason]]:
    """What the match record of an entry (the last, if none is named) says of each row, by rule
    in the order of their ids."""
    ids = {kept.seq: kept.key.id for kept in world.rows.kept()}
    record = world.scoring.entries[entry]
    assert record.reasons is not None, "not matched yet"
    reasons = [REASON_OF_BYTE[code] for code in record.reasons]
    rules = len(reasons) // len(record.row_seqs)
    return {
        ids[seq]: reasons[place * rules : (place + 1) * rules]
        for place, seq in enumerate(record.row_seqs)
    }


def kill_over_entries(world: MemoryWorld, times: int) -> None:
    """Has so many processes die while they hold what waits for matching."""
    for _ in range(times):
        doomed = world.process()
        assert doomed.records.claim_entries(500)
        world.die(doomed)
        world.worker.leases.release_abandoned()


def test_nothing_to_match_is_no_row_and_no_queue(world: MemoryWorld) -> None:
    assert matcher(world).match_some() == MatchCount(rows=0, queues=frozenset())


def test_rows_are_counted_and_the_queues_that_got_work_are_named(world: MemoryWorld) -> None:
    world.rule("cheap")
    world.rule("judged", "ContextRelevancy")
    world.write(ended("a"), ended("b"))
    world.write(ended("c"))

    assert matcher(world).match_some() == MatchCount(rows=3, queues=frozenset({JUDGE}))
    assert matcher(world).match_some() == MatchCount(rows=0, queues=frozenset())


def test_each_row_has_a_reason_for_each_rule_in_the_order_of_their_ids(
    world: MemoryWorld,
) -> None:
    ids = {
        world.rule("all"): Reason.SELECTED,
        world.rule("none", sampling_rate=0): Reason.SAMPLED_OUT,
        world.rule("some", btql_filter="output = 'other'"): Reason.FILTER_FALSE,
        world.rule("roots", apply_to_root_span=True): Reason.SELECTED,
        world.rule("paused", status="paused"): Reason.PAUSED,
    }
    world.write(ended("a"), ended("b", output="other"))

    world.match()

    expected = [ids[rule_id] for rule_id in sorted(ids)]
    other = [Reason.SELECTED if one is Reason.FILTER_FALSE else one for one in expected]
    assert decided(world) == {"a": expected, "b": other}
    selected = [(one.row, one.rule) for one in world.outcomes()]
    assert sorted(selected) == sorted(
        (row_id, rule_id)
        for row_id, reasons in (("a", expected), ("b", other))
        for rule_id, reason in zip(sorted(ids), reasons, strict=True)
        if reason is Reason.SELECTED
    )


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ({"id": "a", "_object_delete": True}, Reason.DELETED),
        ({"id": "a", "_is_merge": True, "metrics": {"end": None}}, Reason.SELECTED),
        (ended(output="changed"), Reason.SUPERSEDED),
        ({"id": "a", **RESELECT}, Reason.SUPERSEDED),
    ],
)
def test_a_row_is_judged_as_it_was_at_its_end_unless_it_is_gone_or_matched_again(
    world: MemoryWorld, later: JsonObject, reason: Reason
) -> None:
    world.rule()
    world.write(ended())
    world.write(later)

    world.match()

    assert decided(world, 0) == {"a": [reason]}


def test_a_row_whose_end_was_taken_back_by_the_write_that_brought_it_is_not_finished(
    world: MemoryWorld,
) -> None:
    world.rule()
    world.write(ended(), {"id": "a", "_is_merge": True, "metrics": {"end": None}})

    world.match()

    assert decided(world) == {"a": [Reason.NOT_FINISHED]}
    assert world.outcomes() == []


def test_filters_see_the_row_as_it_was_at_its_end_and_scorers_as_it_is_now(
    world: MemoryWorld,
) -> None:
    world.rule(btql_filter="metadata.env = 'prod'")
    world.write(ended(metadata={"env": "prod"}))
    world.write({"id": "a", "_is_merge": True, "metadata": {"env": "test"}})

    world.match()

    assert decided(world) == {"a": [Reason.SELECTED]}
    assert world.scores() is not None


# --- what runs at once, and what waits


def test_a_scorer_runs_at_once_just_when_its_cost_is_within_the_limit(
    world: MemoryWorld,
) -> None:
    world.rule()
    world.write(ended("short", output="kitten"))       # 6 characters by 6
    world.write(ended("long", output="kitten" * 10))   # 60 by 6

    world.match(cost_limit=36.0)

    assert {one.row: (one.state, one.queue) for one in world.outcomes()} == {
        "short": ("completed", MATCH), "long": ("pending", HEAVY)
    }
    assert world.scores("short") == {"Levenshtein": 1.0}


def test_judges_and_functions_wait_in_the_queue_of_their_kind(world: MemoryWorld) -> None:
    function_id, version = world.push("mine")
    world.rule("judged", "ContextRelevancy")
    world.follow("function", function_id)
    world.write(ended())

    count = matcher(world).match_some()

    assert count.queues == {JUDGE, HEAVY}
    assert {one.queue: one.version for one in world.outcomes()}[HEAVY] == str(version)
    assert {one.state for one in world.outcomes()} == {"pending"}


def test_a_function_that_can_run_no_more_ends_in_an_error_for_its_rules_author(
    world: MemoryWorld,
) -> None:
    function_id, _ = world.push("mine")
    world.follow("rule", function_id)
    world.functions.clear()
    world.rule("another")   # makes a revision without the function
    world.write(ended())

    world.match()

    assert sorted((one.state, one.error_class or "") for one in world.outcomes()) == [
        ("completed", ""), ("errored", "bad_input")
    ]


def test_a_scorer_pinned_to_a_release_that_is_not_installed_ends_in_an_error(
    world: MemoryWorld,
) -> None:
    world.rule_of("old", [{"type": "global", "name": "Levenshtein", "version": "0.0.1"}])
    world.write(ended())

    world.match()

    assert [(one.state, one.error_class) for one in world.outcomes()] == [
        ("errored", "bad_input")
    ]


def test_rules_with_one_scorer_have_it_run_once(world: MemoryWorld) -> None:
    world.rule("one")
    world.rule("two")
    twice: list[JsonObject] = [{"type": "global", "name": "Levenshtein"}] * 2
    world.rule_of("three", twice)
    world.write(ended())
    (batch,) = world.worker.records.claim_entries(500)

    decision = matcher(world).decide(batch)

    (execution,) = decision.executions
    assert len(execution.assignment.asked) == 3   # one for each rule
    assert decision.deferred == ()


def test_a_shadow_waits_beside_the_version_in_force(world: MemoryWorld) -> None:
    function_id, version = world.push("mine")
    _, beside = world.push("mine", shadow=1.0)
    world.follow("rule", function_id)
    world.write(ended())

    world.match()

    assert {one.role: one.version for one in world.outcomes()} == {
        "live": str(version), "shadow": str(beside)
    }


def test_a_match_reads_the_columns_of_filters_and_of_scorers_that_run_at_once(
    world: MemoryWorld,
) -> None:
    world.rule("cheap", btql_filter="tags IS NULL")
    world.rule("judged", "ContextRelevancy")
    world.write(ended(input="question", metadata={"m": 1}, context={"c": 1}))
    (batch,) = world.worker.records.claim_entries(500)

    (execution,) = matcher(world).decide(batch).executions

    view = execution.assignment.subject.view
    assert {"output", "expected", "tags"} <= view.keys()
    assert not {"input", "context"} & view.keys()


# --- rows that were scored before


def test_rows_are_scored_anew_only_by_the_entry_of_their_latest_write(
    world: MemoryWorld,
) -> None:
    world.rule()
    world.write(ended("a"), ended("b"))
    world.match()
    world.write(ended("a", output="second"), ended("b", output="second"))
    world.write(ended("a", output="third"))
    (batch,) = world.worker.records.claim_entries(500)

    decision = matcher(world).decide(batch)

    assert [(one.key.id, one.view["output"]) for one in decision.rescored] == [
        ("b", "second"), ("a", "third")
    ]


def test_rows_that_were_never_scored_are_not_withdrawn(world: MemoryWorld) -> None:
    world.rule()
    world.write(ended())
    (batch,) = world.worker.records.claim_entries(500)

    assert matcher(world).decide(batch).rescored == ()


# --- what kills workers


@pytest.mark.parametrize("deaths", range(ENTRY_DEATHS_MAX + 1))
def test_an_entry_that_kills_its_workers_runs_nothing_at_once_and_is_given_up_in_the_end(
    world: MemoryWorld, deaths: int
) -> None:
    world.rule()
    world.rule("judged", "ContextRelevancy")
    world.write(ended("a"), ended("b"))
    kill_over_entries(world, deaths)

    world.match()

    states = {(one.queue, one.state) for one in world.outcomes()}
    if deaths <= DEATHS_WHILE_MATCHING:
        assert states == {(MATCH, "completed"), (JUDGE, "pending")}
    elif deaths < ENTRY_DEATHS_MAX:
        assert states == {(HEAVY, "pending"), (JUDGE, "pending")}
    else:
        assert states == set()
        assert decided(world) == {row_id: [Reason.POISONED] * 2 for row_id in "ab"}


def test_an_entry_that_was_given_up_takes_no_other_with_it(world: MemoryWorld) -> None:
    world.rule()
    world.write(ended("a"))
    kill_over_entries(world, ENTRY_DEATHS_MAX)
    world.write(ended("b"))

    world.match()

    assert decided(world, 0) == {"a": [Reason.POISONED]}
    assert decided(world, 1) == {"b": [Reason.SELECTED]}


# --- what others do meanwhile


def test_a_match_that_lost_its_claim_is_told_so_and_the_other_s_counts(
    world: MemoryWorld,
) -> None:
    world.rule()
    world.write(ended())
    (batch,) = world.worker.records.claim_entries(500)
    late = matcher(world).decide(batch)
    world.let_pass(LEASE_S + 1)
    other = Matcher(store=world.process().records, cost_limit=CHEAP)

    assert other.match_some().rows == 1
    with pytest.raises(StaleFence):
        world.worker.records.record_match(late)

    assert world.states() == ["completed"]


@pytest.mark.parametrize("method", ["claim_entries", "rule_set", "subjects", "record_match"])
@pytest.mark.parametrize("error", [StoreUnavailable("away"), Contended("met")])
def test_a_store_that_fails_anywhere_leaves_the_entry_to_be_matched_again(
    world: MemoryWorld, method: str, error: Exception
) -> None:
    world.rule()
    world.write(ended())
    world.scoring.fail(method, error)

    with pytest.raises(type(error)):
        matcher(world).match_some()

    assert world.outcomes() == []
    world.worker.leases.release_own(MATCH)
    assert matcher(world).match_some().rows == 1
    assert world.states() == ["completed"]


def test_what_waits_is_claimed_with_its_row(world: MemoryWorld) -> None:
    world.rule()
    world.write(ended())
    world.match(NOTHING_IS_CHEAP)

    (claim,) = world.worker.ledger.claim(HEAVY, 16)

    assert isinstance(claim, RunnableClaim)
    assert claim.assignment.subject.view["expected"] == "kitten"
