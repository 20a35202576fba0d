"""Reads a user's own LLM judge: a prompt, and the score of each choice of its answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from scorers.judge.mustache import Template, Words, names, parse
from spans.errors import BadInput
from spans.json import Json, JsonObject
from spans.scoring import within_0_and_1

MESSAGES_MAX = 50
CHOICES_MAX = 100
CHOICE_CHARACTERS_MAX = 200
PARAMS_CHARACTERS_MAX = 4096

SKIP = "Skip"
"""The choice by which a judge declines, if the classifier allows that."""

ROLES = frozenset({"system", "developer", "user", "assistant"})

THREAD_VARIABLES = frozenset({
    "thread", "thread_with_system", "thread_count", "first_message", "last_message",
    "user_messages", "assistant_messages", "human_ai_pairs",
})

# Parameters that an author may not set: our own part of the request sets them, or they would
# change the form of the answer.
_OURS = frozenset({
    "model", "messages", "input", "instructions", "tools", "tool_choice", "functions",
    "function_call", "parallel_tool_calls", "response_format", "text", "stream",
    "stream_options", "n", "stop", "logprobs", "store", "background", "previous_response_id",
    "conversation", "prompt",
})
_IGNORED = frozenset({"use_cache"})
"""Parameters of Braintrust's proxy before a model. No model's endpoint knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A checked `prompt` function with an `llm_classifier` parser.

    `messages` are (role, text) pairs. Each text is a mustache template; without `is_template`
    it is sent unchanged. `choice_scores` maps each choice to its score, 0..1. With `use_cot`
    the judge writes its reasons before it chooses. With `allow_skip` the judge may decline,
    and then there is no score. A `model` of None means the judge's default. `params`
    (temperature, max_tokens, ...) go into the request unchanged.
    """

    messages: tuple[tuple[str, str], ...]
    choice_scores: dict[str, float]
    is_template: bool = True
    use_cot: bool = False
    allow_skip: bool = False
    model: str | None = None
    params: JsonObject = field(default_factory=dict)

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices that the judge may answer with."""
        return (*self.choice_scores, SKIP) if self.allow_skip else (*self.choice_scores,)

    @property
    def templates(self) -> tuple[Template, ...]:
        """The parsed template of each message."""
        if self.is_template:
            return tuple(parse(text) for _, text in self.messages)
        return tuple((Words(text),) for _, text in self.messages)

    @property
    def variables(self) -> frozenset[str]:
        """The names that the templates use."""
        return frozenset().union(*map(names, self.templates))

    @property
    def needs_thread(self) -> bool:
        """Whether the templates use the trace's conversation, which then has to be read."""
        return not self.variables.isdisjoint(THREAD_VARIABLES)


def read_classifier(prompt_data: JsonObject, *, where: str = "prompt_data") -> Classifier:
    """The classifier that a function's `prompt_data` describes.

    Raises BadInput if something is missing, wrong or not supported. The error's path names the
    field, below `where`.
    """
    _refuse_what_is_not_done(prompt_data, where)
    parser = _object(prompt_data.get("parser"), f"{where}.parser")
    options = _object(prompt_data.get("options") or {}, f"{where}.options")
    allow_skip = _flag(parser, "allow_skip", f"{where}.parser")
    model = options.get("model") or None
    if not isinstance(model, str | None):
        raise BadInput("must be a string", path=f"{where}.options.model")
    template_format = prompt_data.get("template_format") or "mustache"
    if template_format not in {"mustache", "none"}:
        raise BadInput(
            f"{template_format!s:.99} templates are not rendered here: use mustache or none",
            path=f"{where}.template_format",
        )
    is_template = template_format == "mustache"
    prompt = prompt_data.get("prompt")
    return Classifier(
        messages=_messages(prompt, f"{where}.prompt", is_template=is_template),
        is_template=is_template,
        choice_scores=_choice_scores(parser, f"{where}.parser", allow_skip=allow_skip),
        use_cot=_flag(parser, "use_cot", f"{where}.parser"),
        allow_skip=allow_skip,
        model=model,
        params=_params(options.get("params") or {}, f"{where}.options.params"),
    )


def _refuse_what_is_not_done(prompt_data: JsonObject, where: str) -> None:
    """Raise BadInput for features of Braintrust's prompts that a judge here lacks."""
    parser = prompt_data.get("parser")
    if isinstance(parser, dict):
        if parser.get("type") != "llm_classifier":
            raise BadInput("must be llm_classifier", path=f"{where}.parser.type")
        if parser.get("choice") is not None or parser.get("allow_no_match"):
            raise BadInput(
                "a classifier that only gives labels is not a scorer: give each choice a "
                "number in choice_scores",
                path=f"{where}.parser",
            )
    prompt = prompt_data.get("prompt")
    tools = prompt.get("tools") if isinstance(prompt, dict) else None
    for name, value in (
        ("prompt.tools", tools), ("tool_functions", prompt_data.get("tool_functions")),
        ("mcp", prompt_data.get("mcp")),
    ):
        if value not in (None, "", "[]", [], {}):
            raise BadInput("a judge calls no tools: remove it", path=f"{where}.{name}")
    if prompt_data.get("preprocessor") is not None:
        raise BadInput(
            "preprocessors are not run here: remove it", path=f"{where}.preprocessor"
        )


def _messages(
    given: Json, where: str, *, is_template: bool
) -> tuple[tuple[str, str], ...]:
    match _object(given, where):
        case {"type": "completion", **rest}:
            place = f"{where}.content"
            return (("user", _template(rest.get("content"), place, is_template=is_template)),)
        case {"type": "chat", **rest}:
            place = f"{where}.messages"
            messages = rest.get("messages")
            if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
                raise BadInput(f"must be a list of 1 to {MESSAGES_MAX} messages", path=place)
            return tuple(
                _message(message, f"{place}[{index}]", is_template=is_template)
                for index, message in enumerate(messages)
            )
        case _:
            raise BadInput("must be chat or completion", path=f"{where}.type")


def _message(given: Json, where: str, *, is_template: bool) -> tuple[str, str]:
    message = _object(given, where)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadInput(f"must be one of {', '.join(sorted(ROLES))}", path=f"{where}.role")
    place = f"{where}.content"
    return role, _template(message.get("content"), place, is_template=is_template)


def _template(content: Json, where: str, *, is_template: bool) -> str:
    """The text of a message. Raises BadInput if it should be a template and is not valid."""
    text = _text(content, where)
    if is_template:
        parse(text, where=where)
    return text


def _text(content: Json, where: str) -> str:
    """The text of a message's content, which is a string or a list of text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadInput("must be a string or a list of text parts", path=where)
    texts: list[str] = []
    for index, part in enumerate(content):
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case _:
                raise BadInput("a judge reads text parts only", path=f"{where}[{index}]")
    return "\n".join(texts)


def _choice_scores(parser: JsonObject, where: str, *, allow_skip: bool) -> dict[str, float]:
    path = f"{where}.choice_scores"
    given = _object(parser.get("choice_scores"), path)
    if not 1 <= len(given) <= CHOICES_MAX:
        raise BadInput(f"must have 1 to {CHOICES_MAX} choices", path=path)
    scores: dict[str, float] = {}
    for choice, score in given.items():
        if choice != choice.strip() or not 1 <= len(choice) <= CHOICE_CHARACTERS_MAX:
            raise BadInput(
                f"{choice!r:.99}: a choice must have 1 to {CHOICE_CHARACTERS_MAX} characters "
                "and no blanks around them",
                path=path,
            )
        if allow_skip and choice == SKIP:
            raise BadInput(f"allow_skip adds the choice {SKIP!r} itself", path=path)
        number = None
        if isinstance(score, int | float) and not isinstance(score, bool):
            number = within_0_and_1(score)
        if number is None:
            raise BadInput("must be a number from 0 to 1", path=f"{path}.{choice}")
        scores[choice] = float(number)
    return scores


def _params(given: Json, where: str) -> JsonObject:
    params: JsonObject = {
        name: value
        for name, value in _object(given, where).items()
        if value is not None and name not in _IGNORED
    }
    if ours := sorted(_OURS.intersection(params)):
        raise BadInput(
            "Tallyard sets this parameter itself: remove it", path=f"{where}.{ours[0]}"
        )
    if len(json.dumps(params)) > PARAMS_CHARACTERS_MAX:
        raise BadInput(
            f"must be at most {PARAMS_CHARACTERS_MAX} characters of JSON", path=where
        )
    return params


def _flag(parser: JsonObject, name: str, where: str) -> bool:
    value = parser.get(name)
    if not isinstance(value, bool | None):
        raise BadInput("must be true or false", path=f"{where}.{name}")
    return bool(value)


def _object(value: Json, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise BadInput("must be an object", path=where)
    return value
