"""Runs autoevals' judged scorers: its prompts and arithmetic, over our own HTTP calls.

autoevals gets a client of ours, so that it never makes one of its own. Its own client would
read OPENAI_* and BRAINTRUST_* variables, send traces to another host, and sleep through up to
100 retries when the rate is limited. Importing this module imports neither autoevals nor
aiohttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scorers.arguments import ScoringFields, arguments, as_text
from scorers.catalog import ScorerSpec
from scorers.judge.call_costs import counting_calls, current
from scorers.judge.endpoints import Endpoint, Endpoints
from scorers.judge.parameters import Dialect
from scorers.judge.problems import HIDDEN, Cause, Problem, excerpt
from scorers.judge.prompt import PROMPT_CHARACTERS_MAX, prompt_too_long
from scorers.judge.purse import LIMITS, paying, receipt_of_lost_calls, reserved
from scorers.judge.verdicts import Filtered, NoVerdict, chat_completion, with_verdict
from scorers.results import AutoevalsScore, failure, result
from scorers.unfit import unread
from spans.clock import Clock, system_clock
from spans.errors import BadResult, ContentRefused, JudgeRefused, ScorerFailed
from spans.json import Json, JsonObject
from spans.scoring import ScoringResult

if TYPE_CHECKING:
    from scorers.judge.http import JudgeEndpoint

AsyncEval = Callable[..., Awaitable[AutoevalsScore]]
"""The method `eval_async` of one of autoevals' scorers, which ships no types."""

SCORERS_KEPT = 256
CALLS_MAX = 256
"""Most calls of one run. ContextEntityRecall makes one call for each entity that it finds."""

OPENAI_HOST = "api.openai.com"

CHAT, RESPONSES = "/chat/completions", "/responses"
_MODERATION = "Moderation"
_EMBEDDING_SCORERS = frozenset({"AnswerSimilarity", "EmbeddingSimilarity"})
"""Scorers that ask for embeddings alone."""

# "auto" asks these over /responses first, as autoevals does, and all others over
# /chat/completions.
_RESPONSES_PREFIX = "gpt-5"
_REQUEST = ("model", "tools", "tool_choice", "messages")
"""The parts of a request that are not parameters; what changes from call to call is last."""

_RESPONSES_WORDS = {
    "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
}

# The errors that autoevals raises for an answer that it cannot read. For example, an unknown
# choice is a KeyError, a missing tool call a ValueError, and no statements at all a
# ZeroDivisionError.
_READING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Judge:
    """Calls the models that judge, for autoevals' scorers and for users' classifiers.

    Make one for each process and event loop. It reads nothing from the environment. A model is
    asked at the endpoint that `endpoints` has for it. `model` is asked by scorers that name
    none. Some scorers make several calls; one that waits for its turn waits within its
    deadline. Raises SetupError for a URL or key that cannot be used.
    """

    def __init__(
        self, endpoints: Endpoints, *, model: str, embedding_model: str,
        clock: Clock = system_clock,
    ) -> None:
        self.model = model
        self.endpoints = endpoints
        self._embedding_model = embedding_model
        make: type[JudgeEndpoint] = import_module("scorers.judge.http").JudgeEndpoint
        self._at = {each.name: make(each, clock=clock) for each in endpoints}
        self.evaluator = lru_cache(maxsize=SCORERS_KEPT)(self._evaluator)

    async def close(self) -> None:
        """Close the connections to all endpoints."""
        for endpoint in self._at.values():
            await endpoint.close()

    def endpoint_of(self, spec: ScorerSpec) -> Endpoint:
        """The endpoint that autoevals' scorer asks first."""
        if spec.name == _MODERATION:
            return self.endpoints.default
        is_embedded = spec.name in _EMBEDDING_SCORERS
        return self.endpoints.of(self._embedding_model if is_embedded else self.model)

    def require_key(self, endpoint: Endpoint) -> None:
        """Raise JudgeRefused if the endpoint is OpenAI's and there is no key."""
        host = urlsplit(endpoint.base_url).hostname
        if endpoint.api_key is None and host == OPENAI_HOST:
            raise JudgeRefused(
                f"no judge is set up: set {endpoint.setting('key')}, or "
                f"{endpoint.setting('url')} for an endpoint that needs no key"
            )

    def excerpt(self, value: Json) -> str:
        """The start of `value` as text, for a message. All API keys are taken out of it."""
        text = as_text(value)
        for endpoint in self.endpoints:
            if endpoint.api_key:
                text = text.replace(endpoint.api_key, HIDDEN)
        return excerpt(text)

    def _evaluator(self, name: str, model: str, threshold: float | None) -> AsyncEval:
        """The method that runs autoevals' scorer, with this judge as its client.

        `self.evaluator` caches it, because reading its template takes 0.5 ms.
        """
        options: dict[str, Any] = {"client": self._client()}
        if name == _MODERATION:
            options["threshold"] = threshold
        else:
            options["model"] = model
        scorer = getattr(import_module("autoevals"), name)(**options)
        if name == "ContextEntityRecall":
            pairwise = scorer.contains_scorer.pairwise_scorer
            lists = import_module("scorers.heuristics.list_contains")
            scorer.contains_scorer = lists.ListContains(
                pairwise_scorer=pairwise, allow_extra_entities=True
            )
        evaluate: AsyncEval = scorer.eval_async
        return evaluate

    def _client(self) -> object:
        """A client of autoevals' own class that calls this judge.

        It is made without the constructor, which would do all that the module's docstring
        lists.
        """
        library = import_module("autoevals.oai")
        # autoevals caches embeddings by text in a class attribute that grows without bound.
        # Each run has a cache of its own here instead (`CallCosts.embeddings`).
        import_module("autoevals.string").EmbeddingSimilarity._CACHE = _EmptyCache()  # noqa: SLF001
        client = object.__new__(library.LLMClient)
        client.complete = self._complete
        client.embed = self._embed
        client.moderation = self._moderate
        client.RateLimitError = _NeverRaised
        return client

    async def complete(
        self, request: JsonObject, params: JsonObject, *, by_author: bool = False
    ) -> JsonObject:
        """The chat completion that answers the request, with one call of the request's tool.

        A model that is asked over /responses gets the request and `params` translated, and its
        answer is translated back. `by_author` says that the scorer's author named the model or
        `params`. Raises NoVerdict if the answer has no such call, ContentRefused if a filter
        ended it, and what `JudgeEndpoint.post` raises.
        """
        model = str(request["model"])
        endpoint = self.endpoints.of(model)
        at = self._at[endpoint.name]
        path = _first_path(endpoint, at.dialect, model)
        answer = await self._complete_at(path, request, params)
        other = CHAT if path == RESPONSES else RESPONSES
        is_free = endpoint.api == "auto"
        if is_free and isinstance(answer, Problem) and _speaks_other(answer, other):
            there = await self._complete_at(other, request, params)
            if not isinstance(there, Problem):
                at.dialect.answers_at(model, other)
            if not isinstance(there, Problem) or there.cause is not Cause.ADDRESS:
                path, answer = other, there
        if isinstance(answer, Problem):
            raise at.error(path, answer, by_author=by_author)
        try:
            return with_verdict(answer, _tool(request))
        except Filtered as error:
            raise ContentRefused(f"{error}: {error.step}") from error

    async def _complete_at(
        self, path: str, request: JsonObject, params: JsonObject
    ) -> JsonObject | Problem:
        """The answer of one of the two APIs, as a chat completion, or what is wrong with it."""
        model = str(request["model"])
        if path == CHAT:
            return await self._ask(CHAT, {**params, **request}, model)
        body = {**_params_of_responses(params), **_as_responses(request)}
        answer = await self._ask(RESPONSES, body, model)
        return answer if isinstance(answer, Problem) else chat_completion(answer)

    async def _complete(self, **given: Any) -> JsonObject:  # noqa: ANN401 autoevals' own
        request: JsonObject = {name: given.pop(name) for name in _REQUEST if name in given}
        return await self.complete(request, given)

    async def _embed(self, *, input: str, **_: object) -> JsonObject:  # noqa: A002 the API's word
        # The model is always our own setting, because autoevals does not pass one on to the
        # scorers that its scorers use.
        known = current.get().embeddings
        if input in known:
            # ContextEntityRecall compares every pair of entities, 0.3 ms each, and otherwise
            # never waits. This lets other runs on the loop have their turn.
            await asyncio.sleep(0)
        else:
            body: JsonObject = {"model": self._embedding_model, "input": input}
            known[input] = await self._post("/embeddings", body, self._embedding_model)
        return known[input]

    async def _moderate(self, *, input: str, **_: object) -> JsonObject:  # noqa: A002 the API's word
        return await self._post("/moderations", {"input": input}, None)

    async def _post(self, path: str, body: JsonObject, model: str | None) -> JsonObject:
        answer = await self._ask(path, body, model)
        if isinstance(answer, Problem):
            raise self._at[self._endpoint(model).name].error(path, answer)
        return answer

    def _endpoint(self, model: str | None) -> Endpoint:
        return self.endpoints.default if model is None else self.endpoints.of(model)

    async def _ask(
        self, path: str, body: JsonObject, model: str | None
    ) -> JsonObject | Problem:
        execution = current.get()
        if _characters(body) > PROMPT_CHARACTERS_MAX:   # autoevals may use a text repeatedly
            raise prompt_too_long({})
        if execution.calls == CALLS_MAX:
            raise BadResult(f"the scorer needs more than {CALLS_MAX} calls for one span")
        at = self._at[self._endpoint(model).name]
        prices = self.endpoints.prices_of(model)
        sent, receipt = await reserved(paying.get(), path, body, prices)
        execution.calls += 1
        with receipt_of_lost_calls(receipt):
            answer = await at.answer(
                path, sent, keeps=() if sent is body else LIMITS.get(path, ())
            )
        cost = None
        if not isinstance(answer, Problem):
            cost = execution.count(answer, model, prices)
        if receipt is not None:
            if isinstance(answer, Problem) and answer.is_refusal:
                receipt.give_back()
            else:
                receipt.settle(cost)
        return answer


async def score_judged(
    judge: Judge, spec: ScorerSpec, fields: ScoringFields, *, model: str | None = None
) -> ScoringResult:
    """Run autoevals' scorer once and return its result. No HTTP call is repeated.

    `model` replaces the judge's default. Any number of runs may be under way on the judge's
    loop. The score's metadata is what autoevals gives: {choice, rationale} for a classifier.

    Raises MissingArgument and PromptTooLong before any call; ScorerFailed for arguments that
    the scorer cannot use; what `JudgeEndpoint.post` raises if a call fails; ContentRefused if a
    filter ended an answer, and BadResult for one that gives no score.
    """
    given = arguments(spec, fields)
    texts = _rendered(given)
    if sum(map(len, texts.values())) > PROMPT_CHARACTERS_MAX:
        raise prompt_too_long(texts)
    judge.require_key(judge.endpoints.of(model) if model else judge.endpoint_of(spec))
    evaluate = judge.evaluator(spec.name, model or judge.model, _threshold(spec, given))
    with counting_calls() as execution:
        try:
            returned = await evaluate(**{"output": None, **texts})
        except NoVerdict as error:
            raise no_verdict(f"{spec.name} found no score", error, judge) from error
        except _READING_ERRORS as error:
            if execution.answer is None:
                raise failure(spec, error) from error
            reason = judge.excerpt(unread(spec, error))
            answer = judge.excerpt(_message(execution.answer))
            raise BadResult(
                f"{spec.name} found no score in the judge's answer ({reason}): {answer}; "
                "choose another model"
            ) from error
    return result(spec, given, returned, execution.usage())


class _NeverRaised(Exception):
    """The exception that autoevals retries on. Nothing raises it, so it never retries."""


class _EmptyCache(dict[object, object]):
    def __setitem__(self, key: object, value: object) -> None:
        """Store nothing."""


def _threshold(spec: ScorerSpec, given: JsonObject) -> float | None:
    value = given.get("threshold") if "threshold" in spec.optional else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ScorerFailed(f"{spec.name}: metadata.threshold is {value!r:.99}, not a number")
    return value


def _rendered(given: JsonObject) -> dict[str, str]:
    """The arguments as text for a prompt. A list of contexts becomes one line each."""
    texts = {name: as_text(value) for name, value in given.items()}
    context = given.get("context")
    if isinstance(context, list):
        texts["context"] = "\n".join(as_text(each) for each in context)
    return texts


def _first_path(endpoint: Endpoint, dialect: Dialect, model: str) -> str:
    """Where the model is asked first."""
    match endpoint.api:
        case "chat":
            return CHAT
        case "responses":
            return RESPONSES
        case _:
            usual = RESPONSES if model.startswith(_RESPONSES_PREFIX) else CHAT
            return dialect.api_of(model) or usual


def _speaks_other(problem: Problem, other: str) -> bool:
    """Whether the server says that the model must be asked at the other path."""
    return other in problem.message or (other == CHAT and problem.cause is Cause.ADDRESS)


def _as_responses(request: dict[str, Any]) -> JsonObject:
    """A chat completion request with one forced tool, translated for /responses."""
    return {
        "model": request["model"],
        "tools": [{"type": "function", **tool["function"]} for tool in request["tools"]],
        "tool_choice": "required",
        "input": request["messages"],
    }


def _params_of_responses(params: JsonObject) -> JsonObject:
    """A chat completion's parameters, translated for /responses."""
    renamed = {_RESPONSES_WORDS.get(name, name): value for name, value in params.items()}
    if "reasoning_effort" in renamed:
        renamed["reasoning"] = {"effort": renamed.pop("reasoning_effort")}
    return renamed


def _characters(body: JsonObject) -> int:
    """Characters of the texts that a request brings to a model."""
    given = body.get("messages") or body.get("input")
    if not isinstance(given, list):
        return len(str(given))
    return sum(
        len(str(each.get("content") if isinstance(each, dict) else each)) for each in given
    )


def _tool(request: JsonObject) -> JsonObject:
    """The function that a chat completion request offers."""
    match request:
        case {"tools": [{"function": dict() as tool}, *_]}:
            return tool
        case _:
            raise AssertionError("every request to a judge offers a tool")


def no_verdict(found: str, error: NoVerdict, judge: Judge) -> BadResult:
    """The error of an answer without a verdict. `found` says who found none of what."""
    reason = judge.excerpt(str(error))   # which quotes the model, and may be cut
    return BadResult(f"{found} in the judge's answer: {reason}; {error.step}")


def _message(answer: JsonObject) -> Json:
    """The part of an answer that an error message quotes: its message or output, else all."""
    match answer:
        case {"choices": [{"message": message}, *_]}:
            return message
        case {"output": output}:
            return output
        case _:
            return answer
