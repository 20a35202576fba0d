"""An LLM judge of the user's own: a prompt, and what each choice of its answer is worth."""

from __future__ import annotations

from dataclasses import dataclass, field

from spans.json import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A `prompt` with an `llm_classifier` parser, read and checked.

    `messages` are (role, mustache template). `choice_scores` maps each choice to 0..1.
    With `allow_skip` the judge may decline, which gives no score. `model` None: the judge's
    own. `params` go into the request as they are (temperature, max_tokens, ...).
    """

    messages: tuple[tuple[str, str], ...]
    choice_scores: dict[str, float]
    use_cot: bool = False
    allow_skip: bool = False
    model: str | None = None
    params: JsonObject = field(default_factory=dict)
