"""The stored deliveries, on PostgreSQL: listed, sent again, tested."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fakes.webhook_receiver import status
from sending_world import BOX, SendingWorld, sending_world
from standardwebhooks.webhooks import Webhook
from store_behaviours.deliveries import DeliveryBehaviours, DeliveryStores, a_test

from automations.delivery import DeliveryState
from automations.model import SlackAction, WebhookAction
from automations.secrets import new_signing_secret
from flows.automations.deliveries import refusal_of
from flows.automations.evaluate import examine
from ops.servers.children import wait_until
from spans.errors import NotFound
from spans.ids import AutomationId, DeliveryId, OrgId, uuid7
from store.automations.deliveries import StoredDeliveries

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[SendingWorld]:
    with sending_world(fresh_database_url) as world:
        yield world


@pytest.fixture
def deliveries(world: SendingWorld) -> StoredDeliveries:
    return StoredDeliveries(world.database)


class TestStoredDeliveries(DeliveryBehaviours):
    @pytest.fixture
    def stores(self, world: SendingWorld, deliveries: StoredDeliveries) -> DeliveryStores:
        number = world.watch("")
        ((automation_id, org_id),) = world.rows(
            """select automation.id, org_id from automation
                 join project on project.id = project_id"""
        )
        ends = itertools.count(1)

        def add(
            state: DeliveryState, created: datetime, carried_by: DeliveryId | None
        ) -> DeliveryId:
            delivery_id = DeliveryId(uuid.uuid4())
            with world.database.cursor() as cursor:
                cursor.execute(
                    """insert into delivery (id, project_id, automation_no, is_test, state,
                                             created, time_start, time_end, matches, body,
                                             carried_by)
                       values (%s, %s, %s, false, %s, %s, now(), now() + %s * interval '1 s',
                               3, '{}', %s)""",
                    (
                        delivery_id, world.where.project_id, number, state.value, created,
                        next(ends), carried_by,
                    ),
                )
            return delivery_id

        return DeliveryStores(
            deliveries=deliveries, org_id=OrgId(org_id), project_id=world.where.project_id,
            automation_id=AutomationId(automation_id), add=add,
        )


def resend(world: SendingWorld, deliveries: StoredDeliveries) -> dict[DeliveryId, str]:
    """Sends every delivery again; gives why some are not."""
    ids = [DeliveryId(each.id) for each in world.deliveries()]
    return deliveries.redeliver(ids, refusal_of).refused


def give_up(world: SendingWorld) -> None:
    """Makes every attempt of what is due, all of which fail."""
    world.receiver.behave(status(500))
    for _ in range(8):
        world.deliver()
        world.make_due()
    world.receiver.behave(status(204))


def test_a_delivered_one_is_sent_again_with_its_id_and_its_window_stays(world, deliveries):
    number = world.notify()
    world.deliver()
    before = world.state_of(number)
    assert resend(world, deliveries) == {}
    world.deliver()
    assert len(set(world.receiver.message_ids)) == 1
    assert len(world.receiver.requests) == 2
    assert world.deliveries()[0][:3] == ("delivered", 1, 2)
    assert world.state_of(number) == before


def test_a_delivered_one_that_fails_when_it_is_sent_again_stays_delivered(world, deliveries):
    number = world.notify()
    world.deliver()
    resend(world, deliveries)
    give_up(world)
    assert world.deliveries()[0].state == "delivered"
    assert world.state_of(number)["collected"] == 0


def test_an_abandoned_one_that_is_sent_again_takes_its_matches_along(world, deliveries):
    number = world.notify(interval_s=1)
    give_up(world)
    world.write({"id": "a later one"})
    with world.database.cursor() as cursor:   # so that nothing is due while this looks
        cursor.execute(
            """update automation_state set reported_until = now();
               update automation set config = jsonb_set(config, '{interval_seconds}', '3600')"""
        )
        cursor.execute("update automation_project set revision = revision + 1")
    world.look()
    assert world.state_of(number)["collected"] == 2
    assert resend(world, deliveries) == {}
    state = world.state_of(number)
    assert (state["collected"], state["delivery_id"]) == (1, str(world.deliveries()[0].id))
    world.deliver()
    state = world.state_of(number)
    assert (state["collected"], state["delivery_id"]) == (1, None)
    assert state["due_at"] is not None


def test_an_abandoned_one_that_fails_again_gives_its_matches_back(world, deliveries):
    number = world.notify()
    give_up(world)
    before = world.state_of(number)
    resend(world, deliveries)
    give_up(world)
    after = world.state_of(number)
    for name in ("collected", "first_at", "open_from", "reported_until", "delivery_id"):
        assert after[name] == before[name], name


def test_an_abandoned_one_whose_matches_a_later_one_carries_is_refused(world, deliveries):
    world.notify(interval_s=1)
    give_up(world)
    world.write({"id": "another"})
    world.look()
    first, second = world.deliveries()
    assert first.state == "abandoned"
    refused = resend(world, deliveries)
    assert list(refused) == [first.id]
    assert f"msg_{second.id.hex}" in refused[DeliveryId(first.id)]
    world.deliver()
    assert world.counts() == [1, 2]


def test_one_that_a_look_is_about_to_carry_waits_for_the_look_and_is_refused(
    world, deliveries
):
    world.notify(interval_s=1)
    give_up(world)
    world.write({"id": "another"})
    with ThreadPoolExecutor(1) as threads:
        with world.looks.look(world.where.project_id) as look:
            result = examine(look, lambda at: uuid7(at, os.urandom(10)))
            resent = threads.submit(resend, world, deliveries)
            assert wait_until(
                lambda: world.rows(
                    """select from pg_stat_activity
                        where datname = current_database() and wait_event_type = 'Lock'"""
                ),
                deadline_s=30,
            )
            look.write(result)
        refused = resent.result(timeout=30)
    first, second = world.deliveries()
    assert list(refused) == [first.id]
    assert f"msg_{second.id.hex}" in refused[DeliveryId(first.id)]


def test_one_that_waits_for_its_next_attempt_is_tried_now(world, deliveries):
    world.notify()
    world.receiver.behave(status(500), status(204))
    world.deliver()
    resend(world, deliveries)
    world.deliver()
    assert world.deliveries()[0][:3] == ("delivered", 2, 2)


def test_one_that_is_under_way_stays_as_it_is(world, deliveries):
    world.notify()
    found = []

    def look_then_answer(to) -> None:
        found.append(resend(world, deliveries))
        found.append(world.deliveries()[0].state)
        status(204)(to)

    world.receiver.behave(look_then_answer)
    world.deliver()
    assert found == [{}, "pending"]
    assert len(world.receiver.requests) == 1


def test_a_test_goes_where_its_action_says_and_its_secret_is_forgotten(world, deliveries):
    secret = new_signing_secret()
    action = WebhookAction(url=world.receiver.url, headers={"X-Team": "blue"})
    test = with_action(world, action, BOX.seal(secret), BOX.seal("Bearer abc"))
    deliveries.add_test(test, per_minute=5)
    world.deliver()
    (request,) = world.receiver.requests
    assert Webhook(secret).verify(request.body, request.headers) == {"a": 1}
    assert request.headers["authorization"] == "Bearer abc"
    assert request.headers["x-team"] == "blue"
    assert world.rows("select state, secret, authorization_header from delivery") == [
        ("delivered", None, None),
    ]


def test_a_message_to_slack_is_not_signed(world, deliveries):
    deliveries.add_test(
        with_action(world, SlackAction(url=world.receiver.url), None, None), per_minute=5
    )
    world.deliver()
    (request,) = world.receiver.requests
    assert not [name for name in request.headers if name.startswith("webhook-")]


def test_a_test_that_fails_is_not_tried_again_and_nothing_of_it_is_collected(
    world, deliveries
):
    number = world.watch("")
    world.receiver.behave(status(410))
    test = a_test(world.where.project_id)
    ((automation_id,),) = world.rows("select id from automation")
    with world.database.cursor() as cursor:
        cursor.execute(
            """update automation
                  set config = jsonb_set(config, '{action,url}', to_jsonb(%s::text))""",
            (world.receiver.url,),
        )
    deliveries.add_test(
        replace(test, automation_id=automation_id, action=None, secret=None), per_minute=5
    )
    world.deliver()
    assert world.deliveries()[0][:2] == ("failed", 1)
    state = world.state_of(number)
    assert (state["is_active"], state["collected"], state["failed_attempts"]) == (True, 0, 0)


def test_two_tests_at_once_are_not_both_the_last_one(world, deliveries):
    tests = [a_test(world.where.project_id) for _ in range(8)]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda one: deliveries.add_test(one, per_minute=2), tests))
    assert answers.count(None) == 2


def test_the_minute_of_tests_passes(world, deliveries):
    deliveries.add_test(a_test(world.where.project_id), per_minute=1)
    with world.database.cursor() as cursor:
        cursor.execute(
            "update delivery set created = %s", (datetime.now(UTC) - timedelta(seconds=61),)
        )
    assert deliveries.add_test(a_test(world.where.project_id), per_minute=1) is None


def with_action(world, action, secret, authorization):
    test = a_test(world.where.project_id)
    return replace(test, action=action, secret=secret, authorization=authorization)


def test_a_test_of_an_automation_that_was_deleted_meanwhile_is_not_stored(world, deliveries):
    gone = replace(
        a_test(world.where.project_id), automation_id=AutomationId(uuid.uuid4()), action=None,
        secret=None,
    )
    with pytest.raises(NotFound):
        deliveries.add_test(gone, per_minute=5)
    assert world.deliveries() == []
    assert world.deliver() == 0


def test_tests_of_a_clock_that_has_been_set_back_do_not_count(world, deliveries):
    deliveries.add_test(a_test(world.where.project_id), per_minute=1)
    with world.database.cursor() as cursor:
        cursor.execute("update delivery set created = created + interval '1 day'")
    assert deliveries.add_test(a_test(world.where.project_id), per_minute=1) is None
