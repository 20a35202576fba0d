"""One HTTP call to the judge: JSON out, JSON back, and every way it can go wrong, named.

aiohttp directly, and not the openai client over it: 0.13 ms of CPU a call against 1.0, and
46 MB and 0.6 s less at start. What is left of that client for four POST endpoints is a header.
There is no retry here, of any kind: an attempt is one call, and waiting is the caller's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from scorers.results import storable
from spans.clock import Clock
from spans.errors import (
    BadResult,
    JudgeRefused,
    JudgeUnavailable,
    RateLimited,
    SetupError,
    TallyardError,
    Timeout,
)
from spans.json import JsonObject

ANSWER_BYTES_MAX = 2**20
"""Longest answer that is read. The largest that scorers ask for, an embedding, is 60 kB."""

EXCERPT_CHARACTERS = 300
RETRY_AFTER_MAX_S = 3600.0
"""A judge may ask for a longer pause; nobody who watches scores would call it one."""

SETTINGS_HINT = "check TALLYARD_JUDGE_BASE_URL, TALLYARD_JUDGE_API_KEY and the model's name"

# Statuses that time may heal beside 5xx: request timeout, conflict, too early.
_TRANSIENT_STATUSES = frozenset({408, 409, 425})


class JudgeEndpoint:
    """A pool of connections to one endpoint, for one event loop.

    `timeout_s` is the deadline of one call from start to last byte, the wait for a free
    connection included.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        timeout_s: float,
        in_flight: int,
        clock: Clock,
    ) -> None:
        self._base_url = _checked_url(base_url)
        self._api_key = _checked_key(api_key)
        self._timeout_s = timeout_s
        self._in_flight = in_flight
        self._clock = clock
        self._open_session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """The answer to one POST. `path` as in "/embeddings".

        Raises RateLimited, Timeout or JudgeUnavailable (time may heal it), JudgeRefused (the
        operator must act) and BadResult (an answer that is no JSON object, or above 1 MiB).
        """
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
            raise JudgeRefused(f"judge {url}: {reason}; {SETTINGS_HINT}") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = self.excerpt(str(error) or type(error).__name__)
            raise JudgeUnavailable(f"judge {url} could not be reached: {reason}") from error
        if response.status != 200:
            raise self._refusal(url, response.status, response.headers, raw)
        return self._parse(url, raw)

    def excerpt(self, text: str) -> str:
        """The start of `text` on one line, for a message. The key is taken out of it."""
        # Servers repeat the key in their refusals. It goes before the cut, which might
        # otherwise leave half of it.
        if self._api_key:
            text = text.replace(self._api_key, "***")
        text = storable(" ".join(text.split()))
        return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "..."

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    def _session(self) -> aiohttp.ClientSession:
        # Opened at the first call: a session belongs to the loop it is made in.
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

    def _parse(self, url: str, raw: bytes) -> JsonObject:
        if len(raw) > ANSWER_BYTES_MAX:
            raise BadResult(f"judge {url} answered with more than {ANSWER_BYTES_MAX} bytes")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BadResult(
                f"judge {url} answered with no JSON: {self.excerpt(_decoded(raw))}"
            ) from error
        if not isinstance(answer, dict):
            raise BadResult(
                f"judge {url} answered with no object: {self.excerpt(_decoded(raw))}"
            )
        return answer

    def _refusal(
        self, url: str, status: int, headers: Mapping[str, str], raw: bytes
    ) -> TallyardError:
        message = f"judge {url} answered {status}: {self.excerpt(_server_message(raw))}"
        wait_s = retry_after_s(headers, self._clock)
        if status == 429:
            return RateLimited(message, retry_after_s=wait_s)
        if status >= 500 or status in _TRANSIENT_STATUSES:
            return JudgeUnavailable(message, retry_after_s=wait_s)
        return JudgeRefused(f"{message}; {SETTINGS_HINT}")


def retry_after_s(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds that the server asks to wait, at most an hour; None if it does not say.

    Read from `retry-after-ms`, else `Retry-After` in seconds or as an HTTP date.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            wait_s = float(text) * unit_s
        except ValueError:
            wait_s = _seconds_until(text, clock)
        if not math.isnan(wait_s):
            return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)
    return None


def _seconds_until(http_date: str, clock: Clock) -> float:
    try:
        return (parsedate_to_datetime(http_date) - clock()).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return math.nan


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or as much of it as is more than enough."""
    chunks = []
    size_bytes = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > ANSWER_BYTES_MAX:
            response.close()  # not back to the pool: the rest is still on the wire
            break
    return b"".join(chunks)


def _server_message(raw: bytes) -> str:
    """The message of an OpenAI-style error, else the body as text."""
    try:
        error = json.loads(raw)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError, RecursionError):
        return _decoded(raw)


def _decoded(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _checked_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # read for its check
    except ValueError as error:
        raise SetupError(f"TALLYARD_JUDGE_BASE_URL is no URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SetupError("TALLYARD_JUDGE_BASE_URL must start with http:// or https://")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SetupError(
            "TALLYARD_JUDGE_BASE_URL must hold no user, password or query: "
            "the key goes into TALLYARD_JUDGE_API_KEY"
        )
    return base_url.rstrip("/")


def _checked_key(api_key: str | None) -> str | None:
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise SetupError("TALLYARD_JUDGE_API_KEY holds a character that no header can carry")
    return api_key
