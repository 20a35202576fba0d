"""The client for users' addresses: what it sends, and what a hostile peer gets out of it."""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes.webhook_receiver import (
    Behaviour,
    WebhookReceiver,
    drip_body,
    drip_headers,
    endless_headers,
    flood_body,
    hang_up,
    never_answer,
    no_http,
    redirect_to,
    reset,
    status,
    too_short,
)

from automations.outbound.client import OutboundClient
from automations.outbound.policy import read_policy
from automations.outbound.request_end import BROKEN_ANSWER, NOT_CONNECTED, RequestEnd
from spans.clock import system_clock

BODY = b'{"a":1}'
LOOPBACK = "127.0.0.0/8"
SHORT_S = 1.0
MEMORY_MB = 64
"""What an attempt at most may add to this process, whatever its peer sends."""


def post(
    url: str, *, allow: str = LOOPBACK, headers: dict[str, str] | None = None,
    deadline_s: float = 30.0, lookup: Callable[[str, int], Awaitable[list[str]]] | None = None,
    proxy: str | None = None,
) -> RequestEnd:
    async def attempt() -> RequestEnd:
        client = OutboundClient(
            read_policy(allow), clock=system_clock, lookup=lookup, deadline_s=deadline_s,
            proxy=proxy,
        )
        try:
            return await client.post(url, BODY, headers or {})
        finally:
            await client.close()

    return asyncio.run(attempt())


def names(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A name server that gives these answers in turn, the last one for ever."""
    left = list(answers)

    async def lookup(_host: str, _port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return lookup


def test_the_bytes_and_headers_arrive_as_they_are():
    with WebhookReceiver() as receiver:
        end = post(receiver.url, headers={"webhook-id": "msg_1", "X-Team": "blue"})
    (request,) = receiver.requests
    assert (end.is_ok, end.status, end.address_family) == (True, 204, "ipv4")
    assert request.line == "POST /hook HTTP/1.1"
    assert request.body == BODY
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "msg_1"
    assert request.headers["x-team"] == "blue"
    assert "accept-encoding" not in request.headers
    assert "cookie" not in request.headers


def test_a_header_of_the_users_own_replaces_none_of_the_connections():
    with WebhookReceiver() as receiver:
        post(receiver.url, headers={"X-Host": "other"})
        assert receiver.requests[0].headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_only_a_status_of_the_200s_is_a_success(code):
    with WebhookReceiver() as receiver:
        receiver.behave(status(code))
        assert post(receiver.url).is_ok


@pytest.mark.parametrize("code", [300, 305, 400, 401, 404, 410, 429, 500, 503, 599])
def test_any_other_status_is_a_failure_that_names_it(code):
    with WebhookReceiver() as receiver:
        receiver.behave(status(code, "go away"))
        end = post(receiver.url)
    assert (end.error_class, end.status, end.is_ok) == ("http_status", code, False)
    assert end.answer == "go away"


def test_a_redirect_is_not_followed():
    with WebhookReceiver() as inner, WebhookReceiver() as receiver:
        receiver.behave(redirect_to(inner.url))
        end = post(receiver.url)
        assert (end.status, end.error_class) == (302, "http_status")
        assert inner.connections == 0


@pytest.mark.parametrize("behaviour", [drip_body, drip_headers, never_answer])
def test_no_peer_holds_an_attempt_past_its_deadline(behaviour: Behaviour):
    with WebhookReceiver() as receiver:
        receiver.behave(behaviour)
        began = time.monotonic()
        end = post(receiver.url, deadline_s=SHORT_S)
        took_s = time.monotonic() - began
    assert end.error_class == "timeout"
    assert SHORT_S <= took_s < 15   # far more than a busy machine needs, and less than for ever


@pytest.mark.parametrize("behaviour", [flood_body, endless_headers])
def test_an_endless_answer_is_cut_and_fills_no_memory(behaviour: Behaviour):
    with WebhookReceiver() as receiver:
        receiver.behave(behaviour)
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = post(receiver.url, deadline_s=30)
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert end.run_ms < 30_000   # it was cut, not timed out
    assert grown_mb < MEMORY_MB
    assert len(end.answer or "") <= 1024


@pytest.mark.parametrize("behaviour", [hang_up, reset, too_short, no_http])
def test_an_answer_that_breaks_off_or_is_none_is_a_failure(behaviour: Behaviour):
    with WebhookReceiver() as receiver:
        receiver.behave(behaviour)
        end = post(receiver.url)
    assert (end.error_class, end.is_ok) == ("broken_answer", False)


def test_a_packed_answer_is_not_unpacked():
    with WebhookReceiver() as receiver:
        receiver.behave(status(200, "not gzip at all", content_encoding="gzip"))
        assert post(receiver.url).answer == "not gzip at all"


def test_the_wait_that_the_peer_asks_for_is_told():
    with WebhookReceiver() as receiver:
        receiver.behave(status(429, retry_after="120"))
        assert post(receiver.url).retry_after_s == 120


def test_a_closed_port_and_a_refused_address_and_a_name_without_one_look_the_same(caplog):
    async def nothing(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    with WebhookReceiver() as gone:
        closed = gone.url
    ends = [
        post(closed),
        post("https://inside.example/", allow="", lookup=names(["10.0.0.1"])),
        post("https://[fd00::1]/", allow=""),
        post("https://nowhere.example/", allow="", lookup=nothing),
    ]
    told = {(end.error_class, end.error_message, end.address_family) for end in ends}
    assert told == {("unreachable", NOT_CONNECTED, None)}


def test_the_operator_gets_the_line_to_set_and_no_secret_of_the_url(caplog):
    with caplog.at_level(logging.WARNING):
        post(
            "https://inside.example/secret/path?token=1", allow="192.0.2.0/24",
            lookup=names(["10.0.0.1"]),
        )
    assert "TALLYARD_OUTBOUND_ALLOW=192.0.2.0/24,inside.example:443" in caplog.text
    assert "10.0.0.1 is not public" in caplog.text
    assert "secret" not in caplog.text
    assert "token" not in caplog.text


def test_one_refused_address_among_several_refuses_the_name():
    with WebhookReceiver() as receiver:
        end = post(
            f"http://mixed.example:{receiver.port}/", allow="127.0.0.1",
            lookup=names(["127.0.0.1", "10.0.0.1"]),
        )
        assert end.error_class == "unreachable"
        assert receiver.connections == 0


def test_a_name_that_rebinds_is_refused_at_the_attempt_in_which_it_does():
    with WebhookReceiver() as receiver:
        lookup = names(["127.0.0.1"], ["127.0.0.2"])
        url = f"http://rebinds.example:{receiver.port}/"

        async def both() -> list[RequestEnd]:
            client = OutboundClient(
                read_policy("127.0.0.1"), clock=system_clock, lookup=lookup
            )
            try:
                return [await client.post(url, BODY, {}) for _ in range(2)]
            finally:
                await client.close()

        first, second = asyncio.run(both())
        assert first.is_ok
        assert second.error_class == "unreachable"
        assert receiver.connections == 1


def test_an_entry_for_a_name_allows_what_it_stands_for_and_no_other_name():
    with WebhookReceiver() as receiver:
        allow = f"good.internal:{receiver.port}"
        good = post(
            f"http://good.internal:{receiver.port}/", allow=allow, lookup=names(["127.0.0.1"])
        )
        other = post(
            f"http://other.internal:{receiver.port}/", allow=allow, lookup=names(["127.0.0.1"])
        )
    assert good.is_ok
    assert other.error_class == "unreachable"


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    with WebhookReceiver() as receiver, WebhookReceiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert post(receiver.url).is_ok
        assert proxy.connections == 0


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    with WebhookReceiver(tls=_own_certificate(tmp_path)) as receiver:
        end = post(receiver.url)
    assert end.error_class == "tls"
    assert receiver.requests == []


def _own_certificate(folder) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_with_a_proxy_the_name_is_left_to_the_proxy_and_the_url_is_still_judged():
    with WebhookReceiver() as proxy:
        by = f"http://127.0.0.1:{proxy.port}"
        end = post("http://hook.test/x", allow="hook.test", proxy=by)
        refused = post("http://other.test/x", allow="hook.test", proxy=by)
    (request,) = proxy.requests
    assert end.is_ok
    assert request.line == "POST http://hook.test/x HTTP/1.1"
    assert refused.error_message == NOT_CONNECTED


def test_a_proxy_that_refuses_to_connect_looks_like_an_address_that_is_refused():
    with WebhookReceiver() as proxy:
        proxy.behave(status(403))
        end = post("https://hook.test/x", proxy=f"http://127.0.0.1:{proxy.port}")
    (request,) = proxy.requests
    assert request.line == "CONNECT hook.test:443 HTTP/1.1"
    assert (end.status, end.error_message) == (None, NOT_CONNECTED)


def test_a_malformed_answer_tells_nobody_the_path_of_the_url():
    with WebhookReceiver() as receiver:
        receiver.behave(no_http)
        end = post(f"{receiver.url}/T0/B0/very-secret?token=also-secret")
    assert end.error_class == BROKEN_ANSWER
    assert "secret" not in end.error_message
    assert "hook" not in end.error_message


def test_with_a_proxy_an_entry_for_a_network_lifts_no_rule_for_a_name():
    with WebhookReceiver() as proxy:
        end = post("http://other.test/x", proxy=f"http://127.0.0.1:{proxy.port}")
    assert proxy.requests == []
    assert end.error_message == NOT_CONNECTED
