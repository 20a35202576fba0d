"""Plans a re-score job: what it would take, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rules.model import Rule
from rules.rescore.estimate import (
    JobEstimate,
    JudgePrompt,
    PastOutcomes,
    Range,
    Rates,
    estimate,
    share_of,
)
from rules.rescore.model import JobScorer, Selection
from rules.rescore.selection_count import SelectionCount
from scorers.functions.function import read_version
from scorers.functions.version import FUNCTION
from spans.clock import Clock
from spans.ids import ProjectId
from spans.json import Json, JsonObject
from spans.row import ObjectRef

PLAN_S = 120.0
"""How long a plan may count, seconds. A project of a million rows takes some 20 s; who asks for
a plan waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A rule that has rows scored by another version of a scorer than the job."""

    rule: str
    scorer: str
    pinned: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job would do and take.

    `probe` is what its probe would take; None if it has none.
    """

    counted: SelectionCount
    scorers: tuple[JobScorer, ...]
    estimate: JobEstimate
    pins: tuple[Pin, ...] = ()
    probe_records: int | None = None
    probe: JobEstimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a job is asked to do, as far as a plan needs it.

    `rule` is the rule that the selection names. `prompts` are in the order of the scorers: what
    each one that asks a judge sends with every row.
    """

    project_id: ProjectId
    selection: Selection
    scorers: tuple[JobScorer, ...]
    prompts: tuple[JudgePrompt, ...]
    rule: Rule | None = None
    probe: int | None = None
    max_per_second: float | None = None


class SelectionCounter(Protocol):
    """Counts what selections take."""

    def count(
        self, selection: Selection, scorers: Sequence[JobScorer], *,
        names: Sequence[frozenset[str]], rule: Rule | None, now: datetime, timeout_s: float,
    ) -> SelectionCount:
        """What the selection takes at present. Writes nothing.

        `names` are the names of each scorer's scores, `rule` is the rule that the selection
        names, and `now` is the time of its filter. Raises BadInput if a filter has an error, or
        counting takes longer than `timeout_s` seconds.
        """
        ...


class PastOutcomeSource(Protocol):
    """Knows what scorers took before."""

    def past(
        self, project_id: ProjectId, objects: Sequence[ObjectRef], scorers: Sequence[JobScorer]
    ) -> Sequence[PastOutcomes]:
        """What the latest outcomes of each scorer took in the project, and the names of its
        scores, among them the one under which it is shown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What plans are made of, in one process. `model` is that of judges that name none.

    Counting may take `timeout_s` seconds.
    """

    counter: SelectionCounter
    source: PastOutcomeSource
    rates: Rates
    clock: Clock
    model: str
    timeout_s: float = PLAN_S

    def plan(self, request: JobRequest, rules: Iterable[Rule]) -> Plan:
        """The plan of a job; `rules` are those of the project. Raises what `make_plan` does."""
        return make_plan(
            request, rules=rules, counter=self.counter, source=self.source, rates=self.rates,
            now=self.clock(), timeout_s=self.timeout_s,
        )


def make_plan(
    request: JobRequest, *, rules: Iterable[Rule], counter: SelectionCounter,
    source: PastOutcomeSource, rates: Rates, now: datetime, timeout_s: float,
) -> Plan:
    """The plan of a job. Nothing is written, and nothing spent.

    `rules` are those of the project. Raises BadInput if a filter has an error, or counting
    takes longer than `timeout_s` seconds.
    """
    chosen, scorers = request.selection, request.scorers
    past = source.past(request.project_id, chosen.objects, scorers)
    counted = counter.count(
        chosen, scorers, names=[one.names for one in past], rule=request.rule, now=now,
        timeout_s=timeout_s,
    )

    def taking(some: SelectionCount) -> JobEstimate:
        return estimate(
            some, scorers, past=past, prompts=request.prompts, rates=rates,
            max_per_second=request.max_per_second,
        )

    first = None if request.probe is None else share_of(counted, request.probe)
    return Plan(
        counted=counted, scorers=scorers, estimate=taking(counted),
        pins=tuple(pins_of(rules, scorers)),
        probe_records=None if first is None else first.records,
        probe=None if first is None else taking(first),
    )


def pins_of(rules: Iterable[Rule], scorers: Sequence[JobScorer]) -> Iterable[Pin]:
    """The rules that pin another version of one of the scorers, by their names."""
    by_name = {
        one.scorer.name: one for one in scorers if one.scorer.kind == FUNCTION
    }
    for rule in sorted(rules, key=lambda each: each.name):
        for choice in rule.scorers:
            one = by_name.get(choice.name)
            if one is None or choice.kind != FUNCTION or choice.version is None:
                continue
            pinned = str(read_version(choice.version))
            if pinned != one.scorer.version:
                yield Pin(
                    rule=rule.name, scorer=one.shown_as, pinned=pinned,
                    version=one.scorer.version,
                )


def plan_json(plan: Plan) -> JsonObject:
    """The plan as JSON. Sums of money are in the unit of the prices, times in seconds."""
    counted = plan.counted
    told: JsonObject = {
        "records": counted.records,
        "record_bytes": round(counted.record_bytes),
        "ids": {
            "unknown": counted.unknown, "unfinished": counted.unfinished,
            "made_by_scorers": counted.made_by_scorers,
        },
        **_estimate_json(plan.estimate),
        "scorers": [
            {
                "name": part.scorer.shown_as, "version": part.scorer.scorer.version,
                "records": part.records, "kept_scores": count.kept, "model": part.model,
                "source": part.source, "calls": _range(part.calls),
                "prompt_tokens": _range(part.prompt_tokens),
                "completion_tokens": _range(part.completion_tokens),
                "money": _range(part.money), "seconds": _range(part.seconds),
            }
            for part, count in zip(plan.estimate.scorers, counted.scorers, strict=True)
        ],
        "pins": [
            {
                "rule": pin.rule, "scorer": pin.scorer, "pinned_version": pin.pinned,
                "version": pin.version,
            }
            for pin in plan.pins
        ],
        "probe": None,
    }
    if plan.probe is not None:
        told["probe"] = {"records": plan.probe_records, **_estimate_json(plan.probe)}
    return told


def _estimate_json(taken: JobEstimate) -> JsonObject:
    return {
        "scorer_runs": sum(part.records for part in taken.scorers),
        "calls": _range(taken.calls),
        "prompt_tokens": _range(taken.prompt_tokens),
        "completion_tokens": _range(taken.completion_tokens),
        "money": _range(taken.money),
        "unpriced": list(taken.unpriced),
        "seconds": _range(taken.seconds),
    }


def _range(of: Range | None) -> Json:
    if of is None:
        return None
    return {"low": _short(of.low), "expected": _short(of.expected), "high": _short(of.high)}


def _short(value: float) -> float:
    """The number to six digits: it is an estimate."""
    return float(f"{value:.6g}")
