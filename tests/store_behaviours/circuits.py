"""What every store does with open circuits, and with the outcomes that they hold back."""

from __future__ import annotations

from datetime import timedelta

from store_behaviours.scoring import BUDGET_S, ScoringWorld, retry

from spans.errors import JudgeUnavailable, RateLimited
from spans.queues import JUDGE, held_queue
from spans.work import Hold, RunnableClaim

DOWN = JudgeUnavailable("503: no healthy upstream")


def judged(world: ScoringWorld, *row_ids: str) -> list[RunnableClaim]:
    """Claims of outcomes that wait for a judge."""
    world.rule("judged", "ContextRelevancy")
    world.defer(*row_ids)
    return claimed(world)


def claimed(world: ScoringWorld) -> list[RunnableClaim]:
    return [
        claim for claim in world.worker.ledger.claim(JUDGE, 100)
        if isinstance(claim, RunnableClaim)
    ]


def hold(world: ScoringWorld, claims: list[RunnableClaim], endpoint: str = "default") -> None:
    world.worker.ledger.hold([
        Hold(claim=claim, endpoint=endpoint, wait_s=BUDGET_S - claim.failing_s)
        for claim in claims
    ])


def queues(world: ScoringWorld) -> dict[str, str]:
    return {one.row: one.queue for one in world.outcomes()}


class CircuitBehaviours:
    """A subclass has a fixture `world` that gives a ScoringWorld."""

    def test_what_is_held_is_not_claimed_and_counts_no_attempt(
        self, world: ScoringWorld
    ) -> None:
        world.circuits.open("default", DOWN, wait_s=60.0)

        hold(world, judged(world, "a", "b"))

        assert claimed(world) == []
        assert queues(world) == dict.fromkeys("ab", held_queue("default"))
        assert {one.attempts for one in world.outcomes()} == {0}

    def test_a_claim_that_others_hold_by_now_cannot_be_held_back(
        self, world: ScoringWorld
    ) -> None:
        before = judged(world, "a")
        world.worker.ledger.give_back(before)
        (now,) = claimed(world)

        hold(world, before)

        assert queues(world) == {"a": JUDGE}
        hold(world, [now])
        assert queues(world) == {"a": held_queue("default")}

    def test_a_circuit_that_closes_brings_back_what_it_held(self, world: ScoringWorld) -> None:
        world.circuits.open("default", DOWN, wait_s=60.0)
        world.circuits.open("other", DOWN, wait_s=60.0)
        one, other = judged(world, "a", "b")
        hold(world, [one])
        hold(world, [other], "other")

        world.circuits.close("default")

        (back,) = claimed(world)
        assert (back.lead, back.attempts) == (one.lead, 1)
        assert [one.endpoint for one in world.circuits.tend(["default", "other"])] == ["other"]
        assert claimed(world) == []

    def test_what_had_failed_itself_comes_back_after_what_was_never_tried(
        self, world: ScoringWorld
    ) -> None:
        (tried,) = judged(world, "tried")
        world.worker.ledger.postpone([retry(tried, 0.0)])
        world.defer("fresh")
        world.circuits.open("default", DOWN, wait_s=60.0)
        hold(world, claimed(world))

        world.circuits.close("default")

        assert [claim.lead.subject_id for claim in claimed(world)] == ["fresh"]
        world.let_pass(3.0)
        assert [claim.lead.subject_id for claim in claimed(world)] == ["tried"]

    def test_what_was_held_as_its_circuit_closed_is_brought_back_by_tending(
        self, world: ScoringWorld
    ) -> None:
        hold(world, judged(world, "a", "b"))
        assert claimed(world) == []

        assert world.circuits.tend(["default"]) == []

        assert len(claimed(world)) == 2

    def test_one_outcome_is_brought_back_when_a_probe_is_due(self, world: ScoringWorld) -> None:
        world.circuits.open("default", DOWN, wait_s=60.0)
        hold(world, judged(world, "a", "b", "c"))
        world.circuits.tend(["default"])
        assert claimed(world) == []

        world.let_pass(61.0)
        world.circuits.tend(["default"])

        assert len(claimed(world)) == 1

    def test_a_probe_is_made_by_the_oldest_and_the_newest_in_turn_of_those_tried_least(
        self, world: ScoringWorld
    ) -> None:
        world.circuits.open("default", DOWN, wait_s=0.0)
        (tried,) = judged(world, "tried")
        world.worker.ledger.postpone([retry(tried, 0.0)])
        world.defer("old")
        world.defer("middle")
        world.defer("new")
        (again, *rest) = sorted(claimed(world), key=lambda claim: -claim.attempts)
        assert again.attempts == 2
        hold(world, [again, *rest])

        probes = []
        for _ in range(4):
            world.let_pass(1.0)
            world.circuits.tend(["default"])
            probes += [claim.lead.subject_id for claim in claimed(world)]
            assert world.circuits.begin_probe("default", wait_s=0.0)

        assert probes == ["old", "new", "middle", "tried"]

    def test_a_probe_that_is_due_is_made_once(self, world: ScoringWorld) -> None:
        world.circuits.open("default", DOWN, wait_s=60.0)
        assert not world.circuits.begin_probe("default", wait_s=120.0)

        world.let_pass(61.0)

        tries = [world.circuits.begin_probe("default", wait_s=120.0) for _ in range(3)]
        assert tries == [True, False, False]
        (circuit,) = world.circuits.tend(["default"])
        assert circuit.probes == 1
        world.let_pass(121.0)
        assert world.circuits.begin_probe("default", wait_s=120.0)

    def test_a_probe_that_is_put_back_is_due_at_once(self, world: ScoringWorld) -> None:
        world.circuits.open("default", DOWN, wait_s=0.0)
        assert world.circuits.begin_probe("default", wait_s=60.0)

        world.circuits.put_back_probe("default")

        (circuit,) = world.circuits.tend(["default"])
        assert circuit.probe_in_s == 0.0
        assert world.circuits.begin_probe("default", wait_s=60.0)

    def test_a_circuit_tells_in_how_many_seconds_its_probe_is_due(
        self, world: ScoringWorld
    ) -> None:
        opened = world.circuits.open("default", DOWN, wait_s=60.0)
        assert opened.probe_in_s == 60.0

        world.let_pass(20.0)

        (circuit,) = world.circuits.tend(["default"])
        assert 30.0 < circuit.probe_in_s <= 40.0

    def test_no_probe_is_made_of_a_circuit_that_is_not_open(self, world: ScoringWorld) -> None:
        assert not world.circuits.begin_probe("default", wait_s=1.0)

    def test_a_circuit_that_is_opened_again_keeps_its_start_and_tells_the_last_error(
        self, world: ScoringWorld
    ) -> None:
        first = world.circuits.open("default", DOWN, wait_s=60.0)

        again = world.circuits.open("default", RateLimited("429: slow down"), wait_s=5.0)

        assert (again.opened_at, again.probe_at) == (first.opened_at, first.probe_at)
        assert (again.error_class, again.reason) == ("rate_limited", "429: slow down")
        later = world.circuits.open("default", DOWN, wait_s=600.0)
        assert later.probe_at > first.probe_at
        assert list(world.circuits.tend(["default"])) == [later]

    def test_a_reason_with_nul_is_stored(self, world: ScoringWorld) -> None:
        circuit = world.circuits.open("default", JudgeUnavailable("a\0b"), wait_s=60.0)

        assert circuit.reason == "a\ufffdb"

    def test_what_has_been_held_as_long_as_it_may_is_brought_back_to_end(
        self, world: ScoringWorld
    ) -> None:
        world.circuits.open("default", DOWN, wait_s=10 * BUDGET_S)
        hold(world, judged(world, "a", "b"))

        world.let_pass(BUDGET_S + 1.0)
        world.circuits.tend(["default"])

        back = claimed(world)
        assert len(back) == 2
        assert all(claim.failing_s > BUDGET_S for claim in back)

    def test_a_circuit_of_an_endpoint_that_no_process_knows_any_more_is_closed(
        self, world: ScoringWorld
    ) -> None:
        world.circuits.open("renamed", DOWN, wait_s=60.0)
        hold(world, judged(world, "a", "b", "c"), "renamed")

        assert world.circuits.tend(["default"]) == []
        assert claimed(world) == []
        assert len(world.circuits.tend(["default", "renamed"])) == 1   # others may know it

        world.let_pass(300.0)
        world.circuits.tend(["default"])
        world.circuits.tend(["default"])

        assert len(claimed(world)) == 3

    def test_a_claim_tells_for_how_long_it_has_failed(self, world: ScoringWorld) -> None:
        (claim,) = judged(world, "a")
        assert claim.failing_s == 0.0
        world.worker.ledger.postpone([retry(claim, 1.0)])

        world.let_pass(3_600.0)
        (claim,) = claimed(world)
        world.worker.ledger.postpone([retry(claim, 1.0)])
        world.let_pass(3_600.0)
        (claim,) = claimed(world)

        assert timedelta(hours=2) <= timedelta(seconds=claim.failing_s) < timedelta(hours=3)
