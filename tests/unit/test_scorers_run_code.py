"""Which outcome follows from a run of code whose calls to a model failed."""

from __future__ import annotations

import pytest

from scorers.run.code import verdict_of
from scorers.sandbox.lending.broker import Lent
from scorers.sandbox.model import CodeEnd, RunResult
from spans.errors import (
    BudgetSpent,
    JudgeRefused,
    JudgeUnavailable,
    JudgeUnpaid,
    RateLimited,
    StoreUnavailable,
    TallyardError,
    Timeout,
    TransientError,
)
from spans.outcome import Errored, Verdict

AWAY = JudgeUnavailable("a call to the endpoint default failed: it is down")
UNPAID = JudgeUnpaid("a call to the endpoint default failed: no credit")
RAISED = RunResult(ended=CodeEnd.ERROR, detail="openai.InternalServerError: 502", log="hello")


def ended(ran: RunResult, failure: TallyardError | None) -> Verdict | TransientError:
    lent = Lent(failure=failure)
    return verdict_of(ran, {"output": "x"}, lent, name="mine", started_at=1.0)


@pytest.mark.parametrize(
    "failure",
    [
        AWAY, RateLimited("slow down", retry_after_s=7), Timeout("late"),
        StoreUnavailable("PostgreSQL is away"),
    ],
)
@pytest.mark.parametrize("end", [CodeEnd.ERROR, CodeEnd.TIMEOUT])
def test_code_that_ends_without_a_result_is_tried_again_as_its_call_would_be(end, failure):
    assert ended(RunResult(ended=end, detail="why"), failure) is failure


@pytest.mark.parametrize(
    ("failure", "error_class"),
    [(UNPAID, "judge_unpaid"), (JudgeRefused("check the key"), "judge_refused")],
)
def test_the_class_says_that_the_operator_must_act(failure, error_class):
    verdict = ended(RAISED, failure)

    assert isinstance(verdict, Errored)
    assert verdict.failure.error_class == error_class
    assert str(failure) in verdict.failure.message
    assert RAISED.detail in verdict.failure.message
    assert verdict.log == "hello"


@pytest.mark.parametrize("end", [CodeEnd.OK, CodeEnd.ERROR, CodeEnd.TIMEOUT])
def test_code_whose_budget_was_spent_is_held_back_whatever_it_gives(end):
    spent = BudgetSpent("the budget holds it back", budget_no=7)

    assert ended(RunResult(ended=end, value=0.5, detail="why"), spent) is spent


@pytest.mark.parametrize("failure", [AWAY, UNPAID, None])
def test_a_score_that_the_code_gives_all_the_same_counts(failure):
    verdict = ended(RunResult(ended=CodeEnd.OK, value=0.5), failure)

    assert not isinstance(verdict, Errored | TransientError)
    assert [score.value for score in verdict.result.scores] == [0.5]


@pytest.mark.parametrize(
    ("ran", "failure", "error_class"),
    [
        (RAISED, None, "error"),
        (RunResult(ended=CodeEnd.OK, value="no score"), AWAY, "bad_result"),
        (RunResult(ended=CodeEnd.KILLED), AWAY, "killed"),
        (RunResult(ended=CodeEnd.TIMEOUT), None, "timeout"),
    ],
)
def test_what_is_the_codes_own_fault_stays_so(ran, failure, error_class):
    verdict = ended(ran, failure)

    assert isinstance(verdict, Errored)
    assert verdict.failure.error_class == error_class
