"""Asking a classifier of the user's own about one record.

The call is the one that autoevals' classifiers make: a single forced tool whose argument is
the choice, after the reasons if those are wanted. An identical call may be answered from
what is kept of an earlier one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Protocol

from scorers.judge.call_costs import counting_calls
from scorers.judge.classifier import Classifier
from scorers.judge.client import Judge, gist
from scorers.judge.prompt import FIELDS, prompt_messages
from scorers.results import storable
from spans.errors import BadResult, TransientError
from spans.json import Json, JsonObject
from spans.scoring import Score, ScoringResult, Usage

logger = logging.getLogger(__name__)

TOOL = "select_choice"
RATIONALE_CHARACTERS_MAX = 20_000
"""Of what a judge wrote before its choice; a page is 3 000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the judge answered."""

    choice: str
    rationale: str | None = None


class AnswerCache(Protocol):
    """Answers to earlier calls, by a hash of all that was asked."""

    async def find(self, key: bytes) -> Choice | None:
        """What was answered, if it is kept and still counts."""
        ...

    async def keep(self, key: bytes, chosen: Choice) -> None:
        """Keep an answer."""
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
    """Ask once, or answer from the cache. The score is called `name`, and its metadata is
    {choice, rationale}; None if the judge declined.

    `record` holds what the templates may use (`scorers.judge.prompt.FIELDS`, and `trace`).
    `version` says which version of which function this is.
    Raises ScorerFailed for a prompt that is too
    long; RateLimited, Timeout, JudgeUnavailable, JudgeRefused; BadResult for an answer that is
    none of the choices.
    """
    judge.require_key()
    messages = prompt_messages(classifier, record, version=version)
    model = classifier.model or judge.model
    request = _request(classifier, messages, model)
    key = _key(version, request, classifier.params) if cache else b""
    chosen = await _found(cache, key) if cache else None
    if chosen is not None:
        usage = Usage(model=model, is_cached=True)
    else:
        with counting_calls() as execution:
            answer = await judge.complete(request, classifier.params)
        try:
            chosen = _read(answer, classifier)
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise BadResult(
                f"{name} found no choice in the judge's answer "
                f"({type(error).__name__}: {judge.excerpt(str(error))}): "
                f"{judge.excerpt(gist(answer))}"
            ) from error
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
        # First, so that the model has written its reasons when it comes to the choice.
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
        "messages": messages,
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
    }


def _read(answer: JsonObject, classifier: Classifier) -> Choice:
    """The choice in a chat completion. Raises LookupError, TypeError, ValueError, or
    RecursionError for arguments nested too deeply."""
    match answer:
        case {
            "choices": [
                {"message": {"tool_calls": [{"function": {"name": str(tool), **call}}, *_]}}, *_
            ]
        }:
            if tool != TOOL:
                raise ValueError(f"{tool:.99} was called, not {TOOL}")
            arguments = json.loads(str(call.get("arguments")))
        case _:
            raise ValueError("no tool was called")
    choice = arguments["choice"]
    if not isinstance(choice, str) or choice.strip() not in classifier.choices:
        raise ValueError(f"{choice!r:.99} is not one of {', '.join(classifier.choices)}")
    return Choice(choice=choice.strip(), rationale=_rationale(arguments.get("reasons")))


def _rationale(reasons: Json) -> str | None:
    """Some models write a list of reasons where a text is asked for."""
    if reasons is None:
        return None
    lines = reasons if isinstance(reasons, list) else [reasons]
    return storable("\n".join(map(str, lines))[:RATIONALE_CHARACTERS_MAX])


def _key(version: str, request: JsonObject, params: JsonObject) -> bytes:
    asked = json.dumps([version, request, params], sort_keys=True)
    return hashlib.sha256(asked.encode()).digest()


async def _found(cache: AnswerCache, key: bytes) -> Choice | None:
    """A cache that is away costs a call, never an outcome."""
    try:
        return await cache.find(key)
    except TransientError as error:
        logger.warning("judge: the cache of answers is away: %s", error)
        return None


async def _kept(cache: AnswerCache, key: bytes, chosen: Choice) -> None:
    try:
        await cache.keep(key, chosen)
    except TransientError as error:
        logger.warning("judge: an answer could not be kept for the next time: %s", error)
