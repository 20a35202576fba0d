"""Where requests to users' addresses may go: the one policy, which is judged twice.

First the URL alone, when an automation is stored and before each request. Then the address,
when it is connected to (`automations/outbound/client.py`): what a name stands for may change
between two lookups.

Without an entry of the operator, a request goes to a public address, over https, to port 443 or
8443. An entry of TALLYARD_OUTBOUND_ALLOW lifts these rules for itself alone:

    10.1.2.0/24            addresses of that network, any port
    [fd00::5]:8080         one address and port
    alerts.internal        whatever that name stands for, any port

A link-local address is reached only by an entry that itself lies within link-local, and any
other address at which clouds keep a machine's credentials by an entry for it alone: nobody
opens that door with a wide network or a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import urlsplit

from automations.outbound.addresses import (
    NAMED_ONLY,
    Address,
    Network,
    is_named_only,
    is_public,
    read_address,
    within,
)
from spans.errors import BadInput, SetupError

SETTING = "TALLYARD_OUTBOUND_ALLOW"

URL_CHARACTERS_MAX = 2048
PORTS = {"https": 443, "http": 80}
"""The schemes, with the port that each has by default."""

OPEN_PORTS = frozenset({443, 8443})
"""The ports that need no entry: those on which servers speak TLS for everybody."""

LOCAL_NAMES = ("localhost", "local", "internal", "localdomain")
"""The last parts of names that no public name server knows."""

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_BAD_CHARACTER = re.compile(r"[\x00-\x20\x7f-\U0010ffff\\]")
_ENTRY = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:/\d+)?)\]|(?P<bare>[^\[\]:]+|[0-9A-Fa-f:.]+(?:/\d+)?))"
    r"(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes: `host` in lower case, without a dot at its end.

    `is_address` tells a literal address from a name. `broken` is the rule that only an entry
    lifts, such as "the scheme is http"; None: there is none. `is_lifted`: the name itself has
    an entry.
    """

    scheme: str
    host: str
    port: int
    is_address: bool
    broken: str | None
    is_lifted: bool

    @property
    def depends_on_address(self) -> bool:
        """Whether a rule is broken that only an entry for a network could lift, when it is
        known which address the name stands for."""
        return self.broken is not None and not self.is_lifted and not self.is_address

    @property
    def entry(self) -> str:
        """The entry that would allow it."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """One entry of the operator: a name or a network, with one port or (None) all."""

    name: str | None = None
    network: Network | None = None
    port: int | None = None

    def is_for(self, port: int) -> bool:
        """Whether it is about that port."""
        return self.port is None or self.port == port

    def opens(self, address: Address, port: int) -> bool:
        """Whether it lifts the rules for that address and port."""
        if self.network is None or not self.is_for(port) or not within(address, self.network):
            return False
        return not is_named_only(address) or self._names_it()

    def _names_it(self) -> bool:
        first = None if self.network is None else self.network.network_address
        return any(
            first is not None and self.network is not None and within(first, each)
            and self.network.prefixlen >= each.prefixlen
            for each in NAMED_ONLY
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The policy with the operator's entries, and their `text` as it is set."""

    entries: tuple[Exemption, ...] = ()
    text: str = ""

    def target(self, url: str) -> Target:
        """Where the URL leads. Raises BadInput, with the line to set if an entry would allow
        it.

        A name is not looked up. If an entry for a network may still lift the rule that the URL
        breaks, that is decided when it is connected to.
        """
        target = self._read(url)
        if target.broken is None or target.is_lifted:
            return target
        if target.is_address:
            may_be_lifted = self._opened(read_address(target.host), target.port)
        else:
            may_be_lifted = any(
                each.network is not None and each.is_for(target.port) for each in self.entries
            )
        if may_be_lifted:
            return target
        raise BadInput(
            f"the URL is refused: {target.broken}. An operator allows it with "
            f"{self.line(target.entry)}"
        )

    def refusal(self, target: Target, address: Address, port: int) -> str | None:
        """Why the target may not be reached at the address; None: it may."""
        if self._opened(address, port):
            return None
        if is_named_only(address):
            return f"{address} is link-local, or has the credentials of a cloud's machine"
        if target.is_lifted and port == target.port:
            return None
        if not is_public(address):
            return f"{address} is not public"
        if port != target.port:
            return f"port {port} is not that of the URL"
        return target.broken

    def line(self, entry: str) -> str:
        """The setting that allows `entry` beside what is allowed already."""
        return f"{SETTING}={','.join(filter(None, (self.text, entry)))}"

    def line_for(self, target: Target, address: Address) -> str:
        """The setting that allows the target at this address."""
        if target.is_address or not is_named_only(address):
            return self.line(target.entry)
        literal = f"[{address}]" if address.version == 6 else str(address)
        return self.line(f"{literal}:{target.port}")

    def _opened(self, address: Address, port: int) -> bool:
        return any(each.opens(address, port) for each in self.entries)

    def _read(self, url: str) -> Target:
        if len(url) > URL_CHARACTERS_MAX:
            raise BadInput(f"the URL is longer than {URL_CHARACTERS_MAX} characters")
        if _BAD_CHARACTER.search(url):
            raise BadInput(
                "the URL has a space, a backslash, or a character outside ASCII: write it "
                "percent-encoded, and a name in its xn-- form"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadInput(f"the URL cannot be read: {error}") from error
        if parts.scheme not in PORTS:
            raise BadInput("the URL must begin with https://")
        if "@" in parts.netloc:
            raise BadInput("the URL must not hold a user or password")
        host = (parts.hostname or "").removesuffix(".")
        if not host or port == 0:
            raise BadInput("the URL must name a host, and a port above 0 if any")
        address = _address(host)
        if address is None and not _is_name(host):
            raise BadInput(
                "the URL's host is neither a name nor an address: write an IPv4 address as "
                "four decimal numbers, and one of IPv6 in brackets, without a zone"
            )
        port = port or PORTS[parts.scheme]
        return Target(
            scheme=parts.scheme, host=host, port=port, is_address=address is not None,
            broken=_broken(parts.scheme, host, port, address),
            is_lifted=any(
                each.name is not None and each.name == host and each.is_for(port)
                for each in self.entries
            ),
        )


def read_policy(text: str | None) -> Policy:
    """The policy with the entries that `text` lists, separated by commas.

    Raises SetupError for an entry that is neither a name nor a network.
    """
    given = [each.strip() for each in (text or "").split(",")]
    kept = [each for each in given if each]
    return Policy(entries=tuple(map(_entry, kept)), text=",".join(kept))


def _entry(text: str) -> Exemption:
    match = _ENTRY.fullmatch(text)
    if match is not None:
        where = match["v6"] or match["bare"]
        port = int(match["port"]) if match["port"] else None
        is_port = port is None or 0 < port < 65536
        network = _network(where)
        if network is not None and is_port:
            return Exemption(network=network, port=port)
        name = where.lower().removesuffix(".")
        if match["v6"] is None and _is_name(name) and is_port:
            return Exemption(name=name, port=port)
    raise SetupError(
        f"{SETTING}: {text!r} is no entry: write a name, an address or a network, with :port "
        "after it if only that port is meant, and IPv6 with a port in brackets"
    )


def _network(text: str) -> Network | None:
    try:
        network = ip_network(text)
    except ValueError:
        return None
    mapped = read_address(str(network.network_address))
    if network.prefixlen == network.max_prefixlen and mapped.version != network.version:
        return ip_network(str(mapped))
    return network


def _address(host: str) -> Address | None:
    if "%" in host:
        return None
    try:
        return read_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    """Whether the host is a name. The system's resolver would also take numbers in many forms,
    such as 0x7f.1 or 2130706433, for addresses."""
    last = host.rpartition(".")[2].lower()
    is_number = last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
    return _NAME.fullmatch(host) is not None and len(host) <= 253 and not is_number


def _broken(scheme: str, host: str, port: int, address: Address | None) -> str | None:
    """The first rule that the URL breaks and that an entry can lift."""
    if address is not None and not is_public(address):
        return f"{address} is not a public address"
    if address is None and host.rpartition(".")[2] in LOCAL_NAMES:
        return f"{host} is a name of a local network"
    if scheme != "https":
        return "its scheme is http, and only https is allowed"
    if port not in OPEN_PORTS:
        return f"its port is {port}, and only 443 and 8443 are allowed"
    return None
