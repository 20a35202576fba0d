"""The span that a scorer's run leaves in the trace, beneath the span that it scored."""

from __future__ import annotations

from datetime import UTC, datetime

from flows.work import Asked, Execution
from spans.json import Json, JsonObject
from spans.outcome import Verdict
from spans.row import Row, RowKey
from spans.scoring import Score

SPAN_ID_DIGITS = 16
"""Hex digits of a span id, as clients make them."""


def score_span(execution: Execution, asked: Asked) -> Row:
    """The row of one outcome's score span.

    Its id is derived from the subject, the rule and the scorer without their versions: a
    later outcome replaces it. `input` holds the scorer's arguments, `output` what it gave,
    `metadata` its own; `context` says which rule and which outcome. An errored outcome has
    its message in `error`.
    """
    subject, verdict, key = execution.assignment.subject, execution.verdict, asked.key
    outcome_id = key.score_span_id
    fields: JsonObject = {
        "span_id": outcome_id.hex[:SPAN_ID_DIGITS],
        "root_span_id": subject.root_span_id,
        "span_parents": [subject.span_id],
        "created": datetime.fromtimestamp(verdict.started_at, UTC).isoformat(),
        "span_attributes": {
            "name": execution.assignment.shown_as, "type": "score", "purpose": "scorer",
        },
        "metrics": _metrics(verdict),
        "context": {
            "rule_id": str(key.origin_id),
            "outcome_id": str(key.id),
            "scorer": key.scorer.name,
            "scorer_version": key.scorer.version,
        },
        "origin": {
            "object_type": key.object.object_type.value,
            "object_id": str(key.object.object_id),
            "id": key.subject_id,
            "_xact_id": str(key.subject_version),
        },
    }
    if verdict.result is not None:
        fields["input"] = verdict.result.arguments
        scores = verdict.result.scores
        fields["scores"] = {score.name: score.value for score in scores}
        fields["output"], fields["metadata"] = _output(scores)
    elif verdict.failure is not None:
        fields["error"] = f"{verdict.failure.error_class}: {verdict.failure.message}"
    return Row(
        key=RowKey(subject.key.object, str(outcome_id)), fields=fields, has_base=True
    )


def _output(scores: tuple[Score, ...]) -> tuple[Json, Json]:
    """(output, metadata): of the one score, or keyed by name where there are several."""
    if len(scores) == 1:
        return {"score": scores[0].value}, scores[0].metadata or None
    return (
        {score.name: {"score": score.value} for score in scores},
        {score.name: score.metadata for score in scores if score.metadata} or None,
    )


def _metrics(verdict: Verdict) -> JsonObject:
    metrics: JsonObject = {
        "start": verdict.started_at,
        "end": verdict.started_at + verdict.run_ms / 1000,
    }
    if verdict.result is not None and verdict.result.usage.calls:
        usage = verdict.result.usage
        metrics["prompt_tokens"] = usage.prompt_tokens
        metrics["completion_tokens"] = usage.completion_tokens
        metrics["tokens"] = usage.prompt_tokens + usage.completion_tokens
    return metrics
