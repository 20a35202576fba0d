"""Which addresses are public: what is reached there, anybody on the internet could reach.

`ipaddress` alone does not tell. In Python 3.11 it calls multicast, NAT64, 6to4 and several
reserved ranges global.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# The registries of special-purpose addresses at IANA, as far as `is_global` misses them, and
# what can carry an IPv4 address inside an IPv6 one.
NOT_PUBLIC = tuple(
    map(ip_network, (
        "0.0.0.0/8",          # this host
        "100.64.0.0/10",      # carriers' NAT
        "192.0.0.0/24",       # protocol assignments
        "168.63.129.16/32",   # the services of a machine in Azure
        "192.88.99.0/24",     # 6to4 relays
        "198.18.0.0/15",      # benchmarks
        "224.0.0.0/4",        # multicast
        "240.0.0.0/4",        # reserved, and broadcast
        "::/96",              # IPv4-compatible
        "64:ff9b::/96",       # NAT64
        "64:ff9b:1::/48",     # NAT64 within a network
        "100::/64",           # discarded
        "2001::/23",          # protocol assignments, among them Teredo
        "2001:db8::/32",      # documentation
        "2002::/16",          # 6to4
        "3fff::/20",          # documentation
        "5f00::/16",          # segment routing
        "fc00::/7",           # within an organisation
        "fe80::/10",          # link-local
        "fec0::/10",          # site-local
        "ff00::/8",           # multicast
    ))
)
NAMED_ONLY = (
    IPv4Network("169.254.0.0/16"),        # link-local: 169.254.169.254 in most clouds
    IPv6Network("fe80::/10"),             # link-local
    IPv4Network("168.63.129.16/32"),      # Azure
    IPv4Network("100.100.100.200/32"),    # Alibaba Cloud
    IPv4Network("192.0.0.192/32"),        # Oracle Cloud
    IPv6Network("fd00:ec2::254/128"),     # AWS
    IPv6Network("fd20:ce::254/128"),      # Google Cloud
)
"""Neighbours of this machine, and where clouds keep a machine's credentials."""

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")


def read_address(text: str) -> Address:
    """The address, without a zone; that of IPv4 for one that is mapped into IPv6.

    Raises ValueError if the text is no address.
    """
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Whether the address is one of the internet's own."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(within(address, each) for each in NOT_PUBLIC)
    )


def is_named_only(address: Address) -> bool:
    """Whether the address leads to one of NAMED_ONLY, in whatever form it is written."""
    return any(within(one, each) for one in _forms(address) for each in NAMED_ONLY)


def within(address: Address, network: Network) -> bool:
    """Whether the network contains the address; none of another version does."""
    return address.version == network.version and address in network


def _forms(address: Address) -> Iterator[Address]:
    """The address, and those of IPv4 that it carries."""
    yield address
    if isinstance(address, IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if address in _COMPATIBLE or any(address in each for each in _NAT64):
            yield IPv4Address(int(address) & 0xFFFF_FFFF)
