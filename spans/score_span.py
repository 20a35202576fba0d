"""The score span, which a scorer's run leaves in the trace as a child of the scored span.

Little of it is stored, since its outcome and the scored row hold the rest: when it is read, it
is shown with the scorer's arguments as `input`, its scores as `output`, and what made it as
`context`. The view `shown_span` of the database puts it together.
"""

from __future__ import annotations

from spans.columns import SCORER_ARGUMENTS
from spans.ids import RowSeq
from spans.json import Json, JsonObject
from spans.outcome import Errored, ScorerUse, Verdict
from spans.work import Subject

PROMPT_CHARACTERS_MAX = 20_000
"""Kept of a judge's prompt, with all its messages. The scored span has the whole content."""

ARGUMENT_SEPARATOR = ","


def score_span_id(subject_seq: RowSeq, use: ScorerUse) -> str:
    """The row id of a score span, a UUID. It holds no version: a new outcome replaces the span.

    It begins with the scored row's place in the order of arrival, so that the ids of score
    spans grow as rows come, and a database's index of ids is extended at one end.
    """
    place, slot = f"{subject_seq:016x}", use.slot
    return f"{place[:8]}-{place[8:12]}-{place[12:]}-{slot[:4]}-{slot[4:]}"


def score_span_span_id(subject_seq: RowSeq, use: ScorerUse) -> str:
    """The span id of a score span: 16 hex digits, as clients make them."""
    return f"{subject_seq & 0xFFFF_FFFF:08x}{use.slot[:8]}"


def argument_names(subject: Subject, arguments: JsonObject) -> str | None:
    """The names of a scorer's arguments, in their order, with commas between them.

    None if the arguments cannot be taken from the row again by these names. They are then to be
    stored as they are.
    """
    for name, value in arguments.items():
        if _of_row(subject, name) is not value or ARGUMENT_SEPARATOR in name:
            return None
    return ARGUMENT_SEPARATOR.join(arguments) or None


def score_span_context(verdict: Verdict) -> JsonObject | None:
    """What the outcome does not hold: the prompt that a judge was sent.

    In a long prompt, each message that has more than its share is shortened in its middle.
    """
    if isinstance(verdict, Errored) or not verdict.result.prompt:
        return None
    prompt = verdict.result.prompt
    if sum(len(str(message["content"])) for message in prompt) <= PROMPT_CHARACTERS_MAX:
        return {"prompt": [*prompt]}
    share = PROMPT_CHARACTERS_MAX // len(prompt)
    return {"prompt": [_shortened(message, share) for message in prompt]}


def _of_row(subject: Subject, name: str) -> Json:
    if name in SCORER_ARGUMENTS:
        return subject.view.get(name)
    if name == "id":
        return subject.key.id
    metadata = subject.view.get("metadata")
    return metadata.get(name) if isinstance(metadata, dict) else None


def _shortened(message: JsonObject, characters_max: int) -> JsonObject:
    content = str(message["content"])
    if len(content) > characters_max:
        half = characters_max // 2
        left_out = len(content) - 2 * half
        content = f"{content[:half]}\n[{left_out} characters left out]\n{content[-half:]}"
    return {**message, "content": content}
