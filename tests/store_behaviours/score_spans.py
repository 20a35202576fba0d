"""What every store shows of score spans, and whose score a row shows where several compete."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from store_behaviours.scoring import (
    LATE,
    NOTHING_IS_CHEAP,
    RESELECT,
    ScoringWorld,
    ended,
    place_of,
    record,
)

from flows.scoring.claims import execution_of
from spans.ids import RuleId
from spans.json import JsonObject
from spans.outcome import Errored, Origin, RescoreOrigin, Verdict, verdict_of
from spans.queues import HEAVY
from spans.score_span import score_span_id, score_span_span_id
from spans.scoring import Score, ScorerRef, ScoringResult, Usage
from spans.work import Execution, OutcomeRequest, RunnableClaim

SCORED: JsonObject = {
    "input": {"z": 1, "a": [None]}, "metadata": {"m": {"k": 1}}, "tags": ["t"], "span_id": "s",
    "root_span_id": "t",
}


def gave(claim: RunnableClaim, *scores: Score, **more: object) -> Verdict:
    """That the run of a scorer which takes `output`, `expected`, `input` and a key of the
    metadata gave these scores, or one of 0.5."""
    view = claim.assignment.subject.view
    metadata = view["metadata"]
    given = {
        "scores": scores or (Score(name="Levenshtein", value=0.5),),
        "arguments": {
            "output": view["output"], "expected": view["expected"], "input": view["input"],
            "m": metadata["m"] if isinstance(metadata, dict) else None,
        },
        **more,
    }
    return verdict_of(ScoringResult(**given), started_at=1.5, run_ms=250.0)


def end(world: ScoringWorld, claim: RunnableClaim, verdict: Verdict) -> None:
    world.worker.ledger.record([(claim, execution_of(claim, verdict, HEAVY))])


def the_score_span(world: ScoringWorld) -> JsonObject:
    (span,) = world.score_spans()
    return span


def object_of(value: object) -> JsonObject:
    assert isinstance(value, dict)
    return value


class ScoreSpanBehaviours:
    """A subclass has a fixture `world` that gives a ScoringWorld."""

    @pytest.fixture
    def rule(self, world: ScoringWorld) -> RuleId:
        """A rule, and one row that waits for it."""
        rule = world.rule()
        world.write(ended("a", **SCORED))
        world.match(NOTHING_IS_CHEAP)
        return rule

    @pytest.fixture
    def claim(self, world: ScoringWorld, rule: RuleId) -> RunnableClaim:
        (claim,) = world.claim()
        return claim

    def test_a_score_span_is_shown_whole(
        self, world: ScoringWorld, rule: RuleId, claim: RunnableClaim
    ) -> None:
        usage = Usage(
            calls=1, prompt_tokens=2, completion_tokens=3, cached_tokens=1, cost=0.25,
            model="m",
        )
        prompt: tuple[JsonObject, ...] = ({"role": "user", "content": "Is it close?"},)
        score = Score(name="Levenshtein", value=0.5, metadata={"why": ["far"]})

        end(world, claim, gave(claim, score, usage=usage, prompt=prompt))

        scored, span = world.shown()["a"], the_score_span(world)
        place, use = place_of(scored), claim.lead.use
        assert span == {
            **dict.fromkeys(scored),
            "id": str(score_span_id(place, use)),
            "_xact_id": scored["_xact_id"],
            "_pagination_key": span["_pagination_key"],
            "created": "1970-01-01T00:00:01.500Z",
            "org_id": str(world.org_id),
            "project_id": str(world.where.project_id),
            "log_id": "g",
            "span_id": score_span_span_id(place, use),
            "root_span_id": "t",
            "span_parents": ["s"],
            "is_root": False,
            "input": {
                "output": "sitting", "expected": "kitten", "input": {"z": 1, "a": [None]},
                "m": {"k": 1},
            },
            "output": {"score": 0.5},
            "scores": {"Levenshtein": 0.5},
            "metadata": {"why": ["far"]},
            "metrics": {
                "start": 1.5, "end": 1.75, "prompt_tokens": 2, "completion_tokens": 3,
                "tokens": 5, "prompt_cached_tokens": 1, "estimated_cost": 0.25,
            },
            "span_attributes": {"name": "Levenshtein", "type": "score", "purpose": "scorer"},
            "context": {
                "rule_id": str(rule), "outcome_id": str(claim.lead.id),
                "scorer": "Levenshtein", "scorer_version": use.scorer.version,
                "prompt": list(prompt),
            },
            "origin": {
                "object_type": "project_logs", "object_id": str(world.where.object_id),
                "id": "a", "_xact_id": str(claim.lead.subject_version),
            },
        }
        assert list(object_of(span["input"])) == ["output", "expected", "input", "m"]
        assert place_of(span) > place

    def test_a_score_span_of_several_scores_has_each_by_its_name(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        both = Score(name="a", value=1.0, metadata={"k": 1}), Score(name="b", value=None)

        end(world, claim, gave(claim, *both))

        span = the_score_span(world)
        assert span["output"] == {"a": {"score": 1}, "b": {"score": None}}
        assert span["metadata"] == {"a": {"k": 1}}
        assert span["scores"] == {"a": 1, "b": None}
        assert span["metrics"] == {"start": 1.5, "end": 1.75}

    def test_a_score_span_shows_arguments_that_its_row_does_not_hold(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        made_up: JsonObject = {"output": "made up", "a,b": [1], "trace": {"spans": []}}

        end(world, claim, gave(claim, arguments=made_up))

        assert the_score_span(world)["input"] == made_up

    def test_a_score_span_of_a_failure_has_its_error_and_no_scores(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, Errored(failure=LATE, started_at=1.5, run_ms=250.0))

        span = the_score_span(world)
        assert span["error"] == "timeout: late"
        assert [span[name] for name in ("input", "output", "scores", "metadata")] == [None] * 4
        assert span["metrics"] == {"start": 1.5, "end": 1.75}

    def test_a_score_span_of_a_function_has_its_label_for_a_name(
        self, world: ScoringWorld
    ) -> None:
        function_id, version = world.push("mine")
        world.follow("rule", function_id)
        world.defer("a")

        record(world.worker, *world.claim())

        span = the_score_span(world)
        context = object_of(span["context"])
        assert object_of(span["span_attributes"])["name"] == "mine"
        assert (context["scorer"], context["scorer_version"]) == (
            str(function_id), str(version)
        )

    def test_feedback_after_scoring_leaves_the_score_span_with_what_was_scored(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))
        before = the_score_span(world)

        world.feedback("a", {"expected": "mitten"})
        world.feedback("a", {"expected": "bitten", "metadata": {"m": "later"}})

        assert world.shown()["a"]["expected"] == "bitten"
        assert the_score_span(world) == before

    def test_feedback_while_the_scorer_runs_leaves_the_score_span_with_what_it_read(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        world.feedback("a", {"expected": "mitten", "metadata": {"m": "later"}})

        end(world, claim, gave(claim))
        world.feedback("a", {"expected": "bitten"})

        arguments = object_of(the_score_span(world)["input"])
        assert (arguments["expected"], arguments["m"]) == ("kitten", {"k": 1})

    def test_what_a_client_merges_into_a_score_span_keeps_the_rest_of_it_readable(
        self, world: ScoringWorld, rule: RuleId, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))
        before = the_score_span(world)
        span_id = str(before["id"])

        xact = world.write({
            "id": span_id, "_is_merge": True, "metadata": {"seen": True}, "output": {"mine": 1}
        })

        assert the_score_span(world) == {
            **before, "_xact_id": str(xact), "metadata": {"seen": True},
            "output": {"score": 0.5, "mine": 1},
        }
        assert world.created_by(span_id) == f"rule {rule}"

    def test_feedback_on_a_score_span_stands_beside_its_score(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))
        before = the_score_span(world)

        xact = world.feedback(str(before["id"]), {"scores": {"agreed": 1}})

        assert the_score_span(world) == {
            **before, "_xact_id": str(xact), "scores": {"Levenshtein": 0.5, "agreed": 1},
        }

    def test_the_next_outcome_replaces_a_score_span_that_clients_wrote_over(
        self, world: ScoringWorld, rule: RuleId, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))
        before = the_score_span(world)
        span_id = str(before["id"])
        world.write({"id": span_id, "_is_merge": True, "output": 1, "tags": ["t"], "own": 1})
        world.feedback(span_id, {"scores": {"agreed": 1}})
        world.write(ended("a", **SCORED, _is_merge=True, error="e"))
        world.match(NOTHING_IS_CHEAP)

        (again,) = world.claim()
        end(world, again, gave(again))

        after, version = the_score_span(world), str(again.lead.subject_version)
        assert version != str(claim.lead.subject_version)
        assert after == {
            **before, "_xact_id": after["_xact_id"],
            "context": {**object_of(before["context"]), "outcome_id": str(again.lead.id)},
            "origin": {**object_of(before["origin"]), "_xact_id": version},
        }
        assert world.created_by(span_id) == f"rule {rule}"

    def test_a_row_with_the_id_of_a_score_span_that_is_gone_gives_way_to_the_next(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))
        span_id = str(the_score_span(world)["id"])
        world.write(ended("a", "withdrawn", **SCORED, _skip_async_scoring=True))
        world.feedback(span_id, {"scores": {"agreed": 1}})
        assert world.scores(span_id) == {"agreed": 1}
        world.write(ended("a", "again", **SCORED))
        world.match(NOTHING_IS_CHEAP)

        (again,) = world.claim()
        end(world, again, gave(again))

        span = the_score_span(world)
        assert span["id"] == span_id
        assert span["scores"] == {"Levenshtein": 0.5}
        assert (span["root_span_id"], span["span_parents"]) == ("t", ["s"])

    def test_a_score_span_that_a_client_wrote_anew_is_found_in_the_trace_that_it_names(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))
        span_id = str(the_score_span(world)["id"])
        world.write({"id": span_id, "output": 1})
        assert world.shown()[span_id]["root_span_id"] == span_id
        world.write(ended("a", "again", **SCORED))
        world.match()
        span = the_score_span(world)
        assert (span["id"], span["root_span_id"], span["is_root"]) == (span_id, "t", False)

    def test_computed_scores_stand_alone_where_a_merge_has_cleared_the_scores(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.write(ended("a", "kitten", scores={"Levenshtein": 0}))
        world.write({"id": "a", "_is_merge": True, "scores": None})
        world.match()
        assert world.scores() == {"Levenshtein": 1}

    def test_a_score_span_of_an_error_goes_with_the_content_that_it_is_about(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, Errored(failure=LATE, started_at=1.5, run_ms=250.0))

        world.write(ended("a", "kitten", _skip_async_scoring=True))

        assert world.score_spans() == []
        assert world.states() == ["errored"]

    def test_a_score_span_is_never_scored_itself(
        self, world: ScoringWorld, claim: RunnableClaim
    ) -> None:
        end(world, claim, gave(claim))

        world.write({"id": the_score_span(world)["id"], **RESELECT})
        world.match()

        assert len(world.outcomes()) == len(world.score_spans()) == 1

    def test_a_row_names_who_wrote_it_first(self, world: ScoringWorld, rule: RuleId) -> None:
        world.feedback("b", {"expected": "x"})
        record(world.worker, *world.claim())
        world.feedback("a", {"expected": "x"})
        world.write(ended("b"))

        assert world.created_by("a") == "of the key"
        assert world.created_by("b") == "a person"
        assert world.created_by(str(the_score_span(world)["id"])) == f"rule {rule}"


class GenerationBehaviours:
    """Two jobs that score one row by one name. A subclass has a fixture `world`."""

    @pytest.mark.parametrize("generations", [(1, 2), (2, 1)])
    def test_the_score_of_the_newest_generation_is_shown_whichever_comes_last(
        self, world: ScoringWorld, generations: tuple[int, int]
    ) -> None:
        world.rule("one")
        world.rule("two", "ExactMatch")
        world.defer("a")
        origins = [RescoreOrigin(uuid.uuid4(), generation) for generation in generations]

        for claim, origin in zip(world.claim(), origins, strict=True):
            end_for(world, claim, origin, value=origin.generation / 4)

        assert world.scores() == {"score": 0.5}
        assert len(world.score_spans()) == 2
        assert {one.rule for one in world.outcomes() if one.state == "completed"} == {
            origin.id for origin in origins
        }

    def test_a_job_replaces_the_scorers_scores_of_every_origin_and_keeps_what_it_replaced(
        self, world: ScoringWorld
    ) -> None:
        world.rule("one")
        world.rule("two", "ExactMatch")
        world.defer("a")
        job = RescoreOrigin(uuid.uuid4(), 7)
        by_rule, by_job = world.claim()

        end_for(world, by_rule, by_rule.lead.origin, value=0.25, name="old name")
        end_for(world, by_job, job, value=0.75, name="new name", scorer=by_rule.lead.scorer)

        assert world.scores() == {"new name": 0.75}
        assert world.replaced() == [("a", 7, "old name", 0.25)]

    def test_a_job_that_fails_on_a_row_leaves_its_earlier_scores_alone(
        self, world: ScoringWorld
    ) -> None:
        world.rule("one")
        world.rule("two", "ExactMatch")
        world.defer("a")
        first, second = world.claim()

        end_for(world, first, first.lead.origin, value=0.25)
        end_for(world, second, RescoreOrigin(uuid.uuid4(), 1), value=None,
                scorer=first.lead.scorer)

        assert world.scores() == {"score": 0.25}
        assert world.replaced() == []
        assert "errored" in world.states()

    def test_a_rule_shows_nothing_of_a_scorer_that_a_job_has_run_on_the_same_content(
        self, world: ScoringWorld
    ) -> None:
        world.rule("one")
        world.rule("two", "ExactMatch")
        world.defer("a")
        first, second = world.claim()

        end_for(world, first, RescoreOrigin(uuid.uuid4(), 1), value=0.75, name="new name")
        end_for(world, second, second.lead.origin, value=0.25, name="old name",
                scorer=first.lead.scorer)

        assert world.scores() == {"new name": 0.75}

    def test_a_score_that_a_job_gave_former_content_stands_in_no_ones_way(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()
        end_for(world, claim, RescoreOrigin(uuid.uuid4(), 7), value=0.75)

        world.write(ended("a", "kitten"))
        world.match(NOTHING_IS_CHEAP)
        (later,) = world.claim()
        end_for(world, later, later.lead.origin, value=0.25)

        assert world.scores() == {"score": 0.25}
        assert world.replaced() == []

    def test_a_job_keeps_no_score_of_its_own_as_replaced(self, world: ScoringWorld) -> None:
        world.rule("one")
        world.rule("two", "ExactMatch")
        world.defer("a")
        job = RescoreOrigin(uuid.uuid4(), 3)

        for claim, value in zip(world.claim(), (0.25, 0.75), strict=True):
            end_for(world, claim, job, value=value)

        assert world.scores() == {"score": 0.75}
        assert world.replaced() == []

    def test_a_job_whose_run_a_rule_shares_has_replaced_what_the_rule_got(
        self, world: ScoringWorld
    ) -> None:
        world.rule()
        world.defer("a")
        (claim,) = world.claim()
        of_rule = claim.assignment.asked[0]
        of_job = replace(
            of_rule, use=replace(of_rule.use, origin=RescoreOrigin(uuid.uuid4(), 7))
        )
        shared = replace(claim.assignment, asked=(of_job, of_rule))

        world.worker.ledger.record([(claim, Execution(
            assignment=shared, verdict=gave(claim, Score(name="score", value=0.75)),
            queue=HEAVY, attempts=1,
        ))])

        assert world.scores() == {"score": 0.75}
        assert world.replaced() == [("a", 7, "score", 0.75)]


def end_for(
    world: ScoringWorld, claim: RunnableClaim, origin: Origin, *, value: float | None,
    name: str = "score", scorer: ScorerRef | None = None,
) -> None:
    """Records a score for this origin, in place of the one that the claim was made for: of this
    scorer, if it is given. Without a value the run failed."""
    use = replace(claim.lead.use, origin=origin, scorer=scorer or claim.lead.scorer)
    asked = OutcomeRequest(use=use, rules_revision=None, skip_logging=False)
    assignment = replace(claim.assignment, asked=(asked,), scorer=use.scorer)
    verdict = Errored(failure=LATE, started_at=1.5, run_ms=1.0) if value is None else gave(
        claim, Score(name=name, value=value)
    )
    world.worker.ledger.record([(claim, Execution(
        assignment=assignment, verdict=verdict, queue=HEAVY, attempts=1
    ))])
