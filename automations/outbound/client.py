"""Makes single HTTP requests to users' addresses, and says how each ended. It retries nothing.

The peer is not trusted. It gets DEADLINE_S from the lookup of its name to the last byte that is
read, however slowly it sends. READ_BYTES of its answer are read, and nothing is unpacked.
Redirects are not followed, cookies not kept, and no proxy is taken from the environment.

The policy judges each address when a socket for it is made, so no second lookup comes between
the judgement and the connection. All addresses of a name are judged before the first is
connected to, and one that is refused refuses the name: its owner could otherwise try out which
of several addresses answers.

With a proxy, the proxy looks the name up and judges its addresses; the policy judges the URL.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from automations.outbound.addresses import read_address
from automations.outbound.policy import Policy, Target
from automations.outbound.request_end import (
    BROKEN_ANSWER,
    HTTP_STATUS,
    NOT_CONNECTED,
    TIMEOUT,
    TLS,
    UNREACHABLE,
    RequestEnd,
)
from spans.clock import Clock
from spans.errors import BadInput
from spans.retry_after import retry_after_s

logger = logging.getLogger(__name__)

DEADLINE_S = 15.0
"""How long one request may take, whatever its peer does, seconds: the least that receivers of
Standard Webhooks may count on."""

CONNECT_S = 5.0
"""How long lookup, connection and TLS may take of that, seconds."""

READ_BYTES = 16 * 1024
"""The most of an answer's body that is read."""

KEPT_CHARACTERS = 1024
"""The most of it that is kept."""

LOOKUPS = 64
"""Names that are looked up at once. A name whose servers are silent keeps its thread for up to
30 s, longer than its request lasts."""

USER_AGENT = "Tallyard-Webhooks"

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a name for a port. Raises OSError if it has none."""


class OutboundClient:
    """Makes requests under one policy. Use it on one event loop; close it at the end.

    `proxy` is the URL of an HTTP proxy through which all requests go, with its user and
    password if it wants them.
    """

    def __init__(
        self, policy: Policy, *, clock: Clock, lookup: Lookup | None = None,
        deadline_s: float = DEADLINE_S, proxy: str | None = None,
    ) -> None:
        self._policy = policy
        self._proxy = proxy
        self._clock = clock
        self._deadline_s = deadline_s
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
        self._lookup = lookup or self._look_up
        self._tls = ssl.create_default_context()

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> RequestEnd:
        """How a POST of exactly these bytes ended. Raises nothing that its peer could cause."""
        began = time.monotonic()
        try:
            target = self._policy.target(url)
        except BadInput as error:
            logger.warning("%s: %s", _shown(url), error)
            return RequestEnd(error_class=UNREACHABLE, error_message=NOT_CONNECTED)
        if self._proxy and target.depends_on_address:
            logger.warning(
                "%s is refused: %s, and through a proxy no entry for a network lifts that. To "
                "allow it, set %s",
                _shown(url), target.broken, self._policy.line(target.entry),
            )
            return RequestEnd(error_class=UNREACHABLE, error_message=NOT_CONNECTED)
        guard = _Guard(policy=self._policy, target=target, lookup=self._lookup)
        try:
            async with asyncio.timeout(self._deadline_s):
                end = await self._exchange(url, body, headers, guard)
        except TimeoutError:
            end = RequestEnd(
                error_class=TIMEOUT,
                error_message=f"there was no whole answer within {self._deadline_s:g} s, or no "
                f"connection within {CONNECT_S:g} s",
            )
        except (ssl.SSLError, aiohttp.ClientSSLError) as error:
            end = RequestEnd(error_class=TLS, error_message=_excerpt(error))
        except (
            aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.InvalidURL
        ) as error:
            end = RequestEnd(error_class=UNREACHABLE, error_message=NOT_CONNECTED)
            self._tell_operator(url, guard, error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            end = RequestEnd(error_class=BROKEN_ANSWER, error_message=_excerpt(error))
        return replace(
            end, address_family=guard.connected_by,
            run_ms=(time.monotonic() - began) * 1000,
        )

    async def close(self) -> None:
        """Ends the threads that look names up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _exchange(
        self, url: str, body: bytes, headers: Mapping[str, str], guard: _Guard
    ) -> RequestEnd:
        # A connection for each request: it is judged for one target, and a receiver is asked
        # too seldom for a kept one to be still open.
        connector = aiohttp.TCPConnector(
            socket_factory=None if self._proxy else guard.make_socket,
            resolver=None if self._proxy else guard, use_dns_cache=False,
            ssl=self._tls, force_close=True, limit=1,
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(guard.note_family)
        async with aiohttp.ClientSession(
            connector=connector, trace_configs=[tracing],
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            timeout=aiohttp.ClientTimeout(total=self._deadline_s, connect=CONNECT_S),
            read_bufsize=READ_BYTES,
        ) as session, session.post(
            url, data=body, allow_redirects=False, proxy=self._proxy,
            headers={
                "Content-Type": "application/json", "User-Agent": USER_AGENT, **headers,
            },
        ) as response:
            status = response.status
            wait_s = retry_after_s(response.headers, self._clock)
            answer = await _beginning(response)
        is_ok = 200 <= status <= 299
        return RequestEnd(
            status=status, answer=answer, retry_after_s=wait_s,
            error_class=None if is_ok else HTTP_STATUS,
            error_message=None if is_ok else f"the receiver answered {status}",
        )

    def _tell_operator(self, url: str, guard: _Guard, error: Exception) -> None:
        if guard.refused is None:
            logger.info("%s could not be reached: %s", _shown(url), error)
        else:
            logger.warning(
                "%s is refused: %s. To allow it, set %s", _shown(url), guard.refused, guard.line
            )

    async def _look_up(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


class AddressRefused(OSError):
    """The policy refuses an address."""


@dataclass(slots=True)
class _Guard(AbstractResolver):
    """Judges every address that one request could reach. `refused` is why it was refused, and
    `line` what would allow it."""

    policy: Policy
    target: Target
    lookup: Lookup
    refused: str | None = None
    line: str = ""
    connected_by: str | None = None
    _made: list[socket.socket] = field(default_factory=list)

    async def resolve(
        self, host: str, port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 of either family
    ) -> list[ResolveResult]:
        """The addresses of the name, none of which the policy refuses."""
        addresses = await self.lookup(host, port)
        for each in addresses:
            self._judge(each, port)
        return [
            ResolveResult(
                hostname=host, host=each, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
            )
            for each in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""

    def make_socket(self, where: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address that is about to be connected to."""
        family, kind, protocol, _, address = where
        self._judge(str(address[0]), int(address[1]))
        made = socket.socket(family, kind, protocol)
        self._made.append(made)
        return made

    async def note_family(self, *_: object) -> None:
        """Keep the kind of the address that was connected to: of the sockets that were tried,
        one alone has a peer by now."""
        for each in self._made:
            with suppress(OSError):
                each.getpeername()
                self.connected_by = "ipv6" if each.family == socket.AF_INET6 else "ipv4"

    def _judge(self, text: str, port: int) -> None:
        try:
            address = read_address(text)
        except ValueError as error:
            raise AddressRefused(f"{text!r} is no address") from error
        self.refused = self.policy.refusal(self.target, address, port)
        if self.refused is not None:
            self.line = self.policy.line_for(self.target, address)
            raise AddressRefused(self.refused)


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The beginning of the answer's body as text. What follows READ_BYTES is not read."""
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) >= READ_BYTES:
            response.close()
            break
    text = bytes(read[: KEPT_CHARACTERS * 4]).decode(errors="replace")
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:KEPT_CHARACTERS]


def _excerpt(error: Exception) -> str:
    # The text of this error has the whole URL, and the path of one of Slack is a secret.
    told = error.message if isinstance(error, aiohttp.ClientResponseError) else error
    text = " ".join(f"{type(error).__name__}: {told}".replace("\0", "").split())
    return text.encode(errors="replace").decode()[:300]


def _shown(url: str) -> str:
    """The URL for a log, without what may be secret in it: its path and query."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('/')[0].partition('?')[0]}"[:300]
