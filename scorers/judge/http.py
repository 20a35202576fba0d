"""Makes HTTP calls to a judge's endpoint, with JSON both ways, and names each way they fail.

It uses aiohttp directly and not the openai client. A call takes 0.13 ms of CPU instead of
1.0 ms, and a process starts 0.6 s faster with 46 MB less. For four POST endpoints, all that the
openai client would add is a header. Nothing is retried here: the caller decides whether and
when to call again.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

import aiohttp

from scorers.judge.endpoints import Endpoint, key_problem, url_problem
from scorers.judge.parameters import TRIES_MAX, Dialect
from scorers.judge.problems import (
    ANSWER_BYTES_MAX,
    HIDDEN,
    Cause,
    Problem,
    answer_of,
    excerpt,
)
from spans.clock import Clock
from spans.errors import (
    BadResult,
    ContentRefused,
    JudgeRefused,
    JudgeUnavailable,
    JudgeUnfit,
    JudgeUnpaid,
    PromptTooLong,
    RateLimited,
    SetupError,
    TallyardError,
    Timeout,
)
from spans.json import JsonObject
from spans.retry_after import RETRY_AFTER_MAX_S, retry_after_s

_TRANSIENT: dict[Cause, type[RateLimited | JudgeUnavailable]] = {
    Cause.RATE: RateLimited, Cause.AWAY: JudgeUnavailable,
}
# The other causes, with the next step. A setting stands in braces.
_FINAL: dict[Cause, tuple[type[TallyardError], str]] = {
    Cause.CREDIT: (JudgeUnpaid, "pay at the provider or raise the quota there"),
    Cause.KEY: (JudgeRefused, "check {key}"),
    Cause.ADDRESS: (JudgeRefused, "check {url}: there is no such API"),
    Cause.SERVER: (JudgeRefused, "start the judge's server so that models can call tools"),
    Cause.CONTENT: (
        ContentRefused,
        "change the provider's filter, or leave such spans out by the rule's filter",
    ),
    Cause.LENGTH: (
        PromptTooLong,
        "let the scorer use less of the span, or choose a model that reads more",
    ),
    Cause.MODEL: (JudgeRefused, "check {model}"),
    Cause.UNSUPPORTED: (JudgeRefused, "check {model}"),
    Cause.OTHER: (JudgeRefused, "check {url}, {key} and {model}"),
    Cause.UNREADABLE: (BadResult, "check {url}"),
}
_BY_AUTHOR = {
    Cause.MODEL: "choose a model that the endpoint has and that calls tools",
    Cause.UNSUPPORTED: "remove the parameter from the scorer's params",
    Cause.OTHER: "check the scorer's model and params",
}
"""Causes that the scorer's author must mend, if it is the scorer that names the model."""


class JudgeEndpoint:
    """A pool of connections to one endpoint, for one event loop.

    A call's deadline counts from its start (the wait for a free connection included) to the
    last byte of the answer. `dialect` is what the endpoint is known to refuse. Raises
    SetupError for a URL or key that cannot be used.
    """

    def __init__(
        self, endpoint: Endpoint, *, clock: Clock, dialect: Dialect | None = None
    ) -> None:
        for part, problem in (
            ("url", url_problem(endpoint.base_url)), ("key", key_problem(endpoint.api_key))
        ):
            if problem is not None:
                raise SetupError(f"{endpoint.setting(part)} {problem}")
        self.dialect = dialect or Dialect(endpoint.name)
        self._base_url = endpoint.base_url.rstrip("/")
        self._api_key = endpoint.api_key
        self._timeout_s = endpoint.timeout_s
        self._in_flight = endpoint.in_flight
        self._names = {part: endpoint.setting(part) for part in ("url", "key", "model")}
        self._clock = clock
        self._open_session: aiohttp.ClientSession | None = None

    async def post(
        self, path: str, body: JsonObject, *, by_author: bool = False
    ) -> JsonObject:
        """The answer to one POST. Raises the `error` of what is wrong with it.

        Also raises Timeout, JudgeUnavailable, or JudgeRefused for a connection that fails.
        """
        answer = await self.answer(path, body)
        if isinstance(answer, Problem):
            raise self.error(path, answer, by_author=by_author)
        return answer

    async def answer(
        self, path: str, body: JsonObject, *, keeps: Collection[str] = ()
    ) -> JsonObject | Problem:
        """The answer to one POST, or what is wrong with it.

        `path` is relative to the base URL, such as "/embeddings". A call that is refused
        because of parameters that can be left out is made again without them, at once, and so
        is every later call (`Dialect`); those of `keeps` cannot. Raises Timeout,
        JudgeUnavailable, or JudgeRefused for a connection that fails.
        """
        for _ in range(TRIES_MAX):
            sent = self.dialect.adapted(path, body, keeps=keeps)
            answer = await self._ask(path, sent)
            if not isinstance(answer, Problem):
                return answer
            if not self.dialect.learns(path, sent, answer, keeps=keeps):
                return answer
        return await self._ask(path, self.dialect.adapted(path, body, keeps=keeps))

    def error(self, path: str, problem: Problem, *, by_author: bool = False) -> TallyardError:
        """The error to raise for what is wrong with an answer.

        `by_author` says that the scorer's author named the model or the parameters. It is
        RateLimited or JudgeUnavailable if a later call may succeed; JudgeRefused or JudgeUnpaid
        if the operator must act; JudgeUnfit if the author must; PromptTooLong or ContentRefused
        if it is the span's text; and BadResult for an answer that cannot be read.
        """
        message = f"judge {self._base_url}{path} {self.excerpt(problem.message)}"
        if transient := _TRANSIENT.get(problem.cause):
            return transient(message, retry_after_s=problem.wait_s)
        kind, step = _FINAL[problem.cause]
        if by_author and problem.cause in _BY_AUTHOR:
            kind, step = JudgeUnfit, _BY_AUTHOR[problem.cause]
        return kind(f"{message}; {step.format_map(self._names)}")

    async def _ask(self, path: str, body: JsonObject) -> JsonObject | Problem:
        url = self._base_url + path
        try:
            # A redirect is refused: it would carry the span's content to another host.
            async with self._session().post(
                url, data=json.dumps(body).encode(), allow_redirects=False
            ) as response:
                raw = await _read(response)
        except TimeoutError as error:
            raise Timeout(f"judge {url} gave no answer within {self._timeout_s:g} s") from error
        except (aiohttp.InvalidURL, aiohttp.ClientConnectorCertificateError) as error:
            reason = self.excerpt(str(error))
            raise JudgeRefused(f"judge {url}: {reason}; check {self._names['url']}") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = self.excerpt(str(error) or type(error).__name__)
            raise JudgeUnavailable(f"judge {url} could not be reached: {reason}") from error
        answer = answer_of(path, response.status, raw)
        if not isinstance(answer, Problem):
            return answer
        wait_s = retry_after_s(response.headers, self._clock)
        if wait_s is None and answer.wait_s is not None:
            wait_s = min(answer.wait_s, RETRY_AFTER_MAX_S)
        message = f"answered {response.status}: {answer.message}"
        return replace(answer, message=message, wait_s=wait_s)

    def excerpt(self, text: str) -> str:
        """The start of `text` on one line, for a message. The API key is taken out of it."""
        # Some servers repeat the key when they refuse it. It is replaced before the text is
        # cut, because a cut could leave half of the key, which would not be found any more.
        return excerpt(text.replace(self._api_key, HIDDEN) if self._api_key else text)

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    def _session(self) -> aiohttp.ClientSession:
        # Opened at the first call, because a session belongs to the loop that it is made in.
        if self._open_session is None:
            headers = {"Content-Type": "application/json"}
            if self._api_key is not None:
                headers["Authorization"] = f"Bearer {self._api_key}"
            self._open_session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._in_flight),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            )
        return self._open_session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. It is cut once more than ANSWER_BYTES_MAX have come: then it is too large."""
    chunks = []
    size_bytes = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > ANSWER_BYTES_MAX:
            # The connection must not go back to the pool: the rest is still coming in.
            response.close()
            break
    return b"".join(chunks)
