"""The policy for users' addresses, on any URL and any entry."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from automations.outbound.addresses import is_named_only, is_public, read_address
from automations.outbound.policy import Policy, read_policy
from spans.errors import BadInput

addresses = st.one_of(
    st.ip_addresses(), st.ip_addresses(network="10.0.0.0/8"),
    st.ip_addresses(network="169.254.0.0/16"), st.ip_addresses(network="fe80::/10"),
    st.ip_addresses(network="64:ff9b::/96"), st.ip_addresses(network="2002::/16"),
)
ports = st.integers(1, 65535)
networks = st.builds(
    lambda address, bits: ip_network(
        f"{address}/{bits % (address.max_prefixlen + 1)}", strict=False
    ),
    addresses, st.integers(0, 128),
)


def url_of(scheme: str, host: str | IPv4Address | IPv6Address, port: int) -> str:
    text = str(host)
    return f"{scheme}://{f'[{text}]' if ':' in text else text}:{port}/"


@given(st.text(max_size=60) | st.text(alphabet="htps:/[]@.%0x1f#?", max_size=60))
def test_any_text_gives_a_target_or_bad_input(text):
    for policy in (Policy(), read_policy("10.0.0.0/8,a.internal")):
        try:
            target = policy.target(text)
        except BadInput:
            continue
        assert target.host
        assert 0 < target.port < 65536


@given(addresses, ports, st.sampled_from(["http", "https"]))
def test_without_entries_only_a_public_address_over_https_is_reached(address, port, scheme):
    try:
        target = Policy().target(url_of(scheme, address, port))
    except BadInput:
        return
    assert scheme == "https"
    assert port in {443, 8443}
    assert is_public(read_address(str(address)))
    assert Policy().refusal(target, read_address(str(address)), port) is None


@given(networks, ports | st.none(), addresses, ports)
def test_an_entry_opens_what_it_contains_and_changes_nothing_else(
    network, entry_port, address, port
):
    text = f"[{network}]" if network.version == 6 else str(network)
    policy = read_policy(text if entry_port is None else f"{text}:{entry_port}")
    target = Policy().target("https://example.com/")
    real = read_address(str(address))
    before = Policy().refusal(target, real, target.port)
    after = policy.refusal(target, real, target.port)
    is_in = entry_port in {None, target.port} and any(
        each.network is not None and real.version == each.network.version
        and real in each.network
        for each in policy.entries
    )
    if not is_in:
        assert after == before
    elif not is_named_only(real):
        assert after is None


@given(networks, st.sampled_from(["169.254.169.254", "fe80::1"]))
def test_link_local_is_reached_only_by_an_entry_within_it(network, address):
    policy = read_policy(f"[{network}]" if network.version == 6 else str(network))
    target = Policy().target("https://example.com/")
    opened = policy.refusal(target, read_address(address), target.port) is None
    ends = (network.network_address, network.broadcast_address)
    if opened:
        assert all(is_named_only(read_address(str(end))) for end in ends)
