"""Trying scorers on stored rows, and comparing two versions of one; nothing is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from urllib.parse import quote

from spans.json import JsonObject
from spans.outcome import Errored, Verdict, verdict_scores
from spans.row import RowKey
from spans.scoring import Role

TEST_ROWS_MAX = 100
DIFF_ROWS_MAX = 1000

FLIPS_SHOWN = 1000
"""All of a difference, and the newest of a shadow."""

PASS = 0.5
"""A score of at least this passes, where a flip is looked for."""

SAME = 1e-9
"""Scores that differ by no more are the same: what arithmetic alone may make of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the runs of one version cost. Tokens as the judge counted them."""

    run_ms: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    errors: int

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Cost:
        """The sums."""
        usages = [each.result.usage for each in verdicts if not isinstance(each, Errored)]
        return cls(
            run_ms=sum(each.run_ms for each in verdicts),
            calls=sum(usage.calls for usage in usages),
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            errors=sum(isinstance(each, Errored) for each in verdicts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A row of which two versions say different things: one passes it and the other does not,
    or only one of them gives a score."""

    row: RowKey
    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two versions on the same rows.

    `agreement` is the share of rows on which both say the same, 0..1, and `mean_difference`
    the mean of new minus old over what both scored; None where there is nothing to compare.
    """

    rows: int
    agreement: float | None
    mean_difference: float | None
    flips: tuple[Flip, ...]
    before: Cost
    after: Cost


def compare(
    rows: Sequence[RowKey], before: Sequence[Verdict], after: Sequence[Verdict]
) -> Difference:
    """What changes from one version to the other; verdicts in the order of `rows`."""
    triples = list(zip(rows, before, after, strict=True))
    changes = [
        new - old
        for _, one, two in triples
        for old, new in _both(values_of(one), values_of(two))
    ]
    same = sum(_is_same(one, two) for _, one, two in triples)
    return Difference(
        rows=len(rows),
        agreement=same / len(rows) if rows else None,
        mean_difference=fmean(changes) if changes else None,
        flips=tuple(
            Flip(row=row, before=one, after=two)
            for row, one, two in triples
            if passes(one) != passes(two)
        ),
        before=Cost.of(before),
        after=Cost.of(after),
    )


def values_of(verdict: Verdict) -> dict[str, float]:
    """The numbers that it gave, by name of the score."""
    return {
        score.name: score.value for score in verdict_scores(verdict) if score.value is not None
    }


def passes(verdict: Verdict) -> dict[str, bool]:
    """Which of its scores pass; empty where there are none."""
    return {name: value >= PASS for name, value in values_of(verdict).items()}


def verdict_json(verdict: Verdict) -> JsonObject:
    """What a run gave, as tests and differences show it."""
    scores = verdict_scores(verdict)
    shown: JsonObject = {
        "state": verdict.state.value,
        "scores": {score.name: score.value for score in scores},
        "metadata": {score.name: score.metadata for score in scores if score.metadata},
        "error": {
            "class": verdict.failure.error_class, "message": verdict.failure.message,
        } if isinstance(verdict, Errored) else None,
        "run_ms": round(verdict.run_ms, 3),
        "log": verdict.log,
    }
    if not isinstance(verdict, Errored) and (usage := verdict.result.usage).calls:
        shown["usage"] = {
            "calls": usage.calls, "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens, "model": usage.model,
        }
    return shown


def test_json(rows: Sequence[RowKey], verdicts: Sequence[Verdict]) -> JsonObject:
    """A test, as the API and the command give it."""
    return {
        "role": Role.PREVIEW.value,
        "rows": [
            {"id": row.id, **verdict_json(verdict)}
            for row, verdict in zip(rows, verdicts, strict=True)
        ],
    }


def difference_json(difference: Difference, url: str) -> JsonObject:
    """A difference; `url` is where the API is. At most FLIPS_SHOWN of the flips."""
    return {
        "rows": difference.rows,
        "agreement": difference.agreement,
        "mean_difference": difference.mean_difference,
        "flip_count": len(difference.flips),
        "flips": [
            {
                "id": flip.row.id,
                "from": verdict_json(flip.before),
                "to": verdict_json(flip.after),
                "link": _explanation(flip.row, url),
            }
            for flip in difference.flips[:FLIPS_SHOWN]
        ],
        "cost": {"from": _cost_json(difference.before), "to": _cost_json(difference.after)},
    }


def _explanation(row: RowKey, url: str) -> str:
    """The URL of what `explain` says of a row."""
    path = f"/v1/project_logs/{row.object.project_id}/explain"
    return f"{url.rstrip('/')}{path}?id={quote(row.id, safe='')}"


def _cost_json(cost: Cost) -> JsonObject:
    return {
        "run_ms": round(cost.run_ms, 3), "calls": cost.calls,
        "prompt_tokens": cost.prompt_tokens, "completion_tokens": cost.completion_tokens,
        "errors": cost.errors,
    }


def _both(before: dict[str, float], after: dict[str, float]) -> list[tuple[float, float]]:
    return [(before[name], after[name]) for name in before.keys() & after.keys()]


def _is_same(before: Verdict, after: Verdict) -> bool:
    if isinstance(before, Errored) != isinstance(after, Errored):
        return False
    old, new = values_of(before), values_of(after)
    return old.keys() == new.keys() and all(
        abs(first - second) <= SAME for first, second in _both(old, new)
    )
