"""What every store of outcomes does for people: scores recent rows, explains, retries."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from store_behaviours.access import create
from store_behaviours.functions import FunctionStores
from store_behaviours.logs import ENDED, LogStores
from store_behaviours.rules import rule_body

from flows.logs.rejections import RejectedRow
from flows.outcomes.explain import ExplainStore, OutcomeView
from flows.outcomes.retry import OutcomeStore, RetryRequest
from flows.rules.rules import RuleStore
from rules.wire import ProjectScore
from scorers.functions.function import Function
from spans.errors import NotFound
from spans.ids import OrgId, RuleId
from spans.outcome import Errored, Failure, Verdict, verdict_of
from spans.scoring import REASON_BYTES, OutcomeState, Reason, Role, Score, ScoringResult, Usage
from spans.work import Subject

NEVER = "input = 'never'"


def gave(value: float | None) -> Verdict:
    result = ScoringResult(
        scores=(Score(name="s", value=value, metadata={"why": 1}),), arguments={},
        usage=Usage(
            calls=1, prompt_tokens=2, completion_tokens=3, cached_tokens=1, cost=2.5e-07,
            model="m",
        ),
    )
    return verdict_of(result, started_at=1.0, run_ms=2.5, log="printed")


def failed(error_class: str, message: str = "why") -> Verdict:
    failure = Failure(error_class=error_class, message=message)
    return Errored(failure=failure, started_at=1.0, run_ms=2.5)


@dataclass(kw_only=True)
class OutcomeStores:
    """The stores of one database in which nothing else waits.

    `match` does what match workers do, without running a scorer; `settle` ends all that is
    pending in the same way.
    """

    logs: LogStores
    functions: FunctionStores
    rules: RuleStore
    outcomes: OutcomeStore
    explained: ExplainStore
    match: Callable[[], None]
    settle: Callable[[Verdict], None]

    def __post_init__(self) -> None:
        self.functions.org = self.logs.org
        self.where = self.logs.where
        self.app = self.where.project_id

    def rule(self, name: str = "rule", *functions: Function, **online: object) -> ProjectScore:
        scorers = [{"type": "function", "id": str(each.id)} for each in functions]
        body = rule_body(name, *scorers, **online)
        made, _ = self.rules.create_rule(self.app, RuleId(uuid.uuid4()), body, replace=True)
        return made

    def log(self, *row_ids: str, said: object = "text") -> None:
        fields = {"input": said, **ENDED}
        self.logs.send(*(self.logs.row(row_id, fields=fields) for row_id in row_ids))

    def reselect(self, row_id: str) -> None:
        """Has the rules select the row anew."""
        self.logs.send(self.logs.row(row_id, fields={}, is_merge=True, reselect=True))
        self.match()

    def subject(self, row_id: str = "a") -> Subject:
        (candidate,) = self.explained.candidates(self.logs.org, self.app, row_id)
        return self.explained.subject(candidate)

    def shown(self, row_id: str = "a") -> list[OutcomeView]:
        return self.explained.outcomes(self.subject(row_id))

    def states(self, row_id: str = "a") -> list[tuple[str, OutcomeState]]:
        """Of the row's outcomes, by version, the oldest first."""
        return sorted((one.scorer_version, one.state) for one in self.shown(row_id))


class OutcomeBehaviours:
    """A subclass has a fixture `stores` that gives OutcomeStores."""

    # --- versions of scorers

    def test_a_newer_version_of_a_scorer_supersedes_what_waits_for_the_older(
        self, stores: OutcomeStores
    ) -> None:
        function = stores.functions.write(stores.functions.project(), "mine")
        stores.rule("rule", function)
        stores.log("a")
        stores.match()
        newer = stores.functions.write(function.project_id, "mine")
        stores.reselect("a")

        assert stores.states() == [
            (str(function.version), OutcomeState.SUPERSEDED),
            (str(newer.version), OutcomeState.PENDING),
        ]
        stores.functions.functions.promote(newer, function.version)
        stores.reselect("a")                               # asks for it again
        assert stores.states() == [
            (str(function.version), OutcomeState.PENDING),
            (str(newer.version), OutcomeState.SUPERSEDED),
        ]

    # --- explain

    def test_a_span_is_found_by_its_row_id_or_its_span_id_where_the_caller_looks(
        self, stores: OutcomeStores
    ) -> None:
        other = stores.logs.project("other")
        named = {"span_id": "s", "root_span_id": "s", "span_attributes": {"name": "call"}}
        stores.logs.send(stores.logs.row("a", fields=named))
        stores.logs.send(stores.logs.row("s", other), stores.logs.row("gone", other))
        stores.logs.send(stores.logs.row("gone", other, fields={}, is_delete=True))
        find, org = stores.explained.candidates, stores.logs.org

        (own,) = find(org, stores.app, "s")

        assert (own.project_id, own.project_name) == (str(stores.app), "app")
        assert (own.id, own.span_id, own.name) == ("a", "s", "call")
        assert [each.id for each in find(org, None, "s")] == ["s", "a"]
        assert find(org, stores.app, "a") == [own]
        assert find(OrgId(uuid.uuid4()), None, "a") == find(org, None, "gone") == []
        assert stores.explained.subject(own).key.id == "a"
        stores.logs.send(stores.logs.row("a", fields={}, is_delete=True))
        with pytest.raises(NotFound):
            stores.explained.subject(own)

    def test_a_span_is_shown_with_whether_its_base_is_there(
        self, stores: OutcomeStores
    ) -> None:
        stores.logs.send(stores.logs.row("a", is_merge=True))
        assert not stores.subject().has_base
        assert stores.subject().trigger_xact is None
        base = stores.logs.send(stores.logs.row("a", fields={"output": "of the base"}))
        assert stores.subject().has_base
        assert stores.subject().trigger_xact == base.xact

    def test_rejected_writes_are_found_by_their_ids_where_the_caller_looks(
        self, stores: OutcomeStores
    ) -> None:
        def rejected(row_id: str | None, span_id: str | None, *, nowhere: bool) -> RejectedRow:
            return RejectedRow(
                project_id=None if nowhere else stores.app, row_id=row_id, span_id=span_id,
                reason=f"{row_id} {span_id} {nowhere}", excerpt="{}",
            )

        stores.logs.send(rejected=(
            rejected("a", "s", nowhere=False), rejected("s", None, nowhere=True),
            rejected("b", "a", nowhere=False), rejected(None, None, nowhere=False),
        ))
        find, org = stores.explained.rejected_parts, stores.logs.org

        assert [one.reason for one in find(org, None, ["a"])] == ["b a False", "a s False"]
        assert [one.reason for one in find(org, stores.app, ["s", "a"])] == [
            "b a False", "a s False"
        ]
        (first, second) = find(org, None, ["s"])
        assert (first.project_id, second.project_id) == (None, str(stores.app))
        assert (first.excerpt, first.created <= second.created) == ("{}", True)
        assert len(find(org, stores.app, ["s"])) == 1
        assert len(find(org, stores.app, ["s"], or_of_none=True)) == 2
        assert find(OrgId(uuid.uuid4()), None, ["a"]) == find(org, None, ["c"]) == []

    def test_a_match_record_keeps_what_the_rules_of_then_decided(
        self, stores: OutcomeStores
    ) -> None:
        selecting, other = stores.rule("a"), stores.rule("b", btql_filter=NEVER)
        stores.logs.send(stores.logs.row("never", fields={"input": 1}))
        stores.log("a")
        assert stores.explained.match_record(stores.subject("never")) is None
        waiting = stores.explained.match_record(stores.subject())
        assert waiting is not None
        assert (waiting.matched_at, waiting.rule_set, waiting.reasons) == (None, None, b"")

        stores.match()
        stores.rules.delete_rule(selecting)

        record = stores.explained.match_record(stores.subject())
        assert record is not None
        assert record.matched_at is not None
        assert record.rule_set is not None
        decided = {
            planned.rule.id: record.reasons[place : place + 1]
            for place, planned in enumerate(record.rule_set.rules)
        }
        assert decided == {
            selecting.id: REASON_BYTES[Reason.SELECTED],
            other.id: REASON_BYTES[Reason.FILTER_FALSE],
        }
        now = stores.explained.current_rules(stores.app)
        assert [planned.rule.id for planned in now.rules] == [other.id]

    def test_an_outcome_is_shown_with_what_its_run_gave(self, stores: OutcomeStores) -> None:
        rule = stores.rule()
        stores.log("a")
        stores.match()
        (pending,) = stores.shown()
        stores.settle(gave(0.5))
        (scored,) = stores.shown()
        stores.log("a", said="changed")
        stores.match()
        stores.settle(failed("timeout"))
        errored, older = stores.shown()

        assert (pending.state, pending.attempts, pending.scores) == (
            OutcomeState.PENDING, 0, None
        )
        assert (pending.origin.id, pending.role, pending.scorer, pending.label) == (
            rule.id, Role.LIVE, "ExactMatch", None
        )
        assert (scored.state, scored.attempts, scored.error_class) == (
            OutcomeState.COMPLETED, 1, None
        )
        assert scored.scores == [{"name": "s", "score": 0.5, "metadata": {"why": 1}}]
        assert (scored.run_ms, scored.log, scored.model) == (2.5, "printed", "m")
        assert (scored.prompt_tokens, scored.completion_tokens) == (2, 3)
        assert (scored.cached_tokens, scored.cost) == (1, 2.5e-07)
        assert scored.finished_at is not None
        assert (errored.state, errored.error_class, errored.error_message) == (
            OutcomeState.ERRORED, "timeout", "why"
        )
        assert errored.subject_version == stores.subject().content_xact
        assert older == scored

    def test_a_score_of_a_live_outcome_is_shown_on_its_row(self, stores: OutcomeStores) -> None:
        stores.rule()
        stores.log("a")
        stores.match()
        stores.settle(gave(0.5))

        assert stores.subject().view["scores"] == {"s": 0.5}

    # --- errors and retry

    def test_errors_are_counted_by_rule_scorer_and_class(self, stores: OutcomeStores) -> None:
        function = stores.functions.write(stores.functions.project(), "mine")
        gone, rule = stores.rule("gone"), stores.rule("rule", function)
        stores.log("a")
        stores.match()
        stores.settle(failed("timeout", "first"))
        stores.log("b")
        stores.rules.delete_rule(gone)
        stores.match()
        stores.settle(failed("timeout", "second"))
        stores.log("c")
        stores.match()
        stores.settle(failed("bad_result"))

        found = stores.outcomes.errors(stores.app)

        assert (found[0].rule_id, found[0].count, found[0].last_message) == (
            str(rule.id), 2, "second"
        )
        told = {
            (one.rule_name, one.scorer, one.role, one.error_class, one.count) for one in found
        }
        assert told == {
            ("rule", "mine", "live", "timeout", 2), (None, "ExactMatch", "live", "timeout", 1),
            ("rule", "mine", "live", "bad_result", 1),
        }
        elsewhere, _ = create(stores.logs.projects, stores.logs.org, "elsewhere")
        assert stores.outcomes.errors(elsewhere.id) == []

    def test_errored_outcomes_are_pending_again_with_their_attempts_from_the_start(
        self, stores: OutcomeStores
    ) -> None:
        stores.rule()
        stores.log("a", "b")
        stores.match()
        stores.settle(failed("timeout"))

        assert stores.outcomes.retry(stores.app, RetryRequest()) == 2

        (one,) = stores.shown()
        assert (one.state, one.attempts, one.finished_at) == (OutcomeState.PENDING, 0, None)
        assert (one.error_class, one.error_message) == ("timeout", "why")
        assert stores.outcomes.retry(stores.app, RetryRequest()) == 0
        stores.settle(gave(1))
        assert stores.outcomes.retry(stores.app, RetryRequest()) == 0
        assert [each.state for each in stores.shown()] == [OutcomeState.COMPLETED]

    def test_a_retry_is_limited_by_class_age_and_rule(self, stores: OutcomeStores) -> None:
        rule, _ = stores.rule("a"), stores.rule("b")
        stores.log("a")
        stores.match()
        stores.settle(failed("timeout"))

        def retry(**limits: object) -> int:
            count = stores.outcomes.retry(stores.app, RetryRequest(**limits))
            stores.settle(failed("timeout"))
            return count

        assert (retry(error_class="timeout"), retry(error_class="bug")) == (2, 0)
        assert retry(since=timedelta(hours=1)) == 2
        assert retry(since=timedelta(0)) == 0
        assert (retry(rule_id=rule.id), retry(rule_id=RuleId(uuid.uuid4()))) == (1, 0)
        elsewhere, _ = create(stores.logs.projects, stores.logs.org, "elsewhere")
        assert stores.outcomes.retry(elsewhere.id, RetryRequest()) == 0

    def test_errors_whose_score_could_not_be_shown_stay(self, stores: OutcomeStores) -> None:
        home = stores.functions.project()
        deleted, followed = (stores.functions.write(home, slug) for slug in ("d", "f"))
        gone = stores.rule("gone")
        stores.log("a")
        stores.match()
        stores.settle(failed("timeout"))                  # of a rule that goes
        stores.rules.delete_rule(gone)
        stores.rule("changes")
        stores.log("b")
        stores.match()
        stores.settle(failed("timeout"))                  # of content that changes
        stores.logs.send(stores.logs.row("b", fields={"input": "new"}, skip_scoring=True))
        stores.rule("changes", deleted)
        stores.log("c")
        stores.match()
        stores.settle(failed("timeout"))                  # of a function that goes
        stores.functions.functions.delete(deleted)
        stores.rule("changes", followed)
        stores.log("d")
        stores.match()
        stores.settle(failed("timeout"))                  # of a version that is followed
        stores.functions.write(home, "f")
        stores.reselect("d")
        stores.settle(gave(1))

        assert stores.outcomes.retry(stores.app, RetryRequest()) == 0

    def test_what_waits_for_a_deleted_function_is_superseded(
        self, stores: OutcomeStores
    ) -> None:
        home = stores.functions.project()
        gone, stays = (stores.functions.write(home, slug) for slug in ("gone", "stays"))
        stores.rule("rule", gone, stays)
        stores.log("a")
        stores.match()

        stores.functions.functions.delete(gone)

        assert {one.scorer: one.state for one in stores.shown()} == {
            str(gone.id): OutcomeState.SUPERSEDED, str(stays.id): OutcomeState.PENDING,
        }

    def test_what_waits_for_a_deleted_rule_is_superseded(self, stores: OutcomeStores) -> None:
        gone, stays = stores.rule("gone"), stores.rule("stays")
        stores.log("a")
        stores.match()

        stores.rules.delete_rule(gone)

        states = {one.origin.id: one.state for one in stores.shown()}
        assert states == {
            gone.id: OutcomeState.SUPERSEDED, stays.id: OutcomeState.PENDING
        }
        stores.settle(gave(1))
        assert stores.subject().view["scores"] == {"s": 1}
