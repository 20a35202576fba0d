"""The plan of a re-score job: what it counts, what it would take, and how it is told."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes.memory.rescore import MemoryPastOutcomes, MemorySelectionCounter

from flows.rescore.plan import JobRequest, Plan, make_plan, plan_json
from flows.rescore.plan_text import plan_lines
from rules.budgets.model import Caps
from rules.model import Rule, ScorerChoice
from rules.rescore.estimate import JudgePrompt, Moments, PastOutcomes, Range, Rates
from rules.rescore.model import JobScorer, Selection
from rules.rescore.selection_count import ScorerCount, SelectionCount
from scorers.judge.prices import Prices
from spans.errors import BadInput
from spans.ids import SHORT_XACT_INVERSE, ProjectId, RuleId
from spans.queues import HEAVY, JUDGE
from spans.row import project_logs
from spans.scoring import ScorerRef

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PROJECT = ProjectId(uuid.UUID(int=1))
JUDGED = str(uuid.UUID(int=2))
POLITE = JobScorer(
    scorer=ScorerRef(kind="function", name=JUDGED, version="1000192665895043072"), queue=JUDGE,
    label="polite",
)
CLOSE = JobScorer(
    scorer=ScorerRef(kind="global", name="Levenshtein", version="0.3"), queue=HEAVY
)
RATES = Rates(
    prices=lambda model: Prices(prompt=1.0, completion=2.0, cached=1.0)
    if model == "small" else None,
    in_flight=lambda _: 4,
)
COUNTED = SelectionCount(
    records=1000, scorers=(ScorerCount(records=1000, kept=12), ScorerCount(records=400)),
    record_bytes=2000.0, measured=100, unknown=3, unfinished=1,
)
PAST = PastOutcomes(
    outcomes=50, calls=Moments(mean=1), prompt_tokens=Moments(mean=500, deviation=50),
    completion_tokens=Moments(mean=20, deviation=5), run_ms=Moments(mean=800, deviation=100),
    model="small", names=frozenset({"polite", "kind"}),
)


def rule(name: str, *scorers: ScorerChoice, **more: Any) -> Rule:
    return Rule(
        id=RuleId(uuid.uuid5(uuid.NAMESPACE_OID, name)), project_id=PROJECT, name=name,
        created=NOW, scorers=scorers, sampling_rate=1.0, **more,
    )


def pinned(version: str | None) -> ScorerChoice:
    return ScorerChoice(kind="function", name=JUDGED, version=version)


SHOWN = f"{int(POLITE.scorer.version) * pow(SHORT_XACT_INVERSE, -1, 2**64) % 2**64:016x}"
RULES = [
    rule("old", pinned("1000192665895000000"), ScorerChoice(kind="global", name="Levenshtein")),
    rule("same", pinned("1000192665895043072")), rule("newest", pinned(None)),
    # The job's own version, as clients show it.
    rule("hex", pinned(SHOWN)),
    rule("older", pinned("1000192665890000000")),
]


def planned(
    *, probe: int | None = None, **selection: Any
) -> tuple[Plan, MemorySelectionCounter]:
    counter = MemorySelectionCounter(COUNTED)
    request = JobRequest(
        project_id=PROJECT, selection=Selection(objects=(project_logs(PROJECT),), **selection),
        scorers=(POLITE, CLOSE), prompts=(JudgePrompt(model="small"), JudgePrompt()),
        probe=probe,
    )
    return make_plan(
        request, rules=RULES, counter=counter, source=MemoryPastOutcomes({JUDGED: PAST}),
        rates=RATES, now=NOW, timeout_s=1,
    ), counter


def test_a_plan_counts_and_estimates_each_scorer_by_what_it_took_before() -> None:
    plan, counter = planned()

    polite, close = plan.estimate.scorers
    assert polite.source == "of 50 past outcomes"
    assert polite.calls.expected == 1000
    assert polite.money is not None
    assert polite.money.expected == pytest.approx(1000 * (500 * 1.0 + 20 * 2.0) / 1e6)
    assert close.calls.high == 0
    assert close.records == 400
    assert counter.names == [frozenset({"polite", "kind"}), frozenset({"Levenshtein"})]


def test_a_plan_names_the_rules_that_pin_another_version() -> None:
    pins = planned()[0].pins

    assert [(pin.rule, pin.scorer, pin.version) for pin in pins] == [
        ("old", "polite", POLITE.scorer.version), ("older", "polite", POLITE.scorer.version),
    ]
    assert pins[0].pinned == "1000192665895000000"


def test_a_probe_has_a_price_of_its_own() -> None:
    plan, _ = planned(probe=20)

    assert plan.probe is not None
    assert plan.probe_records == 20
    assert plan.probe.calls.expected == 20
    assert plan.probe.money.high < plan.estimate.money.low
    assert planned()[0].probe is None


def test_a_filter_with_an_error_gives_no_plan() -> None:
    with pytest.raises(BadInput, match="the filter has an error"):
        planned(btql_filter="metadata.x =")


def test_the_json_of_a_plan_says_all_that_it_knows() -> None:
    told: Any = plan_json(planned(probe=20)[0])

    assert told["records"] == 1000
    assert told["ids"] == {"unknown": 3, "unfinished": 1, "made_by_scorers": 0}
    assert told["scorer_runs"] == 1400
    assert told["calls"] == {"low": 1000, "expected": 1000, "high": 1000}
    assert told["scorers"][0]["kept_scores"] == 12
    assert told["scorers"][0]["source"] == "of 50 past outcomes"
    assert told["scorers"][1]["money"] == {"low": 0, "expected": 0, "high": 0}
    assert told["pins"][0] == {
        "rule": "old", "scorer": "polite", "pinned_version": "1000192665895000000",
        "version": POLITE.scorer.version,
    }
    assert told["probe"]["records"] == 20
    assert told["probe"]["scorer_runs"] == 28
    assert told["unpriced"] == []


def test_a_plan_is_told_in_lines() -> None:
    plan, _ = planned(probe=20)

    assert plan_lines(plan) == [
        "1,000 records",
        "  3 of the ids have no row: they are left out",
        "  1 of the ids are of spans that have not ended: they are left out",
        "",
        f"polite {POLITE.scorer.version}: 1,000 records",
        "  on 12 of them a logged score of that name stays the one shown",
        "  calls of small, estimated of 50 past outcomes: 1,000",
        "  tokens: about 500,000 (485,509 to 514,491) of prompts,"
        " about 20,000 (18,551 to 21,449) of answers",
        "  money: about 0.54 (0.523 to 0.557)",
        "  time: 3 min",
        "",
        "Levenshtein 0.3: 400 records",
        "  no calls: it asks no judge",
        "  time: less than 1 s",
        "",
        "all scorers",
        "  calls: 1,000",
        "  money: about 0.54 (0.523 to 0.557)",
        "  time: 3 min",
        "",
        "rule 'old' pins version 1000192665895000000 of polite; the job scores by version"
        " 1000192665895043072",
        "rule 'older' pins version 1000192665890000000 of polite; the job scores by version"
        " 1000192665895043072",
        "",
        "its probe: 20 records",
        "  calls: 20",
        "  money: about 0.0108 (0.0102 to 0.0114)",
        "  time: 4 s",
    ]


def test_a_model_without_a_price_and_one_record_are_told_as_such() -> None:
    plan, _ = planned()
    unpriced = replace(plan.estimate.scorers[0], money=None)
    told = plan_lines(replace(
        plan, counted=replace(COUNTED, records=1),
        estimate=replace(
            plan.estimate, scorers=(unpriced, plan.estimate.scorers[1]), unpriced=("polite",)
        ),
    ))

    assert told[0] == "1 record"
    assert "  money: the model has no price" in told
    assert any(line.endswith("without polite") for line in told)


def test_the_time_of_a_job_of_one_scorer_is_that_of_its_rate() -> None:
    plan, _ = planned()
    alone = replace(
        plan, counted=replace(COUNTED, scorers=COUNTED.scorers[:1]),
        estimate=replace(
            plan.estimate, scorers=plan.estimate.scorers[:1],
            seconds=Range(low=600.0, expected=600.0, high=600.0),
        ),
    )

    assert [line for line in plan_lines(alone) if "time:" in line] == ["  time: 10 min"]


def test_small_figures_are_told_in_plain_digits() -> None:
    plan, _ = planned()
    part = replace(
        plan.estimate.scorers[0], money=Range(low=8.65e-05, expected=0.00081, high=0.0032)
    )
    told = plan_lines(replace(
        plan, counted=replace(COUNTED, scorers=COUNTED.scorers[:1]),
        estimate=replace(
            plan.estimate, scorers=(part,), seconds=Range(low=0.1, expected=0.4, high=1.2),
        ),
    ))

    assert "  money: about 0.00081 (0.0000865 to 0.0032)" in told
    assert "  time: less than 1 s (less than 1 s to 1 s)" in told


def test_a_plan_tells_its_budget_and_what_that_refuses() -> None:
    plan, _ = planned()
    caps = Caps(money=20_000_000, calls=1500)
    told = "its budget: at most 0.02 of money and 1,500 calls; what it does not allow waits"
    assert plan_lines(plan, caps)[-2:] == ["", told]

    unpriced = replace(plan, estimate=replace(plan.estimate, unpriced=("polite",)))
    assert plan_lines(unpriced, caps)[-2] == told
    assert plan_lines(unpriced, caps)[-1].endswith("polite will be errored (no_price)")
    of_calls = plan_lines(unpriced, Caps(calls=1500))
    assert of_calls[-1].startswith("its budget: at most 1,500 calls;")
