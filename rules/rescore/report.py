"""What a re-score job did, counted from its records: outcomes, scores before and after, money.

The records come page by page, and what is kept of them does not grow with their number.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rules.rescore.model import JobScorer
from rules.rescore.statistics import SAME, Distribution, Paired, passes
from spans.json import JsonObject
from spans.outcome import CANCELLED
from spans.scoring import OutcomeState

PASS_THRESHOLD = 0.5
"""The least score that passes, of a scorer whose function has no `__pass_threshold`."""

FLIPS_MAX = 1000
"""Flips of one score that are listed, those with the largest change."""

NAMES_MAX = 100
"""Scores of one scorer that are told apart by name. Code of a user may name each score anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """An outcome of a job, as its report counts it.

    `values` are the scores by name that the scorer gave; one that it declined is missing.
    `cost` is in the unit of the prices; None if the model has none. `run_ms` is how long the
    scorer ran, milliseconds.
    """

    state: OutcomeState
    error_class: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    is_cached: bool = False
    run_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What became of one row under one scorer of a job.

    `row_id` is None if the row was deleted. `scorer` is the scorer's place among the job's.
    `outcome` is None if there is none: not yet, or not any more. `before` are the scores by
    name that this run replaced. `logged` are the names of scores that a client or a person
    sent.
    """

    row_id: str | None
    scorer: int
    outcome: JobOutcome | None
    before: Mapping[str, float] = field(default_factory=dict)
    logged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFlip:
    """A row that passed before and fails after, or the other way."""

    row_id: str
    before: float
    after: float


@dataclass(slots=True)
class Flips:
    """The rows that went from passing to failing, and back: all counted, some listed."""

    to_pass: int = 0
    to_fail: int = 0
    _largest: list[tuple[float, int, ScoreFlip]] = field(default_factory=list)

    def add(self, flip: ScoreFlip, threshold: float) -> None:
        """Take a pair; it is counted if it is a flip."""
        before, after = passes(flip.before, threshold), passes(flip.after, threshold)
        if before == after:
            return
        self.to_pass += after
        self.to_fail += before
        # Of equal changes those that came first are kept.
        entry = abs(flip.after - flip.before), -self.count, flip
        if len(self._largest) < FLIPS_MAX:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heappushpop(self._largest, entry)

    @property
    def count(self) -> int:
        """How many rows flipped."""
        return self.to_pass + self.to_fail

    @property
    def is_cut(self) -> bool:
        """Whether there are more than are listed."""
        return self.count > len(self._largest)

    @property
    def listed(self) -> list[ScoreFlip]:
        """The flips with the largest change, the largest first; at most FLIPS_MAX."""
        return [flip for *_, flip in sorted(self._largest, reverse=True)]


@dataclass(slots=True)
class ScoreReport:
    """One score of a scorer, by its name: before and after.

    `before` has what the job replaced, and `after` what it gave. `change` has the rows that
    have both. `hidden` counts the rows where a logged score of the name stays the one shown.
    """

    before: Distribution
    after: Distribution
    change: Paired = field(default_factory=Paired)
    flips: Flips = field(default_factory=Flips)
    unchanged: int = 0
    hidden: int = 0

    @classmethod
    def with_threshold(cls, threshold: float) -> ScoreReport:
        """A report of nothing yet. Scores from `threshold` on pass."""
        return cls(Distribution(threshold), Distribution(threshold))

    def add(
        self, row_id: str | None, before: float | None, after: float | None, *, is_hidden: bool
    ) -> None:
        """Take what one row had and has."""
        if before is not None:
            self.before.add(before)
        if after is not None:
            self.after.add(after)
            self.hidden += is_hidden
        if before is not None and after is not None:
            self.change.add(before, after)
            self.unchanged += abs(after - before) <= SAME
            if row_id is not None:
                flip = ScoreFlip(row_id=row_id, before=before, after=after)
                self.flips.add(flip, self.after.threshold)


@dataclass(slots=True)
class Counted:
    """Outcomes by what became of them, and what they cost.

    `states` has completed, skipped, errored, pending and superseded ones; a superseded one
    whose job was cancelled counts as `cancelled` instead. `unreached` wait for their turn, and
    `deleted` are of rows that went before it. `unpriced` are outcomes that asked a judge whose
    model has no price, so that `cost` lacks them. Tokens and calls of answers from the cache do
    not count. `run_ms` is the time of all runs together, milliseconds.
    """

    states: Counter[str] = field(default_factory=Counter)
    error_classes: Counter[str] = field(default_factory=Counter)
    unreached: int = 0
    deleted: int = 0
    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    run_ms: float = 0.0

    @property
    def outcomes(self) -> int:
        """Outcomes that the job asks for, those without a result included."""
        return self.states.total() + self.unreached + self.deleted

    def add(self, record: JobRecord) -> None:
        """Take one more record."""
        outcome = record.outcome
        if outcome is None:
            if record.row_id is None:
                self.deleted += 1
            else:
                self.unreached += 1
            return
        error = outcome.error_class
        is_cancelled = outcome.state is OutcomeState.SUPERSEDED and error == CANCELLED
        self.states[CANCELLED if is_cancelled else outcome.state.value] += 1
        if outcome.state is OutcomeState.ERRORED:
            self.error_classes[error or "unknown"] += 1
        self.run_ms += outcome.run_ms
        if outcome.is_cached:
            self.cached += 1
            return
        self.calls += outcome.calls
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        self.cost += outcome.cost or 0.0
        self.unpriced += outcome.calls > 0 and outcome.cost is None


@dataclass(slots=True)
class ScorerReport:
    """One scorer of a job: its outcomes, and each of its scores by name.

    `unnamed` counts scores beyond the first NAMES_MAX names.
    """

    scorer: JobScorer
    threshold: float
    counted: Counted = field(default_factory=Counted)
    scores: dict[str, ScoreReport] = field(default_factory=dict)
    unnamed: int = 0

    def add(self, record: JobRecord) -> None:
        """Take one more record of this scorer."""
        self.counted.add(record)
        after = _values_after(record.outcome)
        for name in record.before.keys() | after.keys():
            score = self.scores.get(name)
            if score is None:
                if len(self.scores) == NAMES_MAX:
                    self.unnamed += 1
                    continue
                score = self.scores[name] = ScoreReport.with_threshold(self.threshold)
            score.add(
                record.row_id, record.before.get(name), after.get(name),
                is_hidden=name in record.logged,
            )


@dataclass(slots=True)
class JobReport:
    """A re-score job's report: each of its scorers, and all together.

    `hidden` counts the outcomes of which a logged score stays the one shown.
    """

    scorers: tuple[ScorerReport, ...]
    total: Counted = field(default_factory=Counted)
    hidden: int = 0

    def add(self, record: JobRecord) -> None:
        """Take one more record."""
        self.total.add(record)
        self.scorers[record.scorer].add(record)
        self.hidden += not record.logged.isdisjoint(_values_after(record.outcome))


def report_of(
    scorers: Sequence[JobScorer],
    thresholds: Sequence[float | None],
    pages: Iterable[Iterable[JobRecord]],
) -> JobReport:
    """The report of the records. `thresholds` are those of the scorers; None is 0.5."""
    report = JobReport(tuple(
        ScorerReport(scorer, PASS_THRESHOLD if threshold is None else threshold)
        for scorer, threshold in zip(scorers, thresholds, strict=True)
    ))
    for page in pages:
        for record in page:
            report.add(record)
    return report


def report_json(report: JobReport) -> JsonObject:
    """The report as JSON. Scores of a scorer are in the order of their names."""
    return {
        "total": {**_counted_json(report.total), "logged_score_shown": report.hidden},
        "scorers": [
            {
                "type": one.scorer.scorer.kind,
                "name": one.scorer.shown_as,
                "id": one.scorer.scorer.name,
                "version": one.scorer.scorer.version,
                "pass_threshold": one.threshold,
                **_counted_json(one.counted),
                "scores": {
                    name: _score_json(score) for name, score in sorted(one.scores.items())
                },
                "scores_of_more_names": one.unnamed,
            }
            for one in report.scorers
        ],
    }


def _values_after(outcome: JobOutcome | None) -> Mapping[str, float]:
    """The scores that the outcome gave: a superseded one gave none that count."""
    if outcome is None or outcome.state is not OutcomeState.COMPLETED:
        return {}
    return outcome.values


def _counted_json(counted: Counted) -> JsonObject:
    states: JsonObject = {
        state: counted.states[state]
        for state in (*(each.value for each in OutcomeState), CANCELLED)
    }
    return {
        "outcomes": counted.outcomes,
        **states,
        "unreached": counted.unreached,
        "deleted": counted.deleted,
        "error_classes": {**dict(counted.error_classes.most_common())},
        "calls": counted.calls,
        "answered_from_cache": counted.cached,
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "cost": counted.cost,
        "without_price": counted.unpriced,
        "run_ms": round(counted.run_ms, 3),
    }


def _score_json(score: ScoreReport) -> JsonObject:
    change, flips = score.change, score.flips
    interval = change.interval()
    return {
        "before": _distribution_json(score.before),
        "after": _distribution_json(score.after),
        "difference": {
            "pairs": change.differences.count,
            "unchanged": score.unchanged,
            "mean": change.differences.mean if change.differences.count else None,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "method": change.method.value,
        },
        "flips": {
            "to_pass": flips.to_pass,
            "to_fail": flips.to_fail,
            "rows": [
                {"id": flip.row_id, "before": flip.before, "after": flip.after}
                for flip in flips.listed
            ],
            "is_cut": flips.is_cut,
        },
        "logged_score_shown": score.hidden,
    }


def _distribution_json(found: Distribution) -> JsonObject:
    return {
        "count": found.values.count,
        "mean": found.values.mean if found.values.count else None,
        "deviation": found.values.deviation,
        "share_passing": found.share_passing,
        "bins": [*found.bins],
    }
