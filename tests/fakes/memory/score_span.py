"""The score span as readers see it: the model of what the view `shown_span` makes of one."""

from __future__ import annotations

from datetime import UTC, datetime

from spans.json import Json, JsonObject
from spans.outcome import ORIGIN_ID_NAMES, Errored, OutcomeKey, Verdict, verdict_scores
from spans.row import Row, RowKey
from spans.score_span import score_span_context, score_span_id, score_span_span_id
from spans.scoring import Score
from spans.work import Assignment, Execution, OutcomeRequest


def key_of(assignment: Assignment, asked: OutcomeRequest) -> OutcomeKey:
    """The key of the outcome that answers one of the assignment's requests."""
    subject = assignment.subject
    return OutcomeKey(
        object=subject.key.object, subject_id=subject.key.id,
        subject_version=subject.content_xact, use=asked.use,
    )


def score_span(execution: Execution, asked: OutcomeRequest) -> Row:
    """The row that shows the outcome of one request; its scores are kept beside it."""
    assignment, verdict = execution.assignment, execution.verdict
    subject, key = assignment.subject, key_of(assignment, asked)
    fields: JsonObject = {
        "span_id": score_span_span_id(subject.seq, asked.use),
        "root_span_id": subject.root_span_id,
        "span_parents": [subject.span_id],
        "created": datetime.fromtimestamp(verdict.started_at, UTC).isoformat(),
        "span_attributes": {
            "name": assignment.shown_as, "type": "score", "purpose": "scorer",
        },
        "metrics": _metrics(verdict),
        "context": {
            ORIGIN_ID_NAMES[key.origin.kind]: str(key.origin.id),
            "outcome_id": str(key.id),
            "scorer": key.scorer.name,
            "scorer_version": key.scorer.version,
            **(score_span_context(verdict) or {}),
        },
        "origin": {
            "object_type": key.object.object_type.value,
            "object_id": str(key.object.object_id),
            "id": key.subject_id,
            "_xact_id": str(key.subject_version),
        },
    }
    if isinstance(verdict, Errored):
        fields["error"] = f"{verdict.failure.error_class}: {verdict.failure.message}"
    else:
        fields["input"] = verdict.result.arguments
        fields["output"], fields["metadata"] = _output(verdict.result.scores)
    row_id = str(score_span_id(subject.seq, asked.use))
    return Row(key=RowKey(key.object, row_id), fields=fields, has_base=True)


def score_span_scores(verdict: Verdict) -> JsonObject | None:
    """The scores that a score span shows, those without a value too; None for an error."""
    if isinstance(verdict, Errored):
        return None
    return {score.name: score.value for score in verdict_scores(verdict)}


def _output(scores: tuple[Score, ...]) -> tuple[Json, Json]:
    """(output, metadata) of the score, or of each score by its name if there are several."""
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
    if not isinstance(verdict, Errored) and verdict.result.usage.calls:
        usage = verdict.result.usage
        metrics["prompt_tokens"] = usage.prompt_tokens
        metrics["completion_tokens"] = usage.completion_tokens
        metrics["tokens"] = usage.prompt_tokens + usage.completion_tokens
        if usage.cached_tokens:
            metrics["prompt_cached_tokens"] = usage.cached_tokens
        if usage.cost is not None:
            metrics["estimated_cost"] = usage.cost
    return metrics
