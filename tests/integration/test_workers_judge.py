"""Each behaviour of a judge, through the whole pipeline, gives one correct outcome."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from checker import CheckedRule, Checker, number, query
from fakes.judge import FakeJudge
from load import span
from postgres_servers import PostgresServers
from stack import Stack

from flows.scoring.circuit import FIRST_IN_FLIGHT
from ops.servers.postgres import MAJOR_VERSION
from ops.servers.valkey import start_valkey

RETRY_AFTER_S = 4
"""Longer than the first backoff, which lasts 1 to 2 s."""

RETRY_S = 12.0
"""For how long an outcome is tried: longer than what heals takes to heal."""

SETTLED_S = 90.0

# How the judge behaves, and what becomes of the span: state, error class, attempts.
COMPLETED: Mapping[str, tuple[str, int]] = {
    "answers": ("ok", 1),
    "answers 429 with Retry-After": (f"429;times=1;retry-after={RETRY_AFTER_S}", 2),
    "answers 429 without": ("429;times=1", 2),
    "answers 500 twice": ("500;times=2", 3),
    "hangs once": ("hang;times=1", 2),
    "resets the connection": ("reset;times=1", 2),
}
ERRORED: Mapping[str, tuple[str, str]] = {
    "answers JSON that is no object": ("list_body", "bad_result"),
    "has no credit left": ("402", "judge_unpaid"),
    "reads no more than this": ("413", "prompt_too_long"),
    "answers an unknown choice": ("unknown_choice", "bad_result"),
    "refuses the key": ("401", "judge_refused"),
}
FOR_EVER: Mapping[str, tuple[str, str]] = {
    "answers 429 for ever": ("429", "rate_limited"),
    "answers 500 for ever": ("500", "judge_unavailable"),
    "answers half a JSON": ("bad_json", "judge_unavailable"),
    "hangs for ever": ("hang", "timeout"),
}
HELD_BACK = "select count(*) from outcome where queue = 'held:default'"
PENDING = "select count(*) from outcome where state = 'pending'"
OUTCOMES = """
    select state, error_class, error_message, attempts, calls, prompt_tokens,
           completion_tokens, model, extract(epoch from finished_at - created)::float as took_s
      from shown_outcome where project_id = %s and subject_id = %s"""


@pytest.fixture(scope="module")
def judge() -> Iterator[FakeJudge]:
    """A judge of this module's own: its calls are counted."""
    with FakeJudge() as own:
        yield own


@pytest.fixture(scope="module")
def judging(postgres_servers: PostgresServers, judge: FakeJudge) -> Iterator[Stack]:
    """A stack whose judge worker gives up soon."""
    url = postgres_servers[MAJOR_VERSION].create(f"judging_{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory(prefix="tallyard-test-") as folder:
        path = Path(folder)
        valkey, redis_url = start_valkey(path / "valkey", log=path / "valkey.log")
        with Stack(
            database_url=url, redis_url=redis_url,
            folder=path / "stack", judge_base_url=judge.url, judge_api_key="sk-judge",
            judge_model="gpt-4o", judge_timeout_s="1", retry_hours=str(RETRY_S / 3600),
            backoff_max_s=str(RETRY_AFTER_S),
        ) as stack:
            stack.start("api", "match", "judge", "beat")
            yield stack
        valkey.stop(patience_s=2)


def asking(case: str, behaviour: str) -> dict[str, Any]:
    """A span whose judge behaves like this."""
    return span(case, input=f"<{case}> judge!{behaviour}")


@pytest.fixture(scope="module")
def project(judging: Stack, judge: FakeJudge) -> str:
    """Every case, settled, and found consistent.

    What fails for ever comes after the rest: it has the judge's circuit open.
    """
    project = judging.project()
    rule = judging.rule(project, "Factuality")
    checker = Checker(
        judging.database_url, project, rules=(CheckedRule(id=rule, scorers=("Factuality",)),),
        judge=judge,
        error_classes=frozenset(wanted for _, wanted in (ERRORED | FOR_EVER).values()),
    )
    checker.watch()
    for cases in ({**COMPLETED, **ERRORED}, FOR_EVER):
        events = [asking(case, behaviour) for case, (behaviour, _) in cases.items()]
        request = checker.log.send(events)
        judging.insert(project, *events)
        checker.log.acknowledge(request)
        judging.wait_until(
            checker.is_quiet, deadline_s=SETTLED_S, what="every case to settle"
        )
    checker.assert_holds()
    return project


def outcome(stack: Stack, project: str, case: str) -> dict[str, Any]:
    """The one outcome of the span."""
    (found,) = query(stack.database_url, OUTCOMES, project, case)
    return found


def calls(judge: FakeJudge, case: str) -> int:
    return sum(f"<{case}>" in call.prompt for call in judge.calls)


@pytest.mark.parametrize("case", COMPLETED)
def test_what_time_heals_is_completed_in_as_many_attempts_as_it_takes(
    judging: Stack, judge: FakeJudge, project: str, case: str
) -> None:
    _, attempts = COMPLETED[case]

    found = outcome(judging, project, case)

    assert (found["state"], found["attempts"]) == ("completed", attempts)
    assert calls(judge, case) == attempts


@pytest.mark.parametrize("case", ERRORED)
def test_what_nothing_heals_is_errored_with_its_class_and_not_tried_in_vain(
    judging: Stack, judge: FakeJudge, project: str, case: str
) -> None:
    assert_errored(judging, project, case, ERRORED[case][1])
    assert outcome(judging, project, case)["attempts"] == calls(judge, case) == 1


@pytest.mark.parametrize("case", FOR_EVER)
def test_what_time_does_not_heal_is_errored_with_its_own_class_when_its_time_is_over(
    judging: Stack, judge: FakeJudge, project: str, case: str
) -> None:
    assert_errored(judging, project, case, FOR_EVER[case][1])
    found = outcome(judging, project, case)
    assert found["attempts"] == calls(judge, case) > 1
    assert found["took_s"] >= RETRY_S


def assert_errored(stack: Stack, project: str, case: str, error_class: str) -> None:
    found = outcome(stack, project, case)
    assert (found["state"], found["error_class"]) == ("errored", error_class)
    row = stack.row(project, case)
    assert row is not None
    assert not row["scores"]
    (told,) = stack.explain(project, case)["rules"]
    assert told["status"] == "errored"


def test_a_judge_that_asks_for_a_pause_gets_it(judging: Stack, project: str) -> None:
    found = outcome(judging, project, "answers 429 with Retry-After")

    assert found["took_s"] >= RETRY_AFTER_S


def test_tokens_and_model_are_recorded_and_shown_on_the_score_span(
    judging: Stack, project: str
) -> None:
    found = outcome(judging, project, "answers")

    assert (found["calls"], found["model"], found["completion_tokens"]) == (1, "gpt-4o", 7)
    assert found["prompt_tokens"] > 100
    (score_span,) = judging.score_spans(project, "answers")
    metrics = score_span["metrics"]
    assert metrics["prompt_tokens"] == found["prompt_tokens"]
    assert metrics["completion_tokens"] == 7
    assert metrics["tokens"] == found["prompt_tokens"] + 7


def test_two_rules_with_the_same_scorer_share_one_call(
    judging: Stack, judge: FakeJudge
) -> None:
    project = judging.project()
    rules = [judging.rule(project, "Factuality") for _ in range(2)]

    judging.insert(project, span("shared"))
    judging.scored(project, "shared")

    found = query(
        judging.database_url,
        "select origin_id::text, state, scores from shown_outcome where project_id = %s",
        project,
    )
    assert {one["origin_id"] for one in found} == set(rules)
    assert [one["state"] for one in found] == ["completed", "completed"]
    assert found[0]["scores"] == found[1]["scores"]
    assert calls(judge, "shared") == 1


def test_what_a_wrong_key_left_errored_is_completed_by_outcomes_retry(
    judging: Stack, judge: FakeJudge
) -> None:
    name = "wrong key at first"
    project = judging.project(name)
    judging.rule(project, "Factuality")
    judging.insert(project, asking("key", "401;times=1"), asking("other", "unknown_choice"))
    judging.scored(project, "other")
    judging.scored(project, "key")
    assert outcome(judging, project, "key")["error_class"] == "judge_refused"

    done = judging.tallyard(
        "outcomes", "retry", "--class", "judge_refused", "--since", "1h", "--project", name
    )

    assert done.returncode == 0, done.stderr
    assert judging.scored(project, "key")["scores"] == {"Factuality": pytest.approx(0.4)}
    assert outcome(judging, project, "key")["state"] == "completed"
    assert len(judging.score_spans(project, "key")) == 1
    assert calls(judge, "key") == 2
    assert outcome(judging, project, "other")["error_class"] == "bad_result"
    assert calls(judge, "other") == 1


def test_a_judge_that_is_down_holds_outcomes_back_says_so_and_loses_none(
    own_stack: Stack, stack_judge: FakeJudge
) -> None:
    own_stack.start("api", "match", "judge", "beat")
    project = own_stack.project()
    own_stack.rule(project, "Factuality")
    before = len(stack_judge.calls)
    stack_judge.outage = "503"
    try:
        ids = own_stack.insert(project, *(span(f"row {one}") for one in range(300)))
        own_stack.wait_until(
            lambda: number(own_stack.database_url, HELD_BACK) > 200,
            deadline_s=SETTLED_S, what="the circuit to open",
        )
        wasted = len(stack_judge.calls) - before
        told = [own_stack.explain(project, one)["rules"][0]["text"] for one in ids]
        metrics = own_stack.http("GET", "/metrics").body.decode()
    finally:
        stack_judge.outage = None
    own_stack.wait_until(
        lambda: number(own_stack.database_url, PENDING) == 0,
        deadline_s=SETTLED_S, what="every outcome to be scored",
    )

    assert wasted <= FIRST_IN_FLIGHT + 3      # and a probe or two
    held = [text for text in told if "held back: the judge endpoint default is down" in text]
    assert len(held) > 200
    assert all("judge_unavailable" in text and "503" in text for text in held)
    assert 'tallyard_circuit_held_outcomes{endpoint="default"' in metrics
    states = query(own_stack.database_url, "select distinct state from outcome")
    assert states == [{"state": "completed"}]
    assert number(own_stack.database_url, "select count(*) from circuit") == 0
