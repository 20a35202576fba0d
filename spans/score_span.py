"""The score span, which a scorer's run leaves in the trace as a child of the scored span."""

from __future__ import annotations

from datetime import UTC, datetime

from spans.json import Json, JsonObject
from spans.outcome import ORIGIN_ID_NAMES, Errored, OutcomeKey, Verdict
from spans.row import Row, RowKey
from spans.scoring import Score
from spans.work import Execution, OutcomeRequest

SPAN_ID_DIGITS = 16
"""Hex digits of a span id, as clients make them."""

MESSAGE_CHARACTERS_MAX = 20_000
"""Kept of each message of a judge's prompt. The scored span has the whole content anyway."""


def score_span(execution: Execution, asked: OutcomeRequest) -> Row:
    """The row of one outcome's score span.

    Its id is derived from the subject, the origin and the scorer without their versions, so
    that a later outcome replaces it. `input` holds the scorer's arguments, `output` its scores,
    `metadata` its metadata; `context` names the origin and the outcome, and holds the prompt
    that a judge was sent. An errored outcome has its message in `error`.
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
        "context": _context(key, verdict),
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
        scores = verdict.result.scores
        fields["scores"] = {score.name: score.value for score in scores}
        fields["output"], fields["metadata"] = _output(scores)
    return Row(
        key=RowKey(subject.key.object, str(outcome_id)), fields=fields, has_base=True
    )


def _context(key: OutcomeKey, verdict: Verdict) -> JsonObject:
    context: JsonObject = {
        ORIGIN_ID_NAMES[key.origin.kind]: str(key.origin.id),
        "outcome_id": str(key.id),
        "scorer": key.scorer.name,
        "scorer_version": key.scorer.version,
    }
    if not isinstance(verdict, Errored) and verdict.result.prompt:
        context["prompt"] = [_shortened(message) for message in verdict.result.prompt]
    return context


def _shortened(message: JsonObject) -> JsonObject:
    """A message of a prompt. If it is long, its middle is left out."""
    content = str(message["content"])
    if len(content) > MESSAGE_CHARACTERS_MAX:
        half = MESSAGE_CHARACTERS_MAX // 2
        left_out = len(content) - 2 * half
        content = f"{content[:half]}\n[{left_out} characters left out]\n{content[-half:]}"
    return {**message, "content": content}


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
    return metrics
