"""Which URLs and addresses users' requests may go to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from automations.outbound.policy import Policy, read_policy
from spans.errors import BadInput, SetupError

HOSTILE_URLS = (
    "http://127.0.0.1/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f000001/",
    "https://168.63.129.16/",
    "https://0x7f.1/", "https://127.1/", "https://0177.0.0.1/", "https://017700000001/",
    "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/", "https://169.254.169.254/latest", "https://100.64.0.1/",
    "https://0/", "https://0.0.0.0/", "https://224.0.0.1/", "https://255.255.255.255/",
    "https://localhost/", "https://LOCALHOST./", "https://foo.localhost/",
    "https://a.internal/", "https://user@evil.com@127.0.0.1/", "https://user:pw@example.com/",
    "ftp://example.com/", "file:///etc/passwd", "gopher://x/", "https://example.com:22/",
    "https://example.com:6379/", "https://exa mple.com/", "https://example.com\r\nX: y/",
    "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/",
    "https:///x", "https://example.com\\@127.0.0.1/", "https://[::]/", "https://[::127.0.0.1]/",
    "https://192.88.99.1/", "https://198.18.0.1/", "//example.com/", "javascript:alert(1)",
    "https://" + "a" * 3000 + ".com/", "https://example.com:99999/", "https://example.com:0/",
    "https://1.2.3.4.5/", "https://0x7f.0x0.0x0.0x1/", "https://a..example/", "https://[1.2.3.4/",
    "https://-a.example/", "http://example.com/", "https://printer.local/", "", "https://",
)
GOOD_URLS = (
    "https://example.com/hook", "https://example.com:8443/x?y=1", "https://EXAMPLE.com./",
    "https://xn--bcher-kva.example/", "https://8.8.8.8/", "https://[2606:4700::1111]/",
    "https://_hooks.example.com/a%20b", "https://999.example/",
)
HOSTILE_ADDRESSES = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "::1", "::ffff:10.0.0.1",
    "64:ff9b::a00:1", "fd00::1", "169.254.169.254", "fe80::1", "2002:a00:1::", "0.0.0.0", "::",
    "224.0.0.1", "ff02::1", "::127.0.0.1", "fec0::1", "5f00::1", "192.88.99.1", "198.18.0.1",
    "100.64.0.1", "255.255.255.255", "240.0.0.1", "2001:db8::1", "2001::1", "3fff::1",
    "192.0.0.8", "100::1", "64:ff9b:1::1", "168.63.129.16", "::ffff:168.63.129.16",
)


def refusal(policy: Policy, url: str, address: str) -> str | None:
    target = policy.target(url)
    return policy.refusal(target, ip_address(address), target.port)


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_url_is_refused(url):
    with pytest.raises(BadInput):
        read_policy(None).target(url)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_usual_url_is_accepted(url):
    read_policy(None).target(url)


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES)
def test_a_name_that_stands_for_a_hostile_address_is_refused(address):
    assert refusal(read_policy(None), "https://example.com/", address) is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111"])
def test_a_name_that_stands_for_a_public_address_is_accepted(address):
    assert refusal(read_policy(None), "https://example.com/", address) is None


@pytest.mark.parametrize(
    ("url", "present", "line"),
    [
        ("http://example.com/", "", "TALLYARD_OUTBOUND_ALLOW=example.com:80"),
        ("https://example.com:9000/", "", "TALLYARD_OUTBOUND_ALLOW=example.com:9000"),
        ("http://10.1.2.3:81/", "", "TALLYARD_OUTBOUND_ALLOW=10.1.2.3:81"),
        ("https://[fd00::1]/", "", "TALLYARD_OUTBOUND_ALLOW=[fd00::1]:443"),
        ("http://a.example/", "b.example", "TALLYARD_OUTBOUND_ALLOW=b.example,a.example:80"),
    ],
)
def test_a_refusal_names_the_line_that_lifts_it(url, present, line):
    with pytest.raises(BadInput) as caught:
        read_policy(present).target(url)
    assert str(caught.value).endswith(f" {line}")
    assert read_policy(line.partition("=")[2]).target(url)


def test_an_entry_for_a_name_lifts_scheme_port_and_private_addresses_for_that_name():
    policy = read_policy("hooks.internal:9000")
    assert refusal(policy, "http://hooks.internal:9000/", "10.0.0.1") is None
    assert refusal(policy, "http://HOOKS.internal.:9000/", "10.0.0.1") is None
    for other in ("http://hooks.internal:9001/", "http://more.hooks.internal:9000/"):
        with pytest.raises(BadInput):
            policy.target(other)


def test_an_entry_for_a_network_lifts_them_for_whatever_leads_there():
    policy = read_policy("10.1.2.0/24:8080, [fd00:1::/32]")
    assert refusal(policy, "http://10.1.2.3:8080/", "10.1.2.3") is None
    assert refusal(policy, "http://a.internal:8080/", "10.1.2.3") is None
    assert refusal(policy, "https://a.example:7/", "fd00:1::5") is None
    assert refusal(policy, "http://a.internal:8080/", "10.1.3.3") is not None
    with pytest.raises(BadInput):
        policy.target("http://10.1.2.3:8081/")


def test_a_url_that_only_a_network_could_lift_is_refused_where_it_leads_elsewhere():
    policy = read_policy("10.1.2.0/24")
    assert refusal(policy, "http://example.com/", "93.184.216.34") == (
        "its scheme is http, and only https is allowed"
    )


@pytest.mark.parametrize(
    "entry", ["0.0.0.0/0", "::/0", "169.0.0.0/8", "example.com", "fe00::/8"]
)
@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
                "::a9fe:a9fe", "168.63.129.16", "100.100.100.200", "192.0.0.192",
                "fd00:ec2::254", "fd20:ce::254", "64:ff9b::a83f:8110"],
)
def test_a_wide_entry_or_a_name_opens_no_address_of_credentials(entry, address):
    assert refusal(read_policy(entry), "https://example.com/", address) is not None


@pytest.mark.parametrize(
    ("entry", "address"),
    [("169.254.169.254", "169.254.169.254"), ("169.254.0.0/16", "169.254.1.1"),
     ("fe80::/10", "fe80::1"), ("168.63.129.16", "168.63.129.16")],
)
def test_an_entry_within_link_local_or_for_the_address_alone_opens_it(entry, address):
    assert refusal(read_policy(entry), "https://example.com/", address) is None


def test_the_line_for_a_name_that_leads_to_a_link_local_address_names_that_address():
    policy = read_policy("example.com:443")
    target = policy.target("https://example.com/")
    line = policy.line_for(target, ip_address("169.254.169.254"))
    assert line == "TALLYARD_OUTBOUND_ALLOW=example.com:443,169.254.169.254:443"
    assert refusal(
        read_policy(line.partition("=")[2]), "https://example.com/", "169.254.169.254"
    ) is None


@pytest.mark.parametrize(
    "text", ["https://a.example", "a.example/x", "10.1.2.3/24", "a b", "a:0", "a:65536", "a:x",
             "[a.example]:80", "[::1", "0x7f.1", "2130706433", "*.example", "10.0.0.0/33", "@"],
)
def test_what_is_no_entry_is_refused_by_its_text(text):
    with pytest.raises(SetupError, match="TALLYARD_OUTBOUND_ALLOW"):
        read_policy(f"good.example,{text}")


def test_no_entries_at_all_are_a_policy_too():
    assert read_policy(None) == read_policy("") == read_policy(" , ") == Policy()
