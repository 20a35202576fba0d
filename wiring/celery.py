"""Makes the Celery application. Each setting has the reason for its value beside it."""

from __future__ import annotations

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from spans.queues import MATCH, QUEUES, Queue
from wiring.settings import Settings


def make_celery(redis_url: str, queues: tuple[Queue, ...] = QUEUES) -> Celery:
    """A Celery application for this Redis and these queues, not connected yet."""
    # Replaces kombu's own, since a unix socket's URL (`redis+socket`) can name no other one.
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "wiring.transport:RedisTransport"
    app = Celery("tallyard")
    app.conf.update(
        broker_url=_broker_url(redis_url),
        result_backend=None,                 # results are in PostgreSQL
        task_ignore_result=True,
        accept_content=["json"],             # pickle would run code that Redis sends
        task_serializer="json",
        task_queues={queue.name: {} for queue in queues},
        task_routes={queue.task: {"queue": queue.name} for queue in queues},
        task_default_queue=MATCH,
        task_create_missing_queues=False,    # a misspelt -Q is an error, no new queue
        task_acks_late=False,                # a lost ring costs nothing (docs/decisions/0009)
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,     # our own log format
        worker_send_task_events=True,        # Flower needs them
        task_send_sent_event=True,
        worker_max_tasks_per_child=2000,
        worker_max_memory_per_child=400_000,  # KiB
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 3600,      # seconds; leases, not redelivery, decide
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,   # the default takes 100 s to find a dead worker's
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 25,     # finds half-open connections
        },
        beat_schedule={
            f"ring {queue.name}": {
                "task": queue.task, "schedule": queue.ring_s,
                # A ring that no worker took before the next one is not needed any more.
                "options": {"expires": queue.ring_s},
            }
            for queue in queues
        },
        timezone="UTC",
        enable_utc=True,
    )
    return app


def time_limits_s(
    settings: Settings, queues: tuple[Queue, ...] = QUEUES
) -> dict[str, float]:
    """By name, the queues whose processes are killed, and after how many seconds of a task."""
    return {
        queue.name: float(getattr(settings, queue.time_limit))
        for queue in queues
        if queue.time_limit is not None
    }


def task_annotations(
    settings: Settings, queues: tuple[Queue, ...] = QUEUES
) -> dict[str, dict[str, float]]:
    """The time limit of each task that has one, in the form of Celery's setting."""
    limits_s = time_limits_s(settings, queues)
    return {
        queue.task: {"time_limit": limits_s[queue.name]}
        for queue in queues
        if queue.name in limits_s
    }


def _broker_url(redis_url: str) -> str:
    """The URL as kombu writes it: a unix socket has the scheme `redis+socket`."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://")
    return redis_url
