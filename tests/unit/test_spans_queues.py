"""One table of queues: what is derived from it, and that a line is enough to add one."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from api.metrics import queue_families
from flows.health.measurements import QueueDepth
from ops.servers.processes import processes
from spans.queues import (
    AUTOMATIONS,
    HEAVY,
    JUDGE,
    MATCH,
    QUEUES,
    SANDBOX,
    UPKEEP,
    Holds,
    Queue,
    Worker,
    queues_of_outcomes,
    worker_names,
)
from store.scoring.queues import depths_of_all
from wiring.celery import make_celery, task_annotations, time_limits_s
from wiring.settings import Settings, read_settings
from workers.process import QUEUE_RUNS
from workers.tasks import register

EXAMPLE = Queue(
    name="example", task="tallyard.example",
    worker=Worker(name="example", processes="match_processes"),
    holds=Holds.OUTCOMES, ring_s=7.0, time_limit="invoke_timeout_s",
)
MORE = (*QUEUES, EXAMPLE)


@pytest.fixture
def celery():
    return make_celery("redis://", MORE)


def test_celery_has_an_added_queue_and_its_route(celery):
    assert EXAMPLE.name in celery.amqp.queues
    assert celery.conf.task_routes[EXAMPLE.task] == {"queue": EXAMPLE.name}
    assert celery.amqp.router.route({}, EXAMPLE.task)["queue"].name == EXAMPLE.name


def test_beat_rings_for_an_added_queue(celery):
    assert celery.conf.beat_schedule["ring example"] == {
        "task": "tallyard.example", "schedule": 7.0, "options": {"expires": 7.0},
    }


def test_celery_has_the_task_of_an_added_queue(celery):
    register(celery, MORE)
    assert {queue.task for queue in MORE} <= set(celery.tasks)


def test_the_task_of_an_added_queue_has_its_time_limit():
    settings = read_settings({})
    limit_s = float(settings.invoke_timeout_s)
    assert task_annotations(settings, MORE)[EXAMPLE.task] == {"time_limit": limit_s}
    assert task_annotations(settings) == {
        "tallyard.score_heavy": {"time_limit": float(settings.heavy_timeout_s)}
    }


def test_an_added_queue_with_a_time_limit_is_among_those_whose_leases_are_longer():
    settings = read_settings({})
    assert time_limits_s(settings, MORE) == {
        HEAVY: float(settings.heavy_timeout_s), "example": float(settings.invoke_timeout_s),
    }


def test_the_worker_of_an_added_queue_is_among_the_processes():
    settings = read_settings({})
    (process,) = (
        process
        for process in processes(
            settings, flower_password="p", flower_database="f", queues=MORE
        )
        if process.name == "example"
    )
    assert process.argv == (
        "python", "-m", "workers", "worker", "-Q", "example", "-n", "example@%h",
        "--without-gossip", "--without-mingle",
        "--concurrency", str(settings.match_processes),
    )


def test_the_metrics_show_an_added_queue_also_while_nothing_waits_in_it():
    waiting = [QueueDepth(queue=JUDGE, depth=3, oldest_s=1.5)]
    shown = exposed(depths_of_all(waiting, MORE))
    assert 'tallyard_queue_depth{queue="judge"} 3.0' in shown
    assert 'tallyard_queue_depth{queue="example"} 0.0' in shown
    assert 'tallyard_queue_age_seconds{queue="example"} 0.0' in shown


def test_the_metrics_show_no_queue_that_holds_nothing():
    shown = [depth.queue for depth in depths_of_all([], QUEUES)]
    assert shown == [MATCH, HEAVY, JUDGE, SANDBOX]


def test_outcomes_that_are_pending_again_ring_an_added_queue():
    assert queues_of_outcomes(MORE) == (HEAVY, JUDGE, SANDBOX, "example")


def test_each_queue_has_what_runs_it():
    assert set(QUEUE_RUNS) == {queue.name for queue in QUEUES}


def test_upkeep_has_no_worker_of_its_own():
    assert worker_names() == (MATCH, HEAVY, JUDGE, SANDBOX, AUTOMATIONS)
    assert {queue.worker.name for queue in QUEUES if queue.name == UPKEEP} == {HEAVY}


def test_no_two_queues_share_a_name_or_a_task():
    assert len({queue.name for queue in QUEUES}) == len(QUEUES)
    assert len({queue.task for queue in QUEUES}) == len(QUEUES)


def test_what_the_table_calls_a_setting_is_one():
    named = {name for queue in QUEUES for name in (queue.worker.processes, queue.time_limit)}
    assert named - {None} <= set(Settings.model_fields)


def exposed(depths: list[QueueDepth]) -> str:
    class Collector:
        def collect(self):
            return queue_families(depths)

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry).decode()
