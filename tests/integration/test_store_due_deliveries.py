"""Deliveries on PostgreSQL: claimed, sent to receivers on loopback, and recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from fakes.webhook_receiver import WebhookReceiver, never_answer, status
from sending_world import BOX, LEASE_S, SendingWorld, sending_world
from standardwebhooks.webhooks import Webhook

from automations.limits import PROJECT_IN_FLIGHT, endpoint_of
from automations.outbound.request_end import RequestEnd
from automations.schedule import Delivered
from ops.servers.children import wait_until
from store.automations.backlog import read_sending
from store.automations.due_deliveries import DueDeliveries
from store.postgres.database import Database
from store.postgres.leases import Leases

pytestmark = pytest.mark.every_postgres


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[SendingWorld]:
    with sending_world(fresh_database_url) as world:
        yield world


def test_a_notification_arrives_verifies_and_ends_its_window(world):
    number = world.notify(headers={"X-Team": "blue"})
    assert world.deliver() == 1
    (request,) = world.receiver.requests
    body = Webhook(world.secret).verify(request.body, request.headers)
    assert body["details"]["count"] == 1
    assert request.headers["x-team"] == "blue"
    (delivery,) = world.deliveries()
    assert delivery.state == "delivered"
    assert request.headers["webhook-id"] == f"msg_{delivery.id.hex}"
    state = world.state_of(number)
    assert (state["delivery_id"], state["collected"]) == (None, 0)
    assert state["reported_until"] is not None
    assert not world.sender().is_waiting


def test_operators_are_told_whose_receiver_fails_and_why(world):
    number = world.notify(name="errors")
    world.receiver.behave(status(500))
    world.deliver()
    (failing,) = read_sending(world.database).failing
    assert (failing.name, failing.project, failing.attempts) == ("errors", "app", 1)
    assert failing.reason == "the receiver answered 500"
    assert failing.since < failing.next_at
    with world.database.cursor() as cursor:
        cursor.execute(
            "update automation_state set is_active = false where automation_no = %s", (number,)
        )
    assert read_sending(world.database).failing == ()


def test_a_former_secret_signs_too_until_its_time_is_over(world):
    world.notify()
    former, world.secret = world.secret, "whsec_" + "bmV3IHNlY3JldCBvZiAyNCBieXRlcyBvciBt"
    with world.database.cursor() as cursor:
        cursor.execute(
            """update automation set former_secret = secret, secret = %s,
                      former_secret_until = now() + interval '1 hour'""",
            (BOX.seal(world.secret),),
        )
    world.receiver.behave(status(500), status(204))
    world.deliver()
    with world.database.cursor() as cursor:
        cursor.execute("update automation set former_secret_until = now() - interval '1 s'")
    world.make_due()
    world.deliver()
    signatures = [each.headers["webhook-signature"] for each in world.receiver.requests]
    assert [len(each.split()) for each in signatures] == [2, 1]
    assert Webhook(former).verify(
        world.receiver.requests[0].body, world.receiver.requests[0].headers
    )


def test_a_failure_waits_for_its_next_attempt_with_the_same_id_and_bytes(world):
    world.notify()
    world.receiver.behave(status(500, "no disk"), status(204))
    world.deliver()
    assert world.deliveries()[0].state == "pending"
    assert not world.sender().is_waiting
    assert world.deliver() == 0
    world.make_due()
    world.deliver()
    assert len(set(world.receiver.message_ids)) == 1
    assert len({each.body for each in world.receiver.requests}) == 1
    assert [each[:3] for each in world.attempts()] == [
        (1, 500, "http_status"), (2, 204, None),
    ]
    assert world.rows("select response from delivery_attempt order by 1") == [
        ("",), ("no disk",),
    ]


def test_a_notification_that_is_given_up_gives_its_matches_to_the_next_one(world):
    number = world.notify(interval_s=1)
    world.receiver.behave(status(500))
    for _ in range(8):
        world.deliver()
        world.make_due()
    assert [each.state for each in world.deliveries()] == ["abandoned"]
    assert world.state_of(number)["collected"] == 1
    world.write({"id": "another"})
    world.receiver.behave(status(204))
    world.look()
    world.deliver()
    first, second = world.deliveries()
    assert (first.state, second.state) == ("abandoned", "delivered")
    assert world.counts() == [1, 2]
    assert world.rows("select carried_by from delivery where state = 'abandoned'") == [
        (second.id,),
    ]


def test_the_wait_that_a_busy_receiver_asks_for_is_kept(world):
    world.notify()
    world.receiver.behave(status(429, retry_after="1800"))
    world.deliver()
    ((wait_s,),) = world.rows(
        "select extract(epoch from next_attempt_at - now())::float8 from delivery"
    )
    assert 1700 < wait_s <= 1800


def test_a_receiver_that_is_gone_pauses_its_automation_and_says_why(world):
    number = world.notify()
    world.receiver.behave(status(410))
    world.deliver()
    state = world.state_of(number)
    assert (state["is_active"], state["collected"], state["due_at"]) == (False, 1, None)
    assert "410" in state["disabled_reason"]
    assert world.rows("select config ->> 'status' from automation") == [("paused",)]
    assert world.rows("select active from automation_project") == [(0,)]
    assert world.deliveries()[0].state == "abandoned"


def test_an_automation_that_has_another_url_by_now_is_not_paused_for_the_former_one(world):
    number = world.notify()

    def change_then_answer(to) -> None:
        with world.database.cursor() as cursor:
            cursor.execute(
                "update automation set config = jsonb_set(config, '{action,url}', %s::jsonb)",
                ('"https://example.com/"',),
            )
        status(410)(to)

    world.receiver.behave(change_then_answer)
    world.deliver()
    state = world.state_of(number)
    assert (state["is_active"], state["disabled_reason"], state["collected"]) == (True, None, 1)


def test_five_days_of_failures_pause_an_automation(world):
    number = world.notify()
    world.receiver.behave(status(503))
    world.deliver()
    with world.database.cursor() as cursor:
        cursor.execute(
            """update automation_state set failing_since = now() - interval '6 days',
                      failed_attempts = 11"""
        )
    world.make_due()
    world.deliver()
    assert world.state_of(number)["disabled_reason"].startswith(
        "the receiver took nothing for 6 days, in 12 attempts"
    )


def test_a_success_ends_the_count_of_failures(world):
    number = world.notify()
    world.receiver.behave(status(503), status(204))
    world.deliver()
    assert world.state_of(number)["failed_attempts"] == 1
    world.make_due()
    world.deliver()
    state = world.state_of(number)
    assert (state["failed_attempts"], state["failing_since"]) == (0, None)


def test_what_is_paused_waits_and_goes_out_when_it_is_resumed(world):
    number = world.notify()
    with world.database.cursor() as cursor:
        cursor.execute("update automation_state set is_active = false")
    assert not world.sender().is_waiting
    assert world.deliver() == 0
    with world.database.cursor() as cursor:
        cursor.execute(
            "update automation_state set is_active = true where automation_no = %s", (number,)
        )
    assert world.deliver() == 1


def test_a_changed_url_counts_from_the_next_attempt_on_and_the_body_stays(world):
    with WebhookReceiver() as other:
        world.notify()
        world.receiver.behave(status(500))
        world.deliver()
        with world.database.cursor() as cursor:
            cursor.execute(
                """update automation
                      set config = jsonb_set(config, '{action,url}', to_jsonb(%s::text))""",
                (other.url,),
            )
        world.make_due()
        world.deliver()
        assert other.requests[0].body == world.receiver.requests[0].body
        assert other.message_ids == world.receiver.message_ids


def test_an_automation_that_is_deleted_while_it_is_sent_leaves_nothing(world):
    world.notify()

    def delete_then_answer(to) -> None:
        with world.database.cursor() as cursor:
            cursor.execute("delete from automation")
        status(500)(to)

    world.receiver.behave(delete_then_answer)
    world.deliver()
    assert world.deliveries() == []
    assert world.attempts() == []


def test_a_worker_that_dies_between_request_and_record_sends_again_with_the_same_id(world):
    world.notify()
    dying = Database(world.url)
    claimed = DueDeliveries(dying, lease_s=LEASE_S).claim(9).claims
    assert len(claimed) == 1
    dying.close()
    assert world.attempts() == [(1, None, None, None)]   # what is known of the dead one's
    assert world.deliver() == 0
    assert wait_until(
        lambda: Leases(world.database, lease_s=LEASE_S).release_abandoned() == 1, deadline_s=20
    )
    world.deliver()
    assert world.deliveries()[0][:3] == ("delivered", 2, 2)
    assert [each.status for each in world.attempts()] == [None, 204]


def test_a_result_that_comes_after_another_worker_took_over_does_not_count(world):
    world.notify()
    queue = DueDeliveries(world.database, lease_s=LEASE_S)
    (first,) = queue.claim(1).claims
    queue.release()
    (second,) = queue.claim(1).claims
    assert not queue.record(first, RequestEnd(status=204), Delivered())
    assert world.deliveries()[0].state == "pending"
    assert queue.record(second, RequestEnd(status=204), Delivered())
    assert [each.status for each in world.attempts()] == [204, 204]
    assert world.rows("select state, sum(value) from (select labels ->> 'state' as state, value"
                      " from counter where name = 'deliveries') c group by state") == [
        ("delivered", 1.0),
    ]


def test_two_workers_send_each_delivery_once_and_keep_the_limit_together(world):
    for number in range(12):
        world.notify(name=f"n{number}", url=f"{world.receiver.url}/{number}")
    other = Database(world.url)
    is_held = threading.Event()
    everyone = threading.Barrier(PROJECT_IN_FLIGHT)

    def answer_when_all_are_here(to) -> None:
        if not is_held.is_set():
            everyone.wait(timeout=60)
            is_held.set()
        status(204)(to)

    world.receiver.behave(answer_when_all_are_here)
    with ThreadPoolExecutor() as pool:
        both = [
            pool.submit(world.sender(database).run, 60)
            for database in (world.database, other)
        ]
        assert sum(each.result() for each in both) == 12
    assert len(set(world.receiver.message_ids)) == len(world.receiver.requests) == 12
    assert world.receiver.in_flight_max <= PROJECT_IN_FLIGHT
    other.close()


def test_an_endpoint_gets_two_at_a_time_and_the_others_are_not_held_up(world):
    slow, fast = WebhookReceiver(), WebhookReceiver()
    with slow, fast:
        slow.behave(never_answer)
        for number in range(6):
            world.notify(name=f"slow {number}", url=slow.url)
        for number in range(6):
            world.notify(name=f"fast {number}", url=f"{fast.url}/{number}")
        sending = world.sender(deadline_s=60)
        sending.finish_s = 0.0
        running = threading.Thread(target=sending.run, args=(60,))
        running.start()
        assert wait_until(lambda: len(fast.requests) == 6, deadline_s=30)
        sending.stopping.set()
        running.join()
    assert slow.in_flight_max == 2


def test_an_endpoint_gets_60_in_a_minute_and_the_rest_later(world):
    number = world.notify()
    with world.database.cursor() as cursor:
        cursor.execute(
            """insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint,
                                             run_ms)
               select id, n, project_id, %s, 1 from delivery, generate_series(101, 157) n""",
            (endpoint_of(world.receiver.url),),
        )
        cursor.execute(
            """insert into delivery (id, project_id, automation_no, is_test, state, time_start,
                                     time_end, matches, body)
               select gen_random_uuid(), project_id, automation_no, false, 'pending',
                      time_start, time_end + n * interval '1 s', 1, '{}'
                 from delivery, generate_series(1, 12) n where automation_no = %s""",
            (number,),
        )
    world.deliver()
    assert len(world.receiver.requests) == 3
    ((waiting, first_s, last_s),) = world.rows(
        """select count(*), extract(epoch from min(next_attempt_at) - now())::float8,
                  extract(epoch from max(next_attempt_at) - now())::float8
             from delivery where state = 'pending'"""
    )
    assert waiting == 10
    assert 0 < first_s < last_s <= 70


def test_one_projects_thousand_deliveries_leave_the_first_places_to_others(world):
    number = world.notify()
    with world.database.cursor() as cursor:
        cursor.execute(
            """insert into delivery (id, project_id, automation_no, is_test, state, time_start,
                                     time_end, matches, body, next_attempt_at)
               select gen_random_uuid(), project_id, automation_no, false, 'pending',
                      time_start, time_end + n * interval '1 s', 1, '{}',
                      now() - interval '1 hour'
                 from delivery, generate_series(1, 1000) n where automation_no = %s""",
            (number,),
        )
    other = SendingWorld(world.url, world.loop, project="another")
    with other.receiver:
        other.notify(name="other")
        claims = DueDeliveries(world.database, lease_s=LEASE_S).claim(4).claims
        assert other.where.project_id in {each.project_id for each in claims}
    other.close()


def test_a_project_that_a_dead_worker_was_sending_for_is_not_rung_for_without_an_end(world):
    world.notify()
    with world.database.cursor() as cursor:
        cursor.execute(
            """insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint)
               select id, -n, project_id, '\\x00' from delivery, generate_series(1, %s) n""",
            (PROJECT_IN_FLIGHT,),
        )
    sender = world.sender()
    assert sender.run(stop_after_s=60) == 0
    assert not sender.is_waiting
    assert world.sender().is_waiting   # it is due for who is rung for later


def test_a_deleted_project_sends_nothing(world):
    world.notify()
    with world.database.cursor() as cursor:
        cursor.execute("update project set deleted_at = now()")
    assert world.deliver() == 0
    assert not world.sender().is_waiting   # or its queue would be rung without an end
    assert read_sending(world.database).pending == 0


def test_a_clock_that_is_set_back_delays_no_delivery_and_blocks_no_endpoint(world):
    world.receiver.behave(status(500), status(204))
    world.notify()
    world.deliver()
    with world.database.cursor() as cursor:
        # As it is after a day back: it was tried tomorrow, often, and by workers that died.
        cursor.execute("update delivery set next_attempt_at = now() + interval '23 hours'")
        cursor.execute(
            """insert into delivery_attempt (delivery_id, attempt_no, project_id, endpoint,
                                             started_at)
               select delivery_id, attempt_no + number, project_id, endpoint,
                      now() + interval '1 day'
                 from delivery_attempt, generate_series(1, 700) number"""
        )
        cursor.execute("update delivery set attempt_no = 701")
        cursor.execute("update version_time set last_at = last_at + interval '1 day'")
    world.looks.mark_time()
    assert world.deliver() == 1
    assert world.deliveries()[0].state == "delivered"


def test_a_store_that_is_restarted_while_an_answer_comes_costs_no_second_request(world):
    world.notify()

    def cut_then_answer(to) -> None:
        with psycopg.connect(
            world.url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True
        ) as other:
            other.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                    where application_name like 'tallyard %'
                      and datname = current_database()"""
            )
        status(204)(to)

    world.receiver.behave(cut_then_answer)
    world.deliver()
    assert len(world.receiver.requests) == 1
    assert world.deliveries()[0].state == "delivered"
