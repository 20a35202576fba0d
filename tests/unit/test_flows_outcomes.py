"""Outcomes: why a span has its scores, which errors there are, and running them again."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from memory_tallyard import MemoryTallyard
from store_behaviours.functions import body_of
from store_behaviours.outcomes import failed, gave
from store_behaviours.rules import rule_body

from flows.access.principal import KeyRole, Principal
from flows.logs.ingest import IngestRequest
from flows.logs.rejections import RejectedRow
from flows.outcomes.explain import (
    Explanation,
    NothingStored,
    explanation_json,
    outcome_text,
    values_read,
)
from flows.outcomes.retry import RetryRequest, read_retry
from rules.sampling import sampling_number
from rules.wire import ProjectScore
from scorers.error_classes import outcome_error_classes
from scorers.functions.function import Definition, Function, FunctionWrite, IfExists
from spans.duration import read_duration
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import FunctionId, ProjectId, RuleId
from spans.json import JsonObject
from spans.outcome import (
    POISONED,
    ManualOrigin,
    Origin,
    RescoreOrigin,
    RuleOrigin,
    ScorerUse,
)
from spans.queues import HEAVY, queues_of_outcomes
from spans.row import RowKey, RowWrite
from spans.scoring import OutcomeState, Role, ScorerRef
from spans.work import Assignment, Deferred, OutcomeRequest

ENDED: JsonObject = {"metrics": {"start": 1, "end": 2}}


class World(MemoryTallyard):
    """A project whose rows are matched when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.servers.clear()
        self.app, self.other = self.project("app"), self.project("other")
        self.where = self.projects.logs_of(self.admin, self.app)

    def rule(self, name: str = "rule", *functions: Function, **online: Any) -> ProjectScore:
        scorers = [{"type": "function", "id": str(each.id)} for each in functions]
        body = rule_body(name, *scorers, **online)
        return self.rules.make(self.admin, self.app, body, replace=True)[0]

    def function(self, slug: str = "mine", **definition: Any) -> Function:
        asked = Definition(
            project_id=self.app, body=body_of(slug), if_exists=IfExists.REPLACE, **definition
        )
        (written,) = self.stored_functions.write(self.admin.org_id, [FunctionWrite(
            definition=asked, new_id=FunctionId(uuid.uuid4()), program=None
        )])
        return written.function

    def log(self, row_id: str = "a", **changes: Any) -> None:
        given = {"fields": {"input": 1, **ENDED}, **changes}
        write = RowWrite(key=RowKey(self.where, row_id), **given)
        self.rows.write([IngestRequest(
            org_id=self.admin.org_id, sent_by="key", writes=(write,),
        )])

    def ask(self, origin: Origin) -> None:
        """An outcome of ExactMatch on the row `a` that no rule asks for."""
        (subject,) = self.rows.subjects([RowKey(self.where, "a")])
        assert subject is not None
        scorer = ScorerRef(kind="global", name="ExactMatch", version="1")
        use = ScorerUse(origin=origin, role=Role.LIVE, scorer=scorer)
        asked = OutcomeRequest(use=use, rules_revision=None, skip_logging=False)
        assignment = Assignment(subject=subject, scorer=scorer, asked=(asked,))
        self.scoring.record((), [Deferred(assignment=assignment, queue=HEAVY)])

    def explained(self, text: str = "a") -> Explanation:
        found = self.outcomes.explain(self.admin, self.app, text)
        assert isinstance(found, Explanation)
        return found

    def told(self, text: str = "a") -> dict[str, tuple[str, str]]:
        """What each rule answers, by its name: its status and its sentence."""
        return {
            answer.rule_name: (answer.status, answer.text)
            for answer in self.explained(text).rules
        }


@pytest.fixture
def world() -> World:
    return World()


# --- why a rule did not select a span


def test_each_rule_says_why_it_did_not_select_the_span(world: World) -> None:
    world.rule("filtered", btql_filter="input = 2")
    world.rule("null", btql_filter="metadata.user = 'me'")
    world.rule("sampled", sampling_rate=0)
    world.rule("paused", status="paused")
    world.rule("target", apply_to_root_span=True, apply_to_span_names=["llm", "tool"])
    world.log(fields={"input": 1, "span_parents": ["p"], **ENDED})
    world.stored_outcomes.match()

    told = world.told()

    number = sampling_number(
        world.rules.named(world.admin, world.app, "sampled").id, "a"
    )
    assert told == {
        "filtered": ("filter_false", "the filter 'input = 2' was false; it reads input = 1"),
        "null": ("filter_null", "the filter \"metadata.user = 'me'\" was null, which selects "
                 "nothing; it reads metadata.user = None"),
        "sampled": ("sampled_out", f"sampled out: the trace's number {number:.6f} is not below "
                    "the rate 0"),
        "paused": ("paused", "the rule was paused"),
        "target": ("wrong_target", "wrong target: the rule is for root spans, llm, tool"),
    }
    details = {answer.rule_name: answer.detail for answer in world.explained().rules}
    assert details["target"] == {
        "apply_to": ["root spans", "llm", "tool"], "is_root": False, "name": None
    }
    assert details["filtered"]["values"] == {"input": 1}


def test_values_that_a_filter_did_not_see_are_told_as_those_of_now(world: World) -> None:
    world.rule("filtered", btql_filter="tags INCLUDES 'bad'")
    world.log(fields={"input": 1, **ENDED})
    world.stored_outcomes.match()
    world.log(fields={"tags": ["bad"]}, is_merge=True, is_feedback=True)

    assert world.told()["filtered"] == (
        "filter_null", "the filter \"tags INCLUDES 'bad'\" was null, which selects nothing; "
        "of the row as it is now it reads tags = ['bad']",
    )


def test_a_decision_is_told_as_it_was_made_though_the_rule_has_changed_since(
    world: World,
) -> None:
    gone, changed = world.rule("gone", status="paused"), world.rule("changed", status="paused")
    world.log()
    world.stored_outcomes.match()
    world.rules.delete(world.admin, gone.id)
    world.rules.change(world.admin, changed.id, {"config": rule_body().config.model_dump(
        mode="json", exclude_none=True
    )})

    assert world.told() == {
        "gone": ("paused", "the rule was paused (the rule has been deleted since)"),
        "changed": ("paused", "the rule was paused"),
    }


@pytest.mark.parametrize(
    ("write", "status", "said"),
    [
        ({"fields": {"input": 1}}, "not_finished", "metrics.end is not set"),
        ({"fields": {"span_attributes": {"type": "score"}, **ENDED}}, "is_score_span",
         "made by a scorer"),
        ({"skip_scoring": True}, "skip_requested", "_skip_async_scoring"),
        ({}, "waiting", "waiting to be matched since"),
    ],
)
def test_a_span_that_was_not_matched_says_why(
    world: World, write: dict[str, Any], status: str, said: str
) -> None:
    world.rule()
    world.log(**write)
    assert world.told()["rule"][0] == status
    assert said in world.told()["rule"][1]


def test_a_rule_made_after_the_match_says_what_it_would_decide_now(world: World) -> None:
    world.log()
    world.stored_outcomes.match()
    world.rule("yes")
    world.rule("no", btql_filter="input = 2")

    told = world.told()

    assert {status for status, _ in told.values()} == {"rule_made_later"}
    assert "now: it would select the span" in told["yes"][1]
    assert "now: the filter 'input = 2' was false" in told["no"][1]
    assert all("score-recent" in text for _, text in told.values())


# --- parts of a span that are missing, gone or rejected


def merge(**fields: Any) -> dict[str, Any]:
    return {"fields": fields, "is_merge": True}


def reject(
    world: World, row_id: str, *, span_id: str | None = None, project: ProjectId | None = None,
    reason: str = "why",
) -> None:
    row = RejectedRow(
        project_id=project, row_id=row_id, span_id=span_id, reason=reason, excerpt="{}"
    )
    world.rows.write([IngestRequest(
        org_id=world.admin.org_id, sent_by="key", writes=(), rejected=(row,)
    )])


def test_a_row_without_a_base_waits_for_it_and_is_matched_when_it_comes(world: World) -> None:
    world.rule()
    world.log(**merge(metrics={"end": 2}))
    world.log(is_feedback=True, **merge(scores={"thumbs": 1}))
    world.stored_outcomes.match()

    status, text = world.told()["rule"]

    assert status == "waiting_for_base"
    assert "only merges of the row have come" in text
    assert world.explained().notes == (text,)
    assert world.explained().rules[0].outcomes == ()
    world.log(fields={"input": 1, "output": "said"})
    assert world.told()["rule"][0] == "waiting"
    world.stored_outcomes.match()
    assert world.told()["rule"][0] == "pending"
    assert world.explained().notes == ()


def test_a_span_that_is_unfinished_again_says_so_before_and_after_its_match(
    world: World,
) -> None:
    world.rule("then")
    world.log()
    world.log(**merge(metrics=None))
    assert world.told()["then"][0] == "waiting"
    assert world.explained().notes[0].startswith("unfinished again")

    world.stored_outcomes.match()
    world.rule("later")

    assert world.told()["then"][0] == "pending"    # it was finished when it was queued
    status, text = world.told()["later"]
    assert (status, "has removed metrics.end" in text) == ("not_finished", True)
    assert world.explained().notes[0].startswith("unfinished again")


@pytest.mark.parametrize(("write", "said"), [
    ({"skip_scoring": True, **merge(output="new")}, "asked not to be scored"),
    (merge(output="new", metrics=None), "has removed metrics.end"),
])
def test_why_new_content_of_a_selected_span_is_not_scored_is_no_guess(
    world: World, write: dict[str, Any], said: str
) -> None:
    world.rule()
    world.log()
    world.stored_outcomes.match()
    world.log(**write)
    assert world.told()["rule"][0] == "selected"
    assert said in world.told()["rule"][1]


def test_what_was_rejected_of_a_span_stands_beside_its_rules(world: World) -> None:
    world.log(fields={"span_id": "s", "input": 1, **ENDED})
    reject(world, "a", project=world.app, reason="of the row")
    reject(world, "other", span_id="s", project=world.app, reason="of the span")
    reject(world, "a", project=world.other, reason="of another project's row")
    reject(world, "b", project=world.app, reason="of another row")

    told = [part.reason for part in world.explained().rejected]

    assert told == ["of the span", "of the row"]
    content = explanation_json(world.explained())
    assert [part["reason"] for part in content["rejected"]] == told


def test_an_id_of_which_nothing_was_stored_gives_the_reasons_to_who_may_see_them(
    world: World,
) -> None:
    reject(world, "lost", span_id="its span", project=world.app, reason="too deep")
    reject(world, "lost", reason="no such project")
    limited = world.caller(KeyRole.READ, world.app)

    def reasons(caller: Principal, project_id: ProjectId | None, text: str) -> list[str]:
        found = world.outcomes.explain(caller, project_id, text)
        assert isinstance(found, NothingStored)
        assert explanation_json(found)["is_stored"] is False
        return [part.reason for part in found.rejected]

    assert reasons(world.admin, None, "lost") == ["no such project", "too deep"]
    assert reasons(world.admin, world.app, "lost") == ["no such project", "too deep"]
    assert reasons(world.admin, world.other, "lost") == ["no such project"]
    assert reasons(world.admin, world.app, "its span") == ["too deep"]
    assert reasons(limited, None, "lost") == reasons(limited, world.app, "lost") == ["too deep"]
    for caller in (world.stranger(), world.caller(KeyRole.READ, world.other)):
        with pytest.raises(NotFound):
            world.outcomes.explain(caller, None, "lost")


# --- what became of what a rule asked for


def test_an_outcome_is_told_in_each_of_its_states(world: World) -> None:
    world.rule()
    world.log()
    world.stored_outcomes.match()
    assert world.told()["rule"][0] == "pending"
    assert "pending, attempt 1, next at 2026-" in world.told()["rule"][1]

    for verdict, status, said in (
        (failed("timeout", "too slow"), "errored", "errored at 2026-"),
        (gave(None), "skipped", "declined to judge at 2026-"),
        (gave(0.5), "completed", "scored 0.5 at 2026-"),
        (failed(POISONED), "poisoned", "errored at 2026-"),
    ):
        world.log(fields={"input": str(verdict), **ENDED})
        world.stored_outcomes.match()
        world.stored_outcomes.settle(verdict)
        assert world.told()["rule"][0] == status
        assert said in world.told()["rule"][1]

    (answer,) = world.explained().rules
    assert len(answer.described) == 1             # that of the present content
    assert len(answer.outcomes) == 5


def test_a_retried_outcome_tells_the_last_error_and_when_it_is_due(world: World) -> None:
    world.rule()
    world.log()
    world.stored_outcomes.match()
    world.stored_outcomes.settle(failed("timeout"))
    world.outcomes.retry(world.admin, world.app, RetryRequest())
    status, text = world.told()["rule"]
    assert status == "pending"
    assert "; the last said timeout: " in text


def test_the_worst_of_several_scorers_is_the_status_and_shadows_do_not_count(
    world: World,
) -> None:
    first, second = world.function("first"), world.function("second")
    world.function("first", shadow_rate=1.0)
    rule = world.rule("rule", first, second)
    world.log()
    world.stored_outcomes.match()
    world.stored_outcomes.settle(gave(1))
    (answer,) = world.explained().rules
    assert (answer.status, answer.states) == ("completed", {"completed": 2})

    shadow = next(one for one in answer.outcomes if one.role is Role.SHADOW)
    errored = replace(shadow, state=failed("timeout").state, error_class="timeout")
    others = tuple(one for one in answer.outcomes if one.role is Role.LIVE)
    assert replace(answer, described=(errored, *others)).states == {"completed": 2}
    live = replace(errored, role=Role.LIVE)
    assert [*replace(answer, described=(*others, live)).states] == ["errored", "completed"]
    assert {one.label for one in answer.outcomes} == {"first", "second"}
    assert rule.name == answer.rule_name


def test_what_a_sandbox_waits_for_is_told_to_who_can_act(world: World) -> None:
    data = {"type": "code", "data": {
        "type": "inline", "runtime_context": {"runtime": "python", "version": "3"},
        "code": "1",
    }}
    asked = Definition(
        project_id=world.app, body=body_of("code", data), if_exists=IfExists.REPLACE
    )
    program = world.sandbox.check(asked.body.source).program
    (written,) = world.stored_functions.write(world.admin.org_id, [FunctionWrite(
        definition=asked, new_id=FunctionId(uuid.uuid4()), program=program
    )])
    world.rule("rule", written.function)
    world.log()
    world.stored_outcomes.match()
    world.stored_outcomes.refusal = "no sandbox on host: install bubblewrap"
    assert "attempt 1, no sandbox on host: install bubblewrap" in world.told()["rule"][1]


def test_outcomes_that_no_rule_of_now_asked_for_are_told_by_what_asked(world: World) -> None:
    gone = world.rule("gone")
    world.log()
    job, request = uuid.UUID(int=1), uuid.UUID(int=2)
    for origin in (RuleOrigin(gone.id), RescoreOrigin(job, 1), ManualOrigin(request)):
        world.ask(origin)
    world.stored_outcomes.settle(gave(0.5))
    world.rules.delete(world.admin, gone.id)

    told = world.told()

    assert {name: status for name, (status, _) in told.items()} == {
        "a rule that has been deleted": "rule_deleted",
        f"re-score job {job}": "rescored",
        f"asked for by hand ({request})": "asked_by_hand",
    }
    content = explanation_json(world.explained())
    ids = [one.keys() & {"rule_id", "rescore_job_id", "request_id"}
           for rule in content["rules"] for one in rule["outcomes"]]
    assert ids == [{"request_id"}, {"rescore_job_id"}, {"rule_id"}]


def test_several_scores_are_told_by_their_names(world: World) -> None:
    world.rule()
    world.log()
    world.stored_outcomes.match()
    world.stored_outcomes.settle(gave(0.5))
    (one,) = world.explained().rules[0].outcomes
    both = [{"name": "a", "score": 1}, {"name": "b", "score": None}]
    assert "scored a 1, b None at" in outcome_text(replace(one, scores=both))
    assert "scored nothing at" in outcome_text(replace(one, scores=None))
    running = replace(one, state=OutcomeState.PENDING, is_running=True, attempts=2)
    assert outcome_text(running).endswith("pending, attempt 2 is running")


def test_the_values_that_a_filter_reads_are_those_of_the_row() -> None:
    row = {"input": {"a": [1, {"b": 2}]}, "tags": ["t"]}
    assert values_read("input.a[1].b = 2 and tags[-1] = 't' and input.a.c = 1", row) == {
        "input.a.1.b": 2, "tags.-1": "t", "input.a.c": None,
    }
    assert values_read("not a filter (", row) == {}


# --- reach


def test_a_span_is_explained_only_to_keys_that_reach_it(world: World) -> None:
    world.log()
    limited = world.caller(KeyRole.READ, world.other)
    assert world.outcomes.explain(world.admin, None, "a") == world.explained()
    for caller, project_id in (
        (limited, None), (limited, world.app), (world.stranger(), None),
        (world.admin, world.other), (world.admin, ProjectId(uuid.uuid4())),
    ):
        with pytest.raises(NotFound):
            world.outcomes.explain(caller, project_id, "a")
    with pytest.raises(NotFound, match="'unknown'"):
        world.explained("unknown")
    with pytest.raises(Forbidden):
        world.outcomes.explain(world.caller(KeyRole.INGEST), None, "a")


def test_an_id_that_fits_several_spans_lists_them(world: World) -> None:
    world.log("a", fields={"span_id": "same", "span_attributes": {"name": "call"}})
    world.log("b", fields={"span_id": "same"})
    found = explanation_json(world.outcomes.explain(world.admin, world.app, "same"))
    assert found["ambiguous"] is True
    assert [(each["id"], each["name"]) for each in found["candidates"]] == [
        ("b", None), ("a", "call")
    ]


# --- errors and retry


def test_errors_are_listed_and_run_again_for_a_project(world: World) -> None:
    rule = world.rule()
    world.log()
    world.stored_outcomes.match()
    world.stored_outcomes.settle(failed("timeout"))
    (summary,) = world.outcomes.errors(world.caller(KeyRole.READ), world.app)
    assert (summary.rule_name, summary.error_class, summary.count) == ("rule", "timeout", 1)

    request = RetryRequest(error_class="timeout", rule_id=rule.id)
    assert world.outcomes.retry(world.admin, world.app, request) == 1
    assert world.rung == [*queues_of_outcomes()]
    assert world.outcomes.errors(world.admin, world.app) == []


def test_a_retry_beyond_a_keys_reach_changes_and_rings_nothing(world: World) -> None:
    world.rule()
    world.log()
    world.stored_outcomes.match()
    world.stored_outcomes.settle(failed("timeout"))
    theirs, _ = world.rules.make(world.admin, world.other, rule_body(), replace=False)

    def refused(caller: Principal, project: ProjectId, rule_id: RuleId | None) -> type:
        with pytest.raises((Forbidden, NotFound)) as caught:
            world.outcomes.retry(caller, project, RetryRequest(rule_id=rule_id))
        return caught.type

    limited = world.caller(KeyRole.ADMIN, world.app)
    assert [
        refused(world.caller(KeyRole.READ), world.app, None),
        refused(world.admin, ProjectId(uuid.uuid4()), None),
        refused(world.caller(KeyRole.ADMIN, world.other), world.app, None),
        refused(world.admin, world.app, RuleId(uuid.uuid4())),
        refused(limited, world.app, theirs.id),
    ] == [Forbidden, NotFound, NotFound, NotFound, NotFound]
    assert len(world.outcomes.errors(world.admin, world.app)) == 1
    assert world.rung == []


def test_a_retry_is_read_with_its_class_and_its_age() -> None:
    rule_id = RuleId(uuid.uuid4())
    assert read_retry("timeout", "90s", rule_id) == RetryRequest(
        error_class="timeout", since=timedelta(seconds=90), rule_id=rule_id
    )
    assert read_retry(None, None, None) == RetryRequest()
    assert read_duration(" 2 D ") == timedelta(days=2)
    with pytest.raises(BadInput, match="use one of") as caught:
        read_retry("tiemout", None, None)
    assert caught.value.path == "class"
    assert "timeout" in outcome_error_classes()
    for wrong in ("", "2", "2 weeks", "-1h", "1.5h"):
        with pytest.raises(BadInput, match="90s"):
            read_duration(wrong)


def test_errors_of_a_re_score_job_are_told_apart_from_those_of_a_rule(world: World) -> None:
    rule = world.rule()
    world.log()
    world.stored_outcomes.match()
    job = uuid.UUID(int=7)
    world.ask(RescoreOrigin(job, 7))
    world.stored_outcomes.settle(failed("timeout"))

    found = world.outcomes.errors(world.admin, world.app)

    assert {(one.rule_id, one.rescore_job_id) for one in found} == {
        (str(rule.id), None), (None, str(job)),
    }
