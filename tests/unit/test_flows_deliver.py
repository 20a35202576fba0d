"""The loop that sends deliveries, on stores and receivers in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fakes.memory.due_deliveries import MemoryDeliveryQueue, MemoryReceivers, a_delivery
from running_loop import running_loop
from standardwebhooks.webhooks import Webhook

from automations.outbound.request_end import HTTP_STATUS, RequestEnd
from automations.schedule import (
    ATTEMPTS_MAX,
    DISABLE_AFTER_S,
    Delivered,
    Failing,
    GivenUp,
    TryAgainIn,
)
from automations.secrets import SecretBox, new_signing_secret
from flows.automations.deliver import IN_FLIGHT, NO_KEY, WORKER_DIED, Sender
from spans.clock import system_clock
from spans.errors import StoreUnavailable

BOX = SecretBox(["a-key-of-the-tests-alone"])
TAKEN = RequestEnd(status=204)
BROKEN = RequestEnd(status=500, error_class=HTTP_STATUS, error_message="answered 500")
GONE = RequestEnd(status=410, error_class=HTTP_STATUS, error_message="answered 410")


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with running_loop() as running:
        yield running


@pytest.fixture
def store() -> MemoryDeliveryQueue:
    return MemoryDeliveryQueue()


def sender(
    store: MemoryDeliveryQueue, loop: asyncio.AbstractEventLoop,
    receivers: MemoryReceivers | None = None,
) -> Sender:
    return Sender(
        store=store, client=receivers or MemoryReceivers(), box=BOX, loop=loop,
        clock=system_clock, renew_s=60, spread=lambda: 0.5,
    )


def test_a_delivery_arrives_signed_by_both_secrets_and_with_its_headers(store, loop):
    secrets = [new_signing_secret(), new_signing_secret()]
    store.due = [
        a_delivery(
            body=b'{"count":3}', secrets=[BOX.seal(each) for each in secrets],
            headers={"X-Team": "blue"}, authorization=BOX.seal("Bearer abc"),
        )
    ]
    receivers = MemoryReceivers()
    assert sender(store, loop, receivers).run(stop_after_s=60) == 1
    (sent,) = receivers.sent
    for secret in secrets:
        assert Webhook(secret).verify(sent.body, sent.headers) == {"count": 3}
    assert sent.headers["X-Team"] == "blue"
    assert sent.headers["Authorization"] == "Bearer abc"
    (recorded,) = store.recorded
    assert recorded.then == Delivered()


def test_all_attempts_have_one_id_and_the_same_bytes(store, loop):
    store.due = [a_delivery(body=b"{}", secrets=[BOX.seal(new_signing_secret())])]
    receivers = MemoryReceivers(answers=[BROKEN, BROKEN, TAKEN])
    for _ in range(3):
        sender(store, loop, receivers).run(stop_after_s=60)
        store.pass_time()
    assert len(receivers.sent) == 3
    assert len({(each.headers["webhook-id"], each.body) for each in receivers.sent}) == 1
    assert [each.claim.attempt_no for each in store.recorded] == [1, 2, 3]


def test_after_the_last_attempt_a_delivery_is_given_up_and_its_automation_goes_on(store, loop):
    store.due = [a_delivery(attempt=ATTEMPTS_MAX - 1)]
    sender(store, loop, MemoryReceivers(answers=[BROKEN])).run(stop_after_s=60)
    assert store.recorded[0].then == GivenUp()
    assert store.paused == {}


def test_a_receiver_that_is_gone_pauses_its_automation_before_the_delivery_ends(store, loop):
    store.due = [a_delivery()]
    sender(store, loop, MemoryReceivers(answers=[GONE])).run(stop_after_s=60)
    assert "410" in store.paused[1]
    assert isinstance(store.recorded[0].then, GivenUp)


def test_five_days_without_a_success_pause_the_automation(store, loop):
    store.due = [a_delivery(failing=Failing(seconds=DISABLE_AFTER_S, attempts=11))]
    sender(store, loop, MemoryReceivers(answers=[BROKEN])).run(stop_after_s=60)
    assert "5 days, in 12 attempts" in store.paused[1]


def test_a_test_is_tried_once_and_pauses_nothing(store, loop):
    store.due = [a_delivery(is_test=True)]
    sender(store, loop, MemoryReceivers(answers=[GONE])).run(stop_after_s=60)
    assert store.recorded[0].then == GivenUp()
    assert store.paused == {}


@pytest.mark.parametrize(("attempt", "is_test"), [(ATTEMPTS_MAX, False), (1, True)])
def test_what_killed_its_workers_until_no_attempt_is_left_is_not_sent_again(
    store, loop, attempt, is_test
):
    store.due = [a_delivery(attempt=attempt, is_test=is_test)]
    receivers = MemoryReceivers()
    sender(store, loop, receivers).run(stop_after_s=60)
    assert receivers.sent == []
    assert store.recorded[0].end.error_class == WORKER_DIED
    assert store.recorded[0].then == GivenUp()


def test_without_the_key_of_its_secrets_nothing_is_sent_and_it_is_tried_again(store, loop):
    other = SecretBox(["another-key-of-the-tests"])
    store.due = [a_delivery(secrets=[other.seal(new_signing_secret())])]
    receivers = MemoryReceivers()
    sender(store, loop, receivers).run(stop_after_s=60)
    assert receivers.sent == []
    assert store.recorded[0].end.error_class == NO_KEY
    assert isinstance(store.recorded[0].then, TryAgainIn)


def test_a_store_that_is_away_for_a_moment_costs_no_second_request(store, loop):
    store.due = [a_delivery()]
    store.errors = [StoreUnavailable("away"), StoreUnavailable("away")]
    receivers = MemoryReceivers()
    sender(store, loop, receivers).run(stop_after_s=60)
    assert len(receivers.sent) == len(store.recorded) == 1


def test_more_than_fits_at_once_is_sent_in_one_run(store, loop):
    store.due = [a_delivery() for _ in range(3 * IN_FLIGHT)]
    assert sender(store, loop).run(stop_after_s=60) == 3 * IN_FLIGHT
    assert len(store.recorded) == 3 * IN_FLIGHT


def test_a_sender_whose_time_is_up_finishes_what_it_began_and_begins_nothing(store, loop):
    store.due = [a_delivery()]
    assert sender(store, loop).run(stop_after_s=0) == 0
    assert len(store.due) == 1


def test_an_unforeseen_error_ends_the_attempt_and_holds_up_no_other(store, loop, caplog):
    class Broken(MemoryReceivers):
        async def post(self, url, body, headers):
            if url.endswith("bad"):
                raise RuntimeError("nobody foresaw this")
            return await super().post(url, body, headers)

    store.due = [a_delivery(url="https://example.com/bad"), a_delivery()]
    sender(store, loop, Broken()).run(stop_after_s=60)
    assert {each.end.error_class for each in store.recorded} == {"bug", None}
    assert "nobody foresaw this" in caplog.text


def test_an_attempt_that_fails_is_in_the_log_with_its_reason(store, loop, caplog):
    store.due = [a_delivery()]
    sender(store, loop, MemoryReceivers([BROKEN])).run(stop_after_s=60)
    (line,) = caplog.messages
    assert line.startswith("delivery msg_")
    assert line.endswith("attempt 1 failed: http_status 500")


def test_a_sender_that_stops_gives_back_what_gets_no_answer(store, loop):
    class Silent(MemoryReceivers):
        async def post(self, url, body, headers):
            sending.stopping.set()
            await asyncio.Event().wait()

    store.due = [a_delivery()]
    sending = sender(store, loop, Silent())
    sending.finish_s = 0.1
    sending.run(stop_after_s=60)
    assert store.recorded == []
    assert store.is_waiting()


def test_what_a_receiver_answers_back_of_its_authorization_is_not_kept(store, loop):
    secret = new_signing_secret()
    store.due = [
        a_delivery(secrets=[BOX.seal(secret)], authorization=BOX.seal("Bearer abc-def"))
    ]
    echo = RequestEnd(status=200, answer='{"authorization": "Bearer abc-def", "x": "abc-def"}')
    sender(store, loop, MemoryReceivers(answers=[echo])).run(stop_after_s=60)
    assert "abc-def" not in store.recorded[0].end.answer
