"""Scores one record by a user's own classifier.

The request is built as autoevals' classifiers build theirs: the model must call one tool, with
its choice as an argument, after its reasons if those are wanted. An identical request may be
answered from a cache of earlier answers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Protocol

from scorers.judge.call_costs import counting_calls
from scorers.judge.classifier import Classifier
from scorers.judge.client import Judge, no_verdict
from scorers.judge.prompt import FIELDS, prompt_messages
from scorers.judge.verdicts import NoVerdict
from scorers.results import storable
from spans.errors import TransientError
from spans.json import Json, JsonObject
from spans.scoring import Score, ScoringResult, Usage

logger = logging.getLogger(__name__)

TOOL = "select_choice"
RATIONALE_CHARACTERS_MAX = 20_000
"""Most characters that are stored of a judge's reasons. A printed page has 3 000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The judge's answer: one of the classifier's choices, and its reasons if it gave any."""

    choice: str
    rationale: str | None = None


class AnswerCache(Protocol):
    """Answers to earlier requests, under a hash of the whole request."""

    async def find(self, key: bytes) -> Choice | None:
        """The stored answer; None if there is none or it has expired."""
        ...

    async def keep(self, key: bytes, chosen: Choice) -> None:
        """Store an answer."""
        ...


async def score_classified(
    judge: Judge,
    classifier: Classifier,
    record: JsonObject,
    *,
    name: str,
    version: str,
    cache: AnswerCache | None = None,
) -> ScoringResult:
    """Ask the judge once, or take the answer from the cache, and return the score.

    The score is called `name`, and its metadata is {choice, rationale}. Its value is None if
    the judge declined. `record` holds what the templates may use
    (`scorers.judge.prompt.FIELDS`, and `trace`). `version` names the function and its version;
    it is part of the cache's key.

    Raises PromptTooLong before the call, or what `Judge.complete` raises; BadResult for an
    answer that is none of the choices.
    """
    model = classifier.model or judge.model
    judge.require_key(judge.endpoints.of(model))
    messages = prompt_messages(classifier, record, version=version)
    request = _request(classifier, messages, model)
    key = _key(version, request, classifier.params) if cache else b""
    chosen = await _found(cache, key) if cache else None
    if chosen is not None:
        usage = Usage(model=model, is_cached=True)
    else:
        by_author = classifier.model is not None or bool(classifier.params)
        with counting_calls() as execution:
            try:
                answer = await judge.complete(request, classifier.params, by_author=by_author)
            except NoVerdict as error:
                raise no_verdict(f"{name} found no choice", error, judge) from error
        chosen = _choice(answer)
        usage = execution.usage()
        if cache:
            await _kept(cache, key, chosen)
    return ScoringResult(
        scores=(_score(classifier, chosen, name),),
        arguments={each: record.get(each) for each in FIELDS if each in classifier.variables},
        prompt=tuple(message for message in messages if isinstance(message, dict)),
        usage=usage,
    )


def _score(classifier: Classifier, chosen: Choice, name: str) -> Score:
    metadata: JsonObject = {"choice": chosen.choice}
    if chosen.rationale is not None:
        metadata["rationale"] = chosen.rationale
    return Score(
        name=name, value=classifier.choice_scores.get(chosen.choice), metadata=metadata
    )


def _request(classifier: Classifier, messages: list[Json], model: str) -> JsonObject:
    properties: JsonObject = {}
    if classifier.use_cot:
        # The reasons come first, so that the model has written them before it chooses.
        properties["reasons"] = {
            "type": "string",
            "description": "The reasoning that leads to the choice, step by step",
        }
    properties["choice"] = {
        "type": "string", "description": "The choice", "enum": [*classifier.choices],
    }
    parameters: JsonObject = {
        "type": "object", "properties": properties, "required": [*properties],
    }
    return {
        "model": model,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": TOOL,
                    "description": "Say which choice is right.",
                    "parameters": parameters,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": TOOL}},
        "messages": messages,   # last: the rest is the same for every record
    }


def _choice(answer: JsonObject) -> Choice:
    """The choice in a chat completion `with_verdict`."""
    match answer:
        case {"choices": [{"message": {"tool_calls": [{"function": {"arguments": given}}]}}]}:
            arguments = json.loads(str(given))
            reasons = _rationale(arguments.get("reasons"))
            return Choice(choice=arguments["choice"], rationale=reasons)
        case _:
            raise AssertionError("a completion with a verdict has one call")


def _rationale(reasons: Json) -> str | None:
    """The reasons as text. Some models write a list where the schema asks for a string."""
    if reasons is None:
        return None
    lines = reasons if isinstance(reasons, list) else [reasons]
    return storable("\n".join(map(str, lines))[:RATIONALE_CHARACTERS_MAX])


def _key(version: str, request: JsonObject, params: JsonObject) -> bytes:
    asked = json.dumps([version, request, params], sort_keys=True)
    return hashlib.sha256(asked.encode()).digest()


async def _found(cache: AnswerCache, key: bytes) -> Choice | None:
    """The cached answer. If the cache cannot be reached, the judge is asked instead."""
    try:
        return await cache.find(key)
    except TransientError as error:
        logger.warning("judge: the cache of answers cannot be read: %s", error)
        return None


async def _kept(cache: AnswerCache, key: bytes, chosen: Choice) -> None:
    try:
        await cache.keep(key, chosen)
    except TransientError as error:
        logger.warning("judge: an answer could not be stored in the cache: %s", error)
