"""The bell on a real Valkey: which rings send a message, and which process stays awake."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from spans.queues import MATCH
from wiring.bell import AWAKE_MS, Bell
from wiring.celery import make_celery


@pytest.fixture
def client(fresh_redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fresh_redis_url) as client:
        yield client


@pytest.fixture
def messages(client: redis.Redis) -> Callable[[], int]:
    """How many messages wait for a worker of the queue."""
    return lambda: int(client.llen(MATCH))


@pytest.fixture
def new_bell(fresh_redis_url: str) -> Iterator[Callable[[], Bell]]:
    """The bell of one more process."""
    with make_celery(fresh_redis_url) as celery:
        yield lambda: Bell(celery, fresh_redis_url)


def test_many_rings_send_one_message_until_a_worker_answers(
    new_bell: Callable[[], Bell], messages: Callable[[], int]
) -> None:
    api, worker = new_bell(), new_bell()
    for _ in range(3):
        api.ring_now(MATCH)
    assert messages() == 1
    worker.answer(MATCH)
    api.ring_now(MATCH)
    assert messages() == 2


def test_a_ring_sends_no_message_while_a_process_is_awake(
    new_bell: Callable[[], Bell], messages: Callable[[], int]
) -> None:
    api, worker, other = new_bell(), new_bell(), new_bell()
    assert worker.stay_awake(MATCH)
    api.ring_now(MATCH)
    other.answer(MATCH)      # beat rang for another process, which has less to do
    api.ring_now(MATCH)
    assert messages() == 0


def test_the_first_ring_after_a_process_fell_asleep_sends_a_message(
    new_bell: Callable[[], Bell], messages: Callable[[], int]
) -> None:
    api, worker = new_bell(), new_bell()
    assert worker.stay_awake(MATCH)
    api.ring_now(MATCH)
    worker.fall_asleep(MATCH)
    api.ring_now(MATCH)
    assert messages() == 1


def test_one_process_at_a_time_stays_awake(new_bell: Callable[[], Bell]) -> None:
    first, second = new_bell(), new_bell()
    assert first.stay_awake(MATCH)
    assert not second.stay_awake(MATCH)
    assert first.stay_awake(MATCH)
    first.fall_asleep(MATCH)
    assert second.stay_awake(MATCH)
    assert not first.stay_awake(MATCH)


def test_a_process_that_dies_awake_silences_rings_for_a_moment_only(
    new_bell: Callable[[], Bell], client: redis.Redis
) -> None:
    worker = new_bell()
    for _ in range(2):   # also when it says so again
        assert worker.stay_awake(MATCH)
        (key,) = client.keys("tallyard:awake:*")
        assert 0 < client.pttl(key) <= AWAKE_MS


def test_a_process_stays_awake_where_no_ring_could_wake_it() -> None:
    with make_celery("redis://127.0.0.1:1/0") as celery:
        bell = Bell(celery, "redis://127.0.0.1:1/0")
        assert bell.stay_awake(MATCH)
        bell.fall_asleep(MATCH)
