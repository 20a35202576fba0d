"""The use cases of deliveries, over stores in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from fakes.memory.deliveries import MemoryDeliveries
from memory_tallyard import MemoryTallyard
from store_behaviours.automations import fields
from store_behaviours.deliveries import START, a_report

from automations.delivery import Delivery, DeliveryState
from automations.model import Automation, SlackAction
from flows.access.principal import KeyRole, Principal
from flows.access.projects import ListPage
from flows.automations.deliveries import (
    REDELIVERED_MAX,
    TESTS_PER_MINUTE,
    Deliveries,
    RedeliveryRange,
    TooManyTests,
    delivery_json,
    read_delivery_id,
)
from flows.automations.trial import TrialMessage
from spans.errors import BadInput, Forbidden, NotFound
from spans.ids import DeliveryId

PAGE = ListPage(limit=10)
ALL = RedeliveryRange(
    since=START, until=START + timedelta(days=1), states=frozenset(DeliveryState)
)


class Sending:
    """The use cases of one project with an automation. `now_s` passes while they wait."""

    def __init__(self) -> None:
        self.tallyard = MemoryTallyard()
        self.admin = self.tallyard.admin
        self.project_id = self.tallyard.project("app")
        self.automation: Automation = self.tallyard.automations.make(
            self.admin, self.project_id, fields(), replace=False
        ).automation
        self.store = MemoryDeliveries(self.tallyard.stored_projects, self.tallyard.clock)
        self.now_s = 0.0
        self.rings = 0
        self.use_cases = Deliveries(
            self.store, automations=self.tallyard.automations, projects=self.tallyard.projects,
            seal=self.tallyard.secrets.seal, ring=self.ring, clock=self.tallyard.clock,
            pause=self.pass_s, seconds=lambda: self.now_s,
        )

    def ring(self) -> None:
        self.rings += 1

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def notification(
        self, state: DeliveryState = DeliveryState.DELIVERED, *, minutes: int = 0,
        carried_by: DeliveryId | None = None, is_test: bool = False,
    ) -> DeliveryId:
        delivery = Delivery(
            id=DeliveryId(uuid.uuid4()), project_id=self.project_id,
            automation_id=self.automation.id,
            automation_name=self.automation.name, is_test=is_test, state=state,
            created=START + timedelta(minutes=minutes), report=a_report(), attempts=1,
            next_attempt_at=START, carried_by=carried_by,
        )
        self.store.add(delivery)
        return delivery.id

    def message(self, automation: Automation | None = None, **given: object) -> TrialMessage:
        return TrialMessage(**{
            "automation": automation or self.automation, "is_stored": automation is None,
            "authorization": None, "report": a_report(), "body": b"{}", **given,
        })

    def answer_tests(self, **changes: object) -> None:
        self.store.send = lambda test: self.store.change(test.id, **changes)


@pytest.fixture
def sending() -> Sending:
    return Sending()


CALLS: list[Callable[[Sending, Principal, DeliveryId], object]] = [
    lambda s, who, one: s.use_cases.get(who, one),
    lambda s, who, one: s.use_cases.redeliver(who, one),
    lambda s, who, _: s.use_cases.redeliver_range(who, s.automation.id, ALL),
    lambda s, who, _: s.use_cases.list(who, PAGE, automation_id=s.automation.id),
    lambda s, who, _: s.use_cases.send_test(who, s.message()),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_stranger_finds_nothing_and_nothing_is_sent(sending, call):
    made = sending.notification()
    for who in (
        sending.tallyard.stranger(),
        sending.tallyard.caller(project_id=sending.tallyard.project("other")),
    ):
        with pytest.raises(NotFound):
            call(sending, who, made)
    assert sending.rings == 0
    assert sending.store.tests == []


@pytest.mark.parametrize("call", [CALLS[1], CALLS[2], CALLS[4]])
def test_a_key_that_reads_sends_nothing(sending, call):
    with pytest.raises(Forbidden):
        call(sending, sending.tallyard.caller(KeyRole.READ), sending.notification())


def test_a_key_that_reads_sees_what_was_sent(sending):
    made = sending.notification()
    reader = sending.tallyard.caller(KeyRole.READ, sending.project_id)
    assert sending.use_cases.get(reader, made).delivery.id == made
    assert [each.id for each in sending.use_cases.list(reader, PAGE)] == [made]


def test_a_list_is_of_one_project_for_a_key_of_one(sending):
    sending.notification()
    other = sending.tallyard.caller(KeyRole.READ, sending.tallyard.project("other"))
    assert sending.use_cases.list(other, PAGE) == []


def test_what_is_sent_again_rings_for_a_worker(sending):
    found = sending.use_cases.redeliver(sending.admin, sending.notification())
    assert found.delivery.state is DeliveryState.PENDING
    assert sending.rings == 1


def test_a_carried_notification_names_the_one_to_send_instead(sending):
    later = sending.notification(minutes=1)
    made = sending.notification(DeliveryState.ABANDONED, carried_by=later)
    with pytest.raises(BadInput, match=f"msg_{later.hex}"):
        sending.use_cases.redeliver(sending.admin, made)
    assert sending.rings == 0


def test_a_test_is_not_sent_again(sending):
    with pytest.raises(BadInput, match="send a new one"):
        sending.use_cases.redeliver(sending.admin, sending.notification(is_test=True))


def test_a_range_sends_what_it_can_and_says_why_not_the_rest(sending):
    sent = [sending.notification(minutes=number) for number in range(3)]
    carried = sending.notification(DeliveryState.ABANDONED, minutes=4, carried_by=sent[0])
    done = sending.use_cases.redeliver_range(sending.admin, sending.automation.id, ALL)
    assert done.sent == 3
    assert list(done.refused) == [carried]


def test_a_range_of_too_many_is_refused_before_one_is_sent(sending):
    for number in range(REDELIVERED_MAX + 1):
        sending.notification(minutes=number % 60)
    with pytest.raises(BadInput, match="narrow"):
        sending.use_cases.redeliver_range(sending.admin, sending.automation.id, ALL)
    assert sending.rings == 0


def test_a_range_that_ends_before_it_begins_is_refused(sending):
    wanted = RedeliveryRange(since=START, until=START, states=frozenset(DeliveryState))
    with pytest.raises(BadInput, match="until"):
        sending.use_cases.redeliver_range(sending.admin, sending.automation.id, wanted)


def test_the_test_of_a_stored_automation_is_signed_as_it_is(sending):
    sending.answer_tests(state=DeliveryState.DELIVERED)
    sent = sending.use_cases.send_test(sending.admin, sending.message())
    (test,) = sending.store.tests
    assert (sent.delivered, sent.secret, sent.error) == (True, None, None)
    assert (test.automation_id, test.action, test.secret) == (sending.automation.id, None, None)


def test_the_test_of_another_automation_is_signed_with_a_secret_shown_once(sending):
    sending.answer_tests(state=DeliveryState.DELIVERED)
    message = sending.message(sending.automation, authorization="Bearer abc")
    sent = sending.use_cases.send_test(sending.admin, message)
    (test,) = sending.store.tests
    assert test.automation_id is None
    assert test.action == sending.automation.action
    box = sending.tallyard.secrets
    assert box.open(test.secret) == sent.secret
    assert box.open(test.authorization) == "Bearer abc"
    assert "whsec" not in repr(sent)
    assert "Bearer" not in repr(message)


def test_a_test_of_slack_has_no_secret(sending):
    sending.answer_tests(state=DeliveryState.DELIVERED)
    slack = SlackAction(url="https://hooks.slack.com/services/T/B/x")
    draft = replace(sending.automation, action=slack)
    assert sending.use_cases.send_test(sending.admin, sending.message(draft)).secret is None


def test_a_test_that_fails_tells_its_error(sending):
    sending.answer_tests(state=DeliveryState.FAILED, last_error="the receiver answered 500")
    sent = sending.use_cases.send_test(sending.admin, sending.message())
    assert (sent.delivered, sent.error) == (False, "the receiver answered 500")


def test_a_test_that_no_worker_sends_says_so_after_20_seconds(sending):
    sent = sending.use_cases.send_test(sending.admin, sending.message())
    assert not sent.delivered
    assert "no worker" in sent.error
    assert 20 <= sending.now_s < 21


def test_a_project_has_five_tests_in_a_minute_and_is_told_when_the_next(sending):
    sending.answer_tests(state=DeliveryState.DELIVERED)
    for _ in range(TESTS_PER_MINUTE):
        sending.use_cases.send_test(sending.admin, sending.message())
    with pytest.raises(TooManyTests) as caught:
        sending.use_cases.send_test(sending.admin, sending.message())
    assert 0 < caught.value.retry_after_s <= 60
    sending.tallyard.clock.pass_s(61)
    assert sending.use_cases.send_test(sending.admin, sending.message()).delivered


def test_a_body_that_is_too_large_is_not_sent(sending):
    with pytest.raises(BadInput, match="bytes"):
        sending.use_cases.send_test(sending.admin, sending.message(body=b"x" * 300_000))


def test_a_delivery_is_named_by_either_of_its_ids(sending):
    made = sending.notification()
    told = delivery_json(sending.use_cases.get(sending.admin, made).delivery)
    assert read_delivery_id(told["id"]) == read_delivery_id(told["webhook_id"]) == made
    assert read_delivery_id("msg_x") is None

