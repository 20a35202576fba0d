"""Reads a judge's verdict out of its answer, or says why there is none. Pure.

Models and servers write what is meant plainly in many ways: the arguments of the call as an
object instead of text, 2 for "2", the call's JSON in the message's text. All that has only one
meaning is read. Nothing is guessed: two choices, or one that prose merely mentions, are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from spans.json import Json, JsonObject

WORDS_SHOWN = 200
"""Characters of a judge's own words that an error message quotes."""

_ROUND = " \t\r\n\"'`\u201c\u201d\u2018\u2019()[]*.:"
"""Signs around a choice that are no part of it."""

_CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
_FILTERED = frozenset({"content_filter", "safety", "SAFETY"})
"""Reasons for which an answer ends early, as servers write `finish_reason`."""

_FENCE = re.compile(r"```\w*\s*\n(.*?)\n?\s*```", re.DOTALL)
_THOUGHTS = re.compile(r"\s*(?:<think>|(?![\s{\[`<])).*?</think>\s*", re.DOTALL)
"""Before the answer. Templates of some models write the opening tag into the prompt."""
_CALL_TAGS = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_REASONS = "reasons"


ASK_FOR_ONE = (
    "choose a model that calls tools; a prompt of your own must ask for exactly one choice"
)
"""What to do about most answers without a verdict."""


class NoVerdict(Exception):
    """The answer holds no verdict, for the reason in the message. `step` is what to do then."""

    def __init__(self, reason: str, *, step: str = ASK_FOR_ONE) -> None:
        super().__init__(reason)
        self.step = step


class Filtered(NoVerdict):
    """A content filter ended the answer."""


def with_verdict(answer: JsonObject, tool: JsonObject) -> JsonObject:
    """The chat completion with exactly one call of the tool, its arguments as JSON text.

    `tool` is the function that the request offered, with its name and parameters. An argument
    that the tool limits to choices is one of them, letter for letter. Raises NoVerdict.
    """
    message = _message(answer)
    name = str(tool["name"])
    try:
        found = [
            _chosen(arguments, tool)
            for call in _calls(message, name) for arguments in _arguments(call)
        ]
        if not found and (written := _written(message, tool)) is not None:
            found = [_chosen(written, tool)]
    except NoVerdict:
        if _finish(answer) in _CUT | _FILTERED:   # that explains more
            raise _why_none(answer, message) from None
        raise
    if not found:
        raise _why_none(answer, message)
    first = found[0]
    if any(_without_reasons(each) != _without_reasons(first) for each in found):
        raise NoVerdict(f"{name} was called more than once, and the answers differ")
    function: JsonObject = {"name": name, "arguments": json.dumps(first)}
    only: JsonObject = {"role": "assistant", "content": None,
                        "tool_calls": [{"type": "function", "function": function}]}
    return {**answer, "choices": [{"message": only}]}


def chat_completion(answer: JsonObject) -> JsonObject:
    """A chat completion that says the same as an answer of /responses."""
    output = answer.get("output")
    calls: list[Json] = []
    texts: list[str] = []
    message: JsonObject = {"role": "assistant"}
    for item in output if isinstance(output, list) else ():
        match item:
            case {"type": "function_call", "name": name, "arguments": arguments}:
                calls.append({"function": {"name": name, "arguments": arguments}})
            case {"type": "message", "content": [*parts]}:
                for part in parts:
                    match part:
                        case {"type": "refusal", "refusal": refusal}:
                            message["refusal"] = refusal
                        case {"text": str(text)}:
                            texts.append(text)
    message["content"] = "".join(texts) or None
    if calls:
        message["tool_calls"] = calls
    choice: JsonObject = {"message": message, "finish_reason": _finish_reason(answer)}
    return {"choices": [choice], "usage": answer.get("usage")}


def _finish_reason(answer: JsonObject) -> Json:
    match answer.get("incomplete_details"):
        case {"reason": "max_output_tokens"}:
            return "length"
        case {"reason": str(reason)}:
            return reason
        case _:
            return answer.get("status")


def _message(answer: JsonObject) -> JsonObject:
    match answer.get("choices"):
        case [{"message": dict() as message}, *_]:
            return message
        case _:
            raise NoVerdict(
                "the answer has no message",
                step="check that the judge's URL is that of an API compatible with OpenAI's",
            )


def _finish(answer: JsonObject) -> str:
    match answer.get("choices"):
        case [{"finish_reason": str(finish)}, *_]:
            return finish
        case _:
            return ""


def _why_none(answer: JsonObject, message: JsonObject) -> NoVerdict:
    """Why an answer without a verdict has none."""
    finish = _finish(answer)
    if finish in _FILTERED:
        return Filtered(
            f"a content filter ended the answer (finish_reason: {finish})",
            step="change the provider's filter, or leave such spans out by the rule's filter",
        )
    if finish in _CUT:
        used = _reasoning_tokens(answer)
        on = f", of which reasoning took {used}" if used else ""
        return NoVerdict(
            f"the answer ended at its token limit{on} (finish_reason: {finish})",
            step="raise max_tokens, or lower reasoning_effort, in the scorer's params",
        )
    if refusal := message.get("refusal"):
        return NoVerdict(
            f"the model refused: {_quoted(refusal)}",
            step="choose another model, or leave such spans out by the rule's filter",
        )
    ended = f" (finish_reason: {finish})" if finish else ""
    if words := _text(message):
        return NoVerdict(f"no tool was called{ended}; the model wrote: {_quoted(words)}")
    if message.get("reasoning") or message.get("reasoning_content"):
        return NoVerdict(f"no tool was called{ended}: the model only reasoned, and then ended")
    return NoVerdict(f"no tool was called, and the answer is empty{ended}")


def _reasoning_tokens(answer: JsonObject) -> int:
    usage = answer.get("usage")
    for name in ("completion_tokens_details", "output_tokens_details"):
        details = usage.get(name) if isinstance(usage, dict) else None
        tokens = details.get("reasoning_tokens") if isinstance(details, dict) else None
        if isinstance(tokens, int) and not isinstance(tokens, bool):
            return tokens
    return 0


def _quoted(value: Json) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= WORDS_SHOWN else f"{text[:WORDS_SHOWN]}...")


def _calls(message: JsonObject, name: str) -> Iterator[JsonObject]:
    """The calls of the tool. Raises NoVerdict if another tool is called."""
    given = message.get("tool_calls")
    calls = [
        call["function"] for call in (given if isinstance(given, list) else ())
        if isinstance(call, dict) and "function" in call
    ]
    if not calls and message.get("function_call"):   # the form before tools
        calls = [message["function_call"]]
    for call in calls:
        if not isinstance(call, dict):
            raise NoVerdict("a tool call that is no object")
        called = str(call.get("name")).strip()
        # Some servers put a namespace before the name and a number behind it.
        if not re.fullmatch(rf"(?:[\w-]+[.:/])?{re.escape(name)}(?::\d+)?", called):
            raise NoVerdict(f"{called:.99} was called, not {name}")
        yield call


def _arguments(call: JsonObject) -> Iterator[JsonObject]:
    """The arguments of a call. Text may hold them more than once, and other text after them."""
    given = call.get("arguments")
    if isinstance(given, dict):
        yield given
        return
    if not isinstance(given, str):
        raise NoVerdict("the tool call has no arguments")
    values = [*_leading_json(given)]
    if not values:
        raise NoVerdict(f"the arguments of the tool call are no JSON: {_quoted(given)}")
    for value in values:
        # Some servers encode the arguments twice.
        decoded = next(_leading_json(value), None) if isinstance(value, str) else value
        if not isinstance(decoded, dict):
            raise NoVerdict("the arguments of the tool call are no object")
        yield decoded


def _leading_json(text: str) -> Iterator[Json]:
    """The JSON values with which the text begins."""
    position = 0
    while position < len(text):
        if text[position] in " \t\r\n":
            position += 1
            continue
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return
        yield value


def _written(message: JsonObject, tool: JsonObject) -> JsonObject | None:
    """The arguments that the message's text consists of; None if it is anything else."""
    text = _text(message)
    if thoughts := _THOUGHTS.match(text):
        text = text[thoughts.end():]
    text = text.strip()
    for form in (_FENCE, _CALL_TAGS):
        if inner := form.fullmatch(text):
            text = inner[1].strip()
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    match value:
        case {"name": called, "arguments": inner} | {"name": called, "parameters": inner}:
            if called != tool["name"]:
                return None
            value = next(_leading_json(inner), None) if isinstance(inner, str) else inner
    is_whole = isinstance(value, dict) and _required(tool) <= {_plain(key) for key in value}
    return value if is_whole else None


def _text(message: JsonObject) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _required(tool: JsonObject) -> set[str]:
    parameters = tool.get("parameters")
    required = parameters.get("required") if isinstance(parameters, dict) else None
    names = required if isinstance(required, list) else []
    return {str(name) for name in names if name != _REASONS}


def _without_reasons(arguments: JsonObject) -> JsonObject:
    return {name: value for name, value in arguments.items() if name != _REASONS}


def _chosen(arguments: JsonObject, tool: JsonObject) -> JsonObject:
    """The arguments with their names as the tool has them, and its choices letter for letter.

    Raises NoVerdict for a choice that is missing, or is none of the tool's.
    """
    parameters = tool.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    known = properties if isinstance(properties, dict) else {}
    names = {_plain(name): name for name in known}
    chosen: JsonObject = {}
    for name, value in arguments.items():
        meant = name if name in known else names.get(_plain(name), name)
        if meant in chosen and chosen[meant] != value:
            raise NoVerdict(f"the tool was called with two values of {meant:.99}")
        chosen[meant] = value
    for name, schema in known.items():
        choices = schema.get("enum") if isinstance(schema, dict) else None
        if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
            continue
        if name not in chosen:
            raise NoVerdict(f"the tool was called without {name}")
        chosen[name] = choice_of(chosen[name], [str(each) for each in choices])
    return chosen


def choice_of(value: Json, choices: Sequence[str]) -> str:
    """The choice that the value can only mean. Raises NoVerdict if it is none, or several."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    match value:
        case str():
            texts = {value, value.strip()}
        case bool():
            texts = {str(value).lower()}
        case int() | float():
            texts = {str(value), f"{value:g}"}
        case _:
            texts = set()
    meant = {_plain(text) for text in texts} - {""}
    found = [choice for choice in choices if choice in texts] or [
        choice for choice in choices if _plain(choice) in meant
    ]
    if len(found) != 1:
        raise NoVerdict(f"{value!r:.99} is not one of {', '.join(choices)}")
    return found[0]


def _plain(text: str) -> str:
    return text.strip(_ROUND).casefold()


def _unambiguous(pairs: list[tuple[str, Json]]) -> JsonObject:
    """The object of the pairs. Raises ValueError if a name has two different values."""
    made: JsonObject = {}
    for name, value in pairs:
        if name in made and made[name] != value:
            raise ValueError(f"{name!r:.99} has two values")
        made[name] = value
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_unambiguous)
