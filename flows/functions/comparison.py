"""Compares the verdicts of two versions of a scorer, and renders tests and comparisons.

Nothing is stored.
"""

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
"""Flips in an answer: all of a difference's, since it has at most DIFF_ROWS_MAX rows, and the
newest of a shadow's."""

PASS = 0.5
"""The least score that passes, where flips are looked for."""

SAME = 1e-9
"""Scores that differ by at most this are equal: rounding may cause so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The total cost of runs of one version. Tokens are counted by the judge."""

    run_ms: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    errors: int

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Cost:
        """The total cost of these runs."""
        usages = [
            verdict.result.usage for verdict in verdicts if not isinstance(verdict, Errored)
        ]
        return cls(
            run_ms=sum(verdict.run_ms for verdict in verdicts),
            calls=sum(usage.calls for usage in usages),
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            errors=sum(isinstance(verdict, Errored) for verdict in verdicts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A row on which two versions disagree: one passes it and the other does not, or only one
    of them gives a score."""

    row: RowKey
    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two versions on the same rows.

    `agreement` is the share of rows with equal scores, 0..1. `mean_difference` is the mean of
    new minus old over the scores that both versions gave. Each is None if there are none.
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
    """How the verdicts of two versions differ. Both lists are in the order of `rows`."""
    triples = list(zip(rows, before, after, strict=True))
    changes = [
        new_value - old_value
        for _, old, new in triples
        for old_value, new_value in _both(values_of(old), values_of(new))
    ]
    same = sum(_is_same(old, new) for _, old, new in triples)
    return Difference(
        rows=len(rows),
        agreement=same / len(rows) if rows else None,
        mean_difference=fmean(changes) if changes else None,
        flips=tuple(
            Flip(row=row, before=old, after=new)
            for row, old, new in triples
            if passes(old) != passes(new)
        ),
        before=Cost.of(before),
        after=Cost.of(after),
    )


def values_of(verdict: Verdict) -> dict[str, float]:
    """The verdict's scores by name, without those that have no value."""
    return {
        score.name: score.value for score in verdict_scores(verdict) if score.value is not None
    }


def passes(verdict: Verdict) -> dict[str, bool]:
    """Whether each score of the verdict passes, by name."""
    return {name: value >= PASS - SAME for name, value in values_of(verdict).items()}


def verdict_json(verdict: Verdict) -> JsonObject:
    """A verdict as JSON, as tests and differences contain it."""
    scores = verdict_scores(verdict)
    content: JsonObject = {
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
        content["usage"] = {
            "calls": usage.calls, "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens, "model": usage.model,
        }
    return content


def test_json(rows: Sequence[RowKey], verdicts: Sequence[Verdict]) -> JsonObject:
    """A test as JSON, for the API and the command."""
    return {
        "role": Role.PREVIEW.value,
        "rows": [
            {"id": row.id, **verdict_json(verdict)}
            for row, verdict in zip(rows, verdicts, strict=True)
        ],
    }


def difference_json(difference: Difference, url: str) -> JsonObject:
    """A difference as JSON, with at most FLIPS_SHOWN flips. `url` is the API's base URL."""
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
    """The URL that explains the row's scores."""
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
